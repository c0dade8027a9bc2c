"""The part of the SDK that agents use: they register, report, claim, and say what becomes of an attempt."""

import uuid
from collections.abc import Iterable
from datetime import UTC, datetime, timedelta
from typing import Any

import attrs
import httpx

from opscore.gateway.calls import Call, Caller, JsonObject, ProblemError, StaleAttempt, read_object
from opscore.gateway.operator_calls import PREFIX, as_json, path_of, report_of, same_json
from opscore.runtime.models import shown_text


@attrs.frozen(kw_only=True)
class Claim:
    """One attempt of one task, handed to the agent that claimed it."""

    task: JsonObject
    """`taskId`, `taskKey`, `name`, `sessionId`, `workflowId`, `parameters`, `input` and the like."""
    attempt: int
    """The fencing token: every report about this attempt carries it."""
    lease_s: float
    """How long its agent may be silent, in seconds: a heartbeat begins that anew."""
    lease_expires_at: str
    timeout_s: float
    """How long the attempt may take, whatever its agent says meanwhile."""
    heartbeat_s: float | None = None
    """How long its agent may be silent once it has sent a heartbeat, in seconds, where its workflow says so."""

    @property
    def task_id(self) -> str:
        """The task's id, unique across all runs."""
        return str(self.task["taskId"])

    @property
    def heartbeat_every_s(self) -> float:
        """How often to send a heartbeat: three in the time for which the agent may be silent."""
        silent_s = self.lease_s if self.heartbeat_s is None else min(self.lease_s, self.heartbeat_s)
        return silent_s / 3


class AgentCalls:
    """What an agent asks of a server, and says to it.

    Args:
        caller: What sends.
    """

    def __init__(self, caller: Caller) -> None:
        self._caller = caller
        self._claims_unanswered: dict[str, str] = {}
        """Their ids, by agent."""
        self._reported_at: dict[str, datetime] = {}
        """When each agent last reported, as of the time of the report."""

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
        """Introduce an agent, or introduce it anew, with what is given now; without an id the server draws one.

        One that starts anew after a crash then reports `initializing`: that gives back at once what it had at hand, of
        which nobody else gets anything before the end of its lease.

        Raises:
            TypeError: the capabilities are one text, which would be taken for its characters.
        """
        if isinstance(capabilities, str):
            raise TypeError(f"capabilities is a collection of names, not the one text {capabilities!r}")
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
        """Report an agent's state, as of now unless a time is given; repetitions carry the same time.

        Of reports as of now each is later than the one before, also where this machine's clock was set back meanwhile:
        what is older than the newest report says nothing to the server.
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
        """Ask for one task, waiting for it up to `wait_s`; None when there was none.

        Args:
            agent_id: The agent that claims, which says by this that it is idle.
            wait_s: How long the server may hold the call.
            claim_id: The same id gets the same attempt until its first heartbeat, so that a claim whose
                answer was lost can be made again. If not given, it is that of the agent's last claim by this client
                where that ended without an answer, cancelled or broken off; else drawn afresh.
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
            # The server may have handed over an attempt, which under another id nobody gets before its lease ends.
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
        """Show life, which renews the attempt's lease; returns when the lease now ends. A `StaleAttempt` if it is over.

        Args:
            task_id: The task.
            attempt: The attempt, as it was claimed.
            progress: How far it is, in JSON of 4 KiB at most, shown with the task while the attempt is out; None
                keeps what was said before.
        """
        said = {} if progress is None else {"progress": progress}
        answer = await self._caller.document(report_of(task_id, "heartbeat", {"attempt": attempt, **said}))
        return str(answer["leaseExpiresAt"])

    async def complete(self, task_id: str, attempt: int, result: Any = None) -> None:
        """Report an attempt's result; a `StaleAttempt` if it is over, and ended otherwise.

        The same result may be reported again, as where the answer was lost: what was accepted once is.
        A result that is too large (`ProblemError`, 422 or 413), or is not JSON (TypeError, ValueError), leaves the
        attempt open, for a smaller one or for `fail`.
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
        """Report that an attempt failed, and whether another may do better; may be reported again as `complete` may.

        Of `error` and `code` is sent what the server keeps, 4,000 characters each.
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
        """Whether an attempt is refused as over because it has ended just so: its report was accepted before."""
        try:
            task = await self.task(task_id)
        except ProblemError:
            # It is not to be seen any more: another agent has it, or it is gone.
            return False
        return task["attempt"] == attempt and all(same_json(task[name], value) for name, value in outcome.items())

    async def task(self, task_id: str) -> JsonObject:
        """Show one task of one run."""
        return await self._caller.document(Call(method="GET", path=path_of("task", task_id)))


def _seconds(given: float | None) -> float | None:
    return None if given is None else float(given)
