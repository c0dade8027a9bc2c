"""The part of the SDK that looks after runs and agents, and what all of its calls are made of."""

import json
import uuid
from typing import Any, Final, Literal
from urllib.parse import quote

import attrs

from opscore.gateway.calls import Call, Caller, JsonObject

PREFIX: Final = "/v1/opscore"
Move = Literal["cancel", "pause", "resume", "retry", "reset", "terminate"]
_AS_OFTEN_AS_ONE_LIKES: Final = frozenset({"cancel", "pause", "resume", "terminate"})


@attrs.frozen(kw_only=True)
class Page:
    """One page of a list; `next_cursor` is None on the last."""

    items: tuple[JsonObject, ...]
    next_cursor: str | None


class OperatorCalls:
    """What whoever operates a server asks of its runs and agents."""

    _caller: Caller

    async def steer(self, session_id: str, move: Move, *, reason: str | None = None) -> JsonObject:
        """Cancel, pause, resume, retry, reset or terminate a run; returns the session as it is then.

        Args:
            session_id: The run.
            move: What to do; what is so already changes nothing. `terminate` ends the run at once, as cancelled, and
                leaves what has not been undone as it is.
            reason: Kept with the session where it is cancelled, terminated or paused.
        """
        body = None if reason is None else as_json({"reason": reason})
        # To reset twice takes what is under way from agents twice, and to retry twice is a conflict.
        repeatable = move in _AS_OFTEN_AS_ONE_LIKES
        return await self._caller.document(
            Call(method="POST", path=path_of("session", session_id, move), body=body, repeatable=repeatable)
        )

    async def signal(
        self, session_id: str, name: str, payload: Any = None, *, signal_id: str | None = None
    ) -> JsonObject:
        """Tell a run something by name; a task of it that waits for that, now or later, takes it.

        Args:
            session_id: The run.
            name: What the run's definition waits for.
            payload: The result of the task that takes it.
            signal_id: Makes repetitions one signal, also across processes; drawn afresh if not given.
        """
        body = as_json({"name": name, "payload": payload, "signalId": signal_id or uuid.uuid4().hex})
        return await self._caller.document(
            Call(method="POST", path=path_of("session", session_id, "signal"), body=body)
        )

    async def history(self, session_id: str, *, limit: int | None = None, cursor: str | None = None) -> JsonObject:
        """Show what happened in a run, the newest first.

        Returns:
            `items`, a page of the run's records; `attempts`, what those tell of each; `nextCursor`, None at the end.
        """
        params = {"limit": None if limit is None else str(limit), "cursor": cursor}
        chosen = {key: value for key, value in params.items() if value is not None}
        return await self._caller.document(
            Call(method="GET", path=path_of("session", session_id, "history"), params=chosen)
        )

    async def dead_letters(
        self,
        *,
        workflow_id: str | None = None,
        code: str | None = None,
        limit: int | None = None,
        cursor: str | None = None,
    ) -> Page:
        """List tasks that failed for good, the newest first, optionally those of one workflow or error code."""
        return await self.page("deadletter", workflowId=workflow_id, code=code, limit=limit, cursor=cursor)

    async def dead_letter(self, task_id: str) -> JsonObject:
        """Show one dead letter."""
        return await self._caller.document(Call(method="GET", path=path_of("deadletter", task_id)))

    async def replay(self, task_id: str) -> JsonObject:
        """Try the run of a dead letter again, from everything in it that failed; returns the session."""
        path = path_of("deadletter", task_id, "replay")
        return await self._caller.document(Call(method="POST", path=path, repeatable=False))

    async def replay_all(
        self, *, workflow_id: str | None = None, code: str | None = None, cursor: str | None = None
    ) -> JsonObject:
        """Try the runs of the next dead letters again; one call looks at a bounded number.

        Args:
            workflow_id: Only those of runs of this workflow.
            code: Only those that failed with this code.
            cursor: The `nextCursor` of the call before.

        Returns:
            `replayed`, the ids of the runs that go on; `refused`, with why; `nextCursor`, None at the end.
        """
        filters = {"workflowId": workflow_id, "code": code, "cursor": cursor}
        body = as_json({key: value for key, value in filters.items() if value is not None})
        path = path_of("deadletter", "replay")
        return await self._caller.document(Call(method="POST", path=path, body=body, repeatable=False))

    async def discard(self, task_id: str, reason: str) -> JsonObject:
        """Have a task be no dead letter any more; returns it. The journal keeps the reason."""
        path = path_of("deadletter", task_id, "discard")
        return await self._caller.document(
            Call(method="POST", path=path, body=as_json({"reason": reason}), repeatable=False)
        )

    async def cordon_agent(self, agent_id: str, *, cordoned: bool = True) -> JsonObject:
        """Take an agent out of dispatch, or put it back; returns the agent."""
        path = path_of("agent", agent_id, "cordon" if cordoned else "uncordon")
        return await self._caller.document(Call(method="POST", path=path))

    async def drain_agent(self, agent_id: str, *, wait_s: float = 0.0) -> JsonObject:
        """Take an agent out of dispatch, and wait up to `wait_s` until it has nothing in hand.

        Returns:
            the agent, with the `lease` that it holds and whether it is `drained`; either way it stays out of dispatch.
        """
        params = {"waitSeconds": f"{wait_s:g}"} if wait_s else {}
        path = path_of("agent", agent_id, "drain")
        return await self._caller.document(Call(method="POST", path=path, params=params, wait_s=wait_s))

    async def page(self, kind: str, **params: str | int | list[str] | None) -> Page:
        """Read a page of a list.

        Args:
            kind: What is listed, as the path names it, such as `session`.
            params: The query, named as on the wire; None is left out, a list is given item by item.
        """
        chosen = {
            key: value if isinstance(value, list) else str(value) for key, value in params.items() if value is not None
        }
        answer = await self._caller.document(Call(method="GET", path=f"{PREFIX}/{kind}", params=chosen))
        return Page(items=tuple(answer["items"]), next_cursor=answer.get("nextCursor"))


def path_of(*parts: str) -> str:
    """The path of what is named by these parts, whatever characters they have."""
    return "/".join((PREFIX, *(quote(part, safe="") for part in parts)))


def as_json(value: Any) -> bytes:
    """The bytes of a body."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are the same as JSON; to Python, true is 1, and a tuple is no list."""
    return _canonical(one) == _canonical(other)


def _canonical(value: Any) -> str:
    # Read back first: a field's name that is no text becomes one, and can be sorted.
    return json.dumps(json.loads(as_json(value)), sort_keys=True)


def report_of(task_id: str, what: str, body: JsonObject) -> Call:
    """The call by which an agent says something of an attempt."""
    path = path_of("task", task_id, what)
    return Call(method="POST", path=path, body=as_json(body), outlasts_full_store=True)
