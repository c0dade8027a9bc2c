"""The SDK: the HTTP contract as coroutines, for trio and asyncio.

A client repeats a call by itself only if `retry_for_s` allows it and repeating can do no harm. The contract
makes nearly every call repeatable: a report by its timestamp, a claim by its id, a trigger by its idempotency
key, a result by its attempt number. Any other call is repeated only if the server cannot have taken it. The
errors are in `calls`.
"""

import hashlib
import hmac
import math
import signal
import time
import uuid
from collections.abc import Callable, Iterable, Mapping
from types import TracebackType
from typing import Any, Final, Self
from urllib.parse import quote

import attrs
import httpx

from opscore.actors.backoff import Backoff
from opscore.gateway.sdk.agent_calls import AgentCalls, Claim
from opscore.gateway.sdk.calls import Call, Caller, ClientError, JsonObject, ProblemError, StaleAttempt, Unreachable
from opscore.gateway.sdk.operator_calls import PREFIX, OperatorCalls, Page, as_json, path_of
from opscore.gateway.sdk.worker import STOP_WITHIN_S, Work, Worker

__all__ = [
    "Claim",
    "ClientError",
    "JsonObject",
    "OpscoreClient",
    "Page",
    "ProblemError",
    "StaleAttempt",
    "Triggered",
    "Unreachable",
    "webhook_headers",
]


SIGNED_S_MAX: Final = 200.0
"""How long one signature is used; servers accept it for 300 s by their own clock, which may differ."""


@attrs.frozen(kw_only=True)
class Triggered:
    """A run that the server has accepted and will not lose."""

    session_id: str
    """The id of the run."""
    workflow_id: str
    """The workflow that it follows."""
    message: str
    """A sentence for people."""


class OpscoreClient(AgentCalls, OperatorCalls):
    """A client of one opscore server: `async with OpscoreClient(url, key) as client`.

    A call that is cancelled, or raises `Unreachable` with `sent`, may have had its effect all the same. What a call
    returns is the server's document, as docs/http-api.md describes it.

    Args:
        base_url: Such as `http://127.0.0.1:8080`.
        api_key: Sent as a bearer token, without space around it.
        timeout_s: How long an answer may take, in seconds; a long poll's wait is added to it.
        retry_for_s: How long a call is repeated while the server is away or says "not now", in seconds from its first
            failure; 0 for not at all. Calls of agents are also repeated while the store is full.
        backoff: The pauses between repetitions.
        on_retry: Called with each failure that will be retried, and the pause before the retry in seconds.
        transport: Another way to reach the server, such as `httpx.ASGITransport`.

    Raises:
        ValueError: The address does not begin with http:// or https://, or the key can't be sent in a header.
        ProblemError: By every call, if the server refuses it; `code` says why.
        Unreachable: By every call, if no answer comes.
    """

    def __init__(
        self,
        base_url: str,
        api_key: str | None = None,
        *,
        timeout_s: float = 10.0,
        retry_for_s: float = 0.0,
        backoff: Backoff = Backoff(initial_s=0.1, max_s=2.0),
        on_retry: Callable[[ClientError, float], None] | None = None,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        super().__init__(
            Caller(
                base_url,
                api_key,
                timeout_s=timeout_s,
                retry_for_s=retry_for_s,
                backoff=backoff,
                on_retry=on_retry,
                transport=transport,
            )
        )

    async def __aenter__(self) -> Self:
        """Return the client; nothing is opened before the first call."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        traceback: TracebackType | None,
    ) -> None:
        """Close the connection pool."""
        await self.aclose()

    async def aclose(self) -> None:
        """Close the connection pool, if the client is used without `async with`."""
        await self._caller.aclose()

    async def work(
        self,
        agent_id: str,
        work: Work,
        *,
        capabilities: Iterable[str],
        name: str | None = None,
        version: str | None = None,
        metadata: JsonObject | None = None,
        stop_on: Iterable[signal.Signals] = (),
        stop_within_s: float = STOP_WITHIN_S,
    ) -> None:
        """Run an agent until it is stopped: register it, and claim one task after the other for a function to do.

        The function takes an `opscore.Assignment` and returns the result (JSON), like that of a local agent. It fails
        its attempt by raising `opscore.TaskFailed`, or any other exception. Heartbeats are sent while it works, and
        `opscore.current_task()` reports progress. When the attempt is over, because it timed out or its run was
        cancelled, the function is cancelled. An unfinished attempt is given back when the agent stops.

        Give the client `retry_for_s=math.inf`, so that the agent survives a restart of the server. Several agents can
        run in one task group, each with an id of its own, which it keeps across restarts.

        Args:
            agent_id: The agent.
            work: The function.
            capabilities: What the agent can do.
            name, version, metadata: As for `register_agent`.
            stop_on: Signals, such as SIGTERM and SIGINT. At the first one the agent stops claiming and finishes its
                attempt; at the second it stops at once. Works only in the program's main thread.
            stop_within_s: How long the attempt may continue after the first signal, in seconds.

        Raises:
            ClientError: The server refuses the agent, or was away for longer than `retry_for_s`.
            TypeError: As for `register_agent`.
        """

        async def introduce() -> None:
            await self.register_agent(
                agent_id, name=name, version=version, capabilities=capabilities, metadata=metadata
            )

        await Worker(self, agent_id, work, introduce).run_until(tuple(stop_on), stop_within_s)

    async def health(self) -> JsonObject:
        """Check that the server's process is alive; returns its answer. It needs no key."""
        return await self._caller.document(Call(method="GET", path="/health"))

    async def ready(self) -> JsonObject:
        """Check that the server accepts work; returns its answer. It needs no key.

        Raises:
            ProblemError: It accepts none at the moment (503); `detail` says why.
        """
        return await self._caller.document(Call(method="GET", path="/ready"))

    async def notify(self, event_type: str, agent_details: JsonObject, *, secret: str | None = None) -> JsonObject:
        """Send AgentKit's webhook, signed if a secret is given; returns the server's answer.

        Args:
            event_type: `REGISTER` or `DEREGISTER`.
            agent_details: The agent, as AgentKit describes it: `agentId`, `agentName`, `capabilities` and so on.
            secret: The server's `webhook_secret`.
        """
        body = as_json({"event_type": event_type, "agent_details": agent_details})
        headers: Callable[[], dict[str, str]] = _Signature(secret, body) if secret else dict
        path = f"{PREFIX}/internal/agent/notify"
        return await self._caller.document(Call(method="POST", path=path, body=body, headers=headers))

    async def deregister_agent(self, agent_id: str) -> None:
        """Deregister an agent. An attempt that it has is given to another, which spends no retry.

        Args:
            agent_id: The agent.
        """
        await self._caller.answer(Call(method="DELETE", path=path_of("agent", agent_id)))
        self._forget_agent(agent_id)

    async def agents(
        self,
        *,
        state: str | None = None,
        capability: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page:
        """Return a page of agents, by id.

        Args:
            state, capability: Only agents with this state, in lower case, or with this capability.
            limit, cursor: As for `page`.
        """
        return await self.page("agent", state=state, capability=capability, limit=limit, cursor=cursor)

    async def agent(self, agent_id: str) -> JsonObject:
        """Return one agent.

        Args:
            agent_id: The agent.
        """
        return await self._caller.document(Call(method="GET", path=path_of("agent", agent_id)))

    async def agent_state(self, agent_id: str) -> JsonObject:
        """Return the newest accepted report of an agent: `state`, `details` and `timestamp`.

        Args:
            agent_id: The agent.
        """
        return await self._caller.document(Call(method="GET", path=path_of("agent", agent_id, "state")))

    async def trigger(
        self,
        agent_id: str | None,
        workflow: str | JsonObject,
        payload: Any = None,
        *,
        idempotency_key: str | None = None,
        labels: Mapping[str, str] | None = None,
        business_key: str | None = None,
    ) -> Triggered:
        """Start a run of a workflow.

        Args:
            agent_id: The agent that tasks without a capability go to; None to route by capability alone.
            workflow: The id of a saved definition, or a definition, which is saved first if no agent is named.
            payload: The input of the run's tasks.
            idempotency_key: Triggers with the same key start one run, also across processes; random if not given.
            labels: Labels to find the run by, in addition to those of its definition.
            business_key: The run's name in the caller's business, such as an order number.

        Returns:
            the run, which the server does not lose from now on.

        Raises:
            ValueError: A header can't carry the key's characters, or there is space around it.
        """
        key = idempotency_key or uuid.uuid4().hex
        if not (key.isascii() and key.isprintable() and key == key.strip()):
            raise ValueError(
                f"an idempotency key must consist of printable ASCII characters, without space around it, not {key!r}"
            )
        given = {"initialPayload": payload, "labels": labels, "businessKey": business_key}
        body: JsonObject = {key: value for key, value in given.items() if value is not None}
        if agent_id is not None:
            chosen = (
                {"workflowDefinitionId": workflow} if isinstance(workflow, str) else {"workflowDefinition": workflow}
            )
            body = {**chosen, **body}
            path = path_of("agent", agent_id, "workflow")
        elif isinstance(workflow, str):
            path = path_of("workflow", workflow, "trigger")
        else:
            await self.save_workflow(workflow)
            path = path_of("workflow", str(workflow["id"]), "trigger")
        headers = {"Idempotency-Key": key}
        answer = await self._caller.document(Call(method="POST", path=path, body=as_json(body), headers=headers))
        return Triggered(
            session_id=answer["sessionId"],
            workflow_id=answer["workflowId"],
            message=answer.get("message", ""),
        )

    async def save_workflow(self, definition: JsonObject) -> JsonObject:
        """Save a workflow definition; saving the same content again changes nothing. Returns its id and revision.

        Args:
            definition: The document, as docs/workflow-definition.md describes it.

        Raises:
            ProblemError: It has faults (422); `errors` lists them all.
        """
        return await self._caller.document(Call(method="POST", path=f"{PREFIX}/workflow", body=as_json(definition)))

    async def delete_workflow(self, workflow_id: str) -> None:
        """Delete a saved workflow definition; runs of it continue, and keep it.

        Args:
            workflow_id: The workflow.

        Raises:
            ProblemError: Nothing is saved under this id (404), or a schedule starts the workflow (409).
        """
        await self._caller.answer(Call(method="DELETE", path=path_of("workflow", workflow_id)))

    async def sessions(
        self,
        *,
        limit: int | None = None,
        cursor: str | None = None,
        labels: Mapping[str, str] | None = None,
        **filters: str,
    ) -> Page:
        """Return a page of runs, the newest first, without their tasks.

        Args:
            limit, cursor: As for `page`.
            labels: Only runs that have all of these labels.
            filters: Named as in the HTTP interface: `status="running"`, `workflowId`, `agentId`, `businessKey`. The
                server ignores any other.
        """
        label = [f"{name}:{value}" for name, value in (labels or {}).items()]
        return await self.page("session", limit=limit, cursor=cursor, label=label, **filters)

    async def session(self, session_id: str, *, wait_s: float = 0.0, tasks: bool = True) -> JsonObject:
        """Return one run, once it has ended or `wait_s` is over.

        Args:
            session_id: The run.
            wait_s: How long the server waits for the run to end, in seconds; 60 at most.
            tasks: Whether to return its tasks with it, and a result of more than 256 KiB, which is in them.

        Raises:
            ProblemError: There is no such run (404), or its tasks have over 64 MiB (422): read it without them, and
                them by `session_tasks`.
        """
        params = {"waitSeconds": f"{wait_s:g}"} if wait_s else {}
        if not tasks:
            params["tasks"] = "none"
        return await self._caller.document(
            Call(method="GET", path=path_of("session", session_id), params=params, wait_s=wait_s)
        )

    async def session_tasks(self, session_id: str, *, limit: int | None = None, cursor: str | None = None) -> Page:
        """Return a page of the tasks of a run, in the order of its definition; the items of a list follow their task.

        Args:
            session_id: The run.
            limit: The most tasks to return, from 1 to 500; 100 if it is not given.
            cursor: `next_cursor` of the page before.

        Raises:
            ProblemError: There is no such run (404), or the cursor is not of a page of its tasks (422).
        """
        return await self.page(f"session/{quote(session_id, safe='')}/tasks", limit=limit, cursor=cursor)


class _Signature:
    """A webhook's signature: repetitions carry the same one, by which the server knows them, until it is too old."""

    def __init__(self, secret: str, body: bytes) -> None:
        self._secret, self._body = secret, body
        self._at = -math.inf
        self._headers: dict[str, str] = {}

    def __call__(self) -> dict[str, str]:
        now = time.time()
        if not abs(now - self._at) <= SIGNED_S_MAX:
            self._at, self._headers = now, webhook_headers(self._secret, self._body, at=now)
        return self._headers


def webhook_headers(secret: str, body: bytes, *, at: float | None = None) -> dict[str, str]:
    """Sign a webhook's body; returns the headers to send with it. Servers accept them for 300 s.

    Args:
        secret: The server's `webhook_secret`.
        body: The body, as it is sent. The signature is the hex HMAC-SHA256 over `timestamp + "." + body`.
        at: The time of the signature, in Unix seconds; now if not given.
    """
    timestamp = str(int(time.time() if at is None else at))
    signature = hmac.new(secret.encode(), timestamp.encode() + b"." + body, hashlib.sha256).hexdigest()
    return {"X-AgentKit-Timestamp": timestamp, "X-AgentKit-Signature": signature}
