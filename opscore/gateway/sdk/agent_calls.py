"""The part of the SDK that agents use: to register, report, claim, and report an attempt's progress and outcome."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import httpx

from opscore.gateway.sdk.calls import Call, Caller, JsonObject, ProblemError, StaleAttempt, read_object
from opscore.gateway.sdk.operator_calls import PREFIX, as_json, path_of, report_of, same_json
from opscore.runtime.models import shown_text


@attrs.frozen(kw_only=True)
class Claim:
    """One attempt of one task, handed to the agent that claimed it."""

    task: JsonObject
    """`taskId`, `taskKey`, `name`, `sessionId`, `workflowId`, `parameters`, `input` and the like."""
    attempt: int
    """The fencing token: every report about this attempt carries it."""
    lease_s: float
    """How long its agent may be silent, in seconds; each heartbeat starts this time anew."""
    lease_expires_at: str
    """When the lease ends if its agent stays silent, by the server's clock, in ISO 8601."""
    timeout_s: float
    """How long the attempt may take, in seconds, heartbeats or not."""
    heartbeat_s: float | None = None
    """How long its agent may be silent once it has sent a heartbeat, in seconds; None if its workflow sets no limit."""

    @property
    def task_id(self) -> str:
        """The task's id, unique across all runs."""
        return str(self.task["taskId"])

    @property
    def heartbeat_every_s(self) -> float:
        """The interval between heartbeats, in seconds: a third of the time for which the agent may be silent."""
        silent_s = self.lease_s if self.heartbeat_s is None else min(self.lease_s, self.heartbeat_s)
        return silent_s / 3


class AgentCalls:
    """The calls that an agent makes.

    Args:
        caller: Sends the requests.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._claims_unanswered: dict[str, str] = {}
        """The claim ids, by agent."""
        self._reported_at: dict[str, datetime] = {}
        """The timestamp of each agent's last report."""

    async def register_agent(
        self,
        agent_id: str | None = None,
        *,
        name: str | None = None,
        version: str | None = None,
        capabilities: Iterable[str] = (),
        contact_endpoint: str | None = None,
        metadata: JsonObject | None = None,
    ) -> JsonObject:
        """Register an agent, or replace its registration with this one; without an id the server draws one.

        An agent that starts again after a crash reports `initializing` next. That gives back its attempt at once, which
        no other agent would get before the lease ends.

        Args:
            agent_id: Its id, 128 bytes at most; the call can't be repeated if it is not given.
            name: Its name for people; the id if not given.
            version: Its version, any text.
            capabilities: The names of what it can do.
            contact_endpoint: The URL to which its attempts are pushed; without one it claims.
            metadata: Any JSON object.

        Returns:
            the agent as the server has it.

        Raises:
            TypeError: `capabilities` is a string, whose characters would be taken for names.
        """
        if isinstance(capabilities, str):
            raise TypeError(f"capabilities must be a collection of names, not the string {capabilities!r}")
        document = {
            "agentId": agent_id,
            "agentName": name,
            "version": version,
            "capabilities": list(capabilities),
            "contactEndpoint": contact_endpoint,
            "metadata": metadata,
        }
        body = as_json({key: value for key, value in document.items() if value is not None})
        # Without an id, a repetition would be a second agent.
        return await self._caller.document(
            Call(
                method="POST",
                path=f"{PREFIX}/agent",
                body=body,
                repeatable=agent_id is not None,
                outlasts_full_store=True,
            )
        )

    async def report_state(
        self,
        agent_id: str,
        state: str,
        details: JsonObject | None = None,
        *,
        timestamp: datetime | None = None,
    ) -> None:
        """Report an agent's state, with the current time unless one is given; repetitions carry the same time.

        The server ignores a report that is older than the newest. So the times that this method chooses always
        increase, even if this machine's clock was set back.

        Args:
            agent_id: The agent.
            state: Its state, such as `idle`, 1 to 64 characters in any case. Only an agent that is idle is given work.
            details: Any JSON object; if the report ends an attempt, `result` in it is the attempt's result.
            timestamp: The agent's own time, with its zone.
        """
        moment = (timestamp or self._later_than_before(agent_id)).isoformat()
        report: JsonObject = {"agentId": agent_id, "timestamp": moment, "state": state}
        if details is not None:
            report = {**report, "details": details}
        path = path_of("agent", agent_id, "state")
        await self._caller.answer(Call(method="POST", path=path, body=as_json(report), outlasts_full_store=True))

    def _later_than_before(self, agent_id: str) -> datetime:
        now, before = datetime.now(UTC), self._reported_at.get(agent_id)
        moment = now if before is None else max(now, before + timedelta(microseconds=1))
        self._reported_at[agent_id] = moment
        return moment

    def _forget_agent(self, agent_id: str) -> None:
        """Remember nothing more of an agent, which is off the register: there may be ever others."""
        self._reported_at.pop(agent_id, None)
        self._claims_unanswered.pop(agent_id, None)

    async def claim(self, agent_id: str, *, wait_s: float = 0.0, claim_id: str | None = None) -> Claim | None:
        """Ask for one task, waiting for it up to `wait_s`; returns None if there was none.

        If the call is cancelled, an attempt that the server may have handed over goes to this agent's next claim.

        Args:
            agent_id: The agent that claims. Claiming also says that it is idle.
            wait_s: How long the server may hold the call, in seconds; 60 at most.
            claim_id: The same id gets the same attempt until its first heartbeat, so that a claim whose answer was
                lost can be repeated. If not given: the id of the agent's last claim by this client, if that ended
                without an answer, because it was cancelled or the connection broke; else a random one.
        """
        named = claim_id or self._claims_unanswered.pop(agent_id, None) or uuid.uuid4().hex
        call = Call(
            method="POST",
            path=path_of("agent", agent_id, "claim"),
            body=as_json({"claimId": named}),
            params={"waitSeconds": f"{wait_s:g}"},
            wait_s=wait_s,
            outlasts_full_store=True,
        )
        try:
            response = await self._caller.answer(call)
        except BaseException:
            # The server may have handed over an attempt. Under another id nobody would get it before its lease ends.
            if not claim_id:
                self._claims_unanswered[agent_id] = named
            raise
        if response.status_code == httpx.codes.NO_CONTENT:
            return None
        answer = read_object(response)
        return Claim(
            task=answer["task"],
            attempt=answer["attempt"],
            lease_s=float(answer["leaseSeconds"]),
            lease_expires_at=answer["leaseExpiresAt"],
            timeout_s=float(answer["timeoutSeconds"]),
            heartbeat_s=_seconds(answer.get("heartbeatSeconds")),
        )

    async def heartbeat(self, task_id: str, attempt: int, progress: Any = None) -> str:
        """Send a heartbeat, which renews the attempt's lease; returns when the lease now ends.

        Args:
            task_id: The task.
            attempt: The attempt's number, from the claim.
            progress: The progress, in JSON of at most 4 KiB, shown with the task while the attempt is open; None keeps
                the earlier one.

        Raises:
            StaleAttempt: The attempt is over.
        """
        said = {} if progress is None else {"progress": progress}
        answer = await self._caller.document(report_of(task_id, "heartbeat", {"attempt": attempt, **said}))
        return str(answer["leaseExpiresAt"])

    async def complete(self, task_id: str, attempt: int, result: Any = None) -> None:
        """Report an attempt's result.

        The same result may be reported again, for example because the answer was lost: if it was accepted before, the
        call succeeds. After a result that is too large or is not JSON the attempt is still open, for another result or
        for `fail`.

        Args:
            task_id: The task.
            attempt: The attempt's number, from the claim.
            result: The result, in JSON of 256 KiB at most.

        Raises:
            StaleAttempt: The attempt is over, and did not end with this result.
            ProblemError: The result is too large (422 or 413).
            TypeError, ValueError: The result is not JSON.
        """
        try:
            await self._caller.answer(report_of(task_id, "complete", {"attempt": attempt, "result": result}))
        except StaleAttempt:
            if not await self._ended_so(task_id, attempt, {"status": "completed", "result": result}):
                raise

    async def fail(
        self,
        task_id: str,
        attempt: int,
        error: str,
        *,
        code: str | None = None,
        retryable: bool | None = None,
    ) -> None:
        """Report that an attempt failed, and whether another one may do better; repeatable like `complete`.

        Args:
            task_id: The task.
            attempt: The attempt's number, from the claim.
            error: What went wrong, for people; only its first 4,000 characters are kept, as of the code.
            code: A name for programs, which `nonRetryable` and the dead letters go by; `task_failed` if not given.
            retryable: Whether the task may be tried again; true if not given.

        Raises:
            StaleAttempt: The attempt is over, and did not end with this failure.
        """
        error, code = shown_text(error), None if code is None else shown_text(code)
        report = {"attempt": attempt, "error": error, "code": code, "retryable": retryable}
        try:
            await self._caller.answer(
                report_of(task_id, "fail", {key: value for key, value in report.items() if value is not None})
            )
        except StaleAttempt:
            failure = {"message": error, "code": "task_failed" if code is None else code}
            if not await self._ended_so(task_id, attempt, {"error": failure}):
                raise

    async def _ended_so(self, task_id: str, attempt: int, outcome: JsonObject) -> bool:
        """Whether a refused attempt has already ended with this outcome, because its report was accepted before."""
        try:
            task = await self.task(task_id)
        except ProblemError:
            # The task can't be seen any more: another agent has it, or it is gone.
            return False
        return task["attempt"] == attempt and all(same_json(task[name], value) for name, value in outcome.items())

    async def task(self, task_id: str) -> JsonObject:
        """Return one task of one run, with the progress of its open attempt.

        Args:
            task_id: The task.
        """
        return await self._caller.document(Call(method="GET", path=path_of("task", task_id)))


def _seconds(given: float | None) -> float | None:
    return None if given is None else float(given)
