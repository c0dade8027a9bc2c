"""The part of the SDK that operates runs, agents and schedules, and the building blocks of all its calls."""

import json
import uuid
from datetime import datetime
from typing import Any, Final, Literal
from urllib.parse import quote

import attrs

from opscore.gateway.sdk.calls import Call, Caller, JsonObject

PREFIX: Final = "/v1/opscore"
Move = Literal["cancel", "pause", "resume", "retry", "reset", "terminate"]
_AS_OFTEN_AS_ONE_LIKES: Final = frozenset({"cancel", "pause", "resume", "terminate"})


@attrs.frozen(kw_only=True)
class Page:
    """One page of a list."""

    items: tuple[JsonObject, ...]
    """The documents on it. A page may have fewer than were asked for, or none, without being the last."""
    next_cursor: str | None
    """What the call for the next page takes as `cursor`; None on the last page."""


class OperatorCalls:
    """The calls that an operator makes about runs, agents and schedules."""

    _caller: Caller

    async def steer(self, session_id: str, move: Move, *, reason: str | None = None) -> JsonObject:
        """Cancel, pause, resume, retry, reset or terminate a run; returns the session as it is afterwards.

        Args:
            session_id: The run.
            move: What to do; a move to where the run already is changes nothing. `terminate` ends the run at once, as
                cancelled, without the compensations that are still to be done.
            reason: Kept with the session if the move is to cancel, terminate or pause.

        Raises:
            ProblemError: The run can't be moved so from where it is (409 `session_conflict`).
        """
        body = None if reason is None else as_json({"reason": reason})
        # A second reset takes open attempts from agents once more, and a second retry is a conflict.
        repeatable = move in _AS_OFTEN_AS_ONE_LIKES
        return await self._caller.document(
            Call(method="POST", path=path_of("session", session_id, move), body=body, repeatable=repeatable)
        )

    async def signal(
        self, session_id: str, name: str, payload: Any = None, *, signal_id: str | None = None
    ) -> JsonObject:
        """Send a run a signal; a task that waits for it, now or later, takes it.

        Args:
            session_id: The run.
            name: The signal's name in the run's definition.
            payload: The result of the task that takes it.
            signal_id: Calls with the same id are one signal, also across processes; random if not given.

        Returns:
            the signal, without its payload.
        """
        body = as_json({"name": name, "payload": payload, "signalId": signal_id or uuid.uuid4().hex})
        return await self._caller.document(
            Call(method="POST", path=path_of("session", session_id, "signal"), body=body)
        )

    async def history(self, session_id: str, *, limit: int | None = None, cursor: str | None = None) -> JsonObject:
        """Show what happened in a run, the newest first.

        Args:
            session_id: The run.
            limit, cursor: As for `page`; records are counted.

        Returns:
            `items`, a page of the run's records; `attempts`, each attempt as these records show it; `nextCursor`, None
            on the last page.
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
        """Return a page of dead letters, tasks that failed for good, the newest first.

        Args:
            workflow_id: Only those of runs of this workflow.
            code: Only those that failed with this code.
            limit, cursor: As for `page`.
        """
        return await self.page("deadletter", workflowId=workflow_id, code=code, limit=limit, cursor=cursor)

    async def dead_letter(self, task_id: str) -> JsonObject:
        """Return one dead letter: the task, with what its run is found by.

        Args:
            task_id: The task.
        """
        return await self._caller.document(Call(method="GET", path=path_of("deadletter", task_id)))

    async def replay(self, task_id: str) -> JsonObject:
        """Retry the run of a dead letter, from everything in it that failed; returns the session.

        Args:
            task_id: The task that is a dead letter.

        Raises:
            ProblemError: The task is none (404 `dead_letter_not_found`), or its run can't be retried (409).
        """
        path = path_of("deadletter", task_id, "replay")
        return await self._caller.document(Call(method="POST", path=path, repeatable=False))

    async def replay_all(
        self, *, workflow_id: str | None = None, code: str | None = None, cursor: str | None = None
    ) -> JsonObject:
        """Retry the runs of the next dead letters; each call looks at a bounded number.

        Args:
            workflow_id: Only those of runs of this workflow.
            code: Only those that failed with this code.
            cursor: The `nextCursor` of the previous call.

        Returns:
            `replayed`, the ids of the runs that continue; `refused`, with the reasons; `nextCursor`, None at the end.
        """
        filters = {"workflowId": workflow_id, "code": code, "cursor": cursor}
        body = as_json({key: value for key, value in filters.items() if value is not None})
        path = path_of("deadletter", "replay")
        return await self._caller.document(Call(method="POST", path=path, body=body, repeatable=False))

    async def discard(self, task_id: str, reason: str) -> JsonObject:
        """Discard a dead letter; returns the task. The journal keeps the reason.

        Args:
            task_id: The task that is a dead letter.
            reason: Why nobody has to look at it, in 1 to 1,000 characters that are not all blank.
        """
        path = path_of("deadletter", task_id, "discard")
        return await self._caller.document(
            Call(method="POST", path=path, body=as_json({"reason": reason}), repeatable=False)
        )

    async def cordon_agent(self, agent_id: str, *, cordoned: bool = True) -> JsonObject:
        """Take an agent out of dispatch, or put it back; returns the agent.

        Args:
            agent_id: The agent.
            cordoned: False to put it back.
        """
        path = path_of("agent", agent_id, "cordon" if cordoned else "uncordon")
        return await self._caller.document(Call(method="POST", path=path))

    async def drain_agent(self, agent_id: str, *, wait_s: float = 0.0) -> JsonObject:
        """Take an agent out of dispatch, and wait up to `wait_s` until it holds no attempt.

        Args:
            agent_id: The agent.
            wait_s: How long the server waits at most, in seconds; 60 at most.

        Returns:
            the agent, with the `lease` that it holds and whether it is `drained`; in both cases it stays out of
            dispatch.
        """
        params = {"waitSeconds": f"{wait_s:g}"} if wait_s else {}
        path = path_of("agent", agent_id, "drain")
        return await self._caller.document(Call(method="POST", path=path, params=params, wait_s=wait_s))

    async def create_schedule(
        self,
        workflow_id: str,
        *,
        cron: str | None = None,
        at: datetime | None = None,
        time_zone: str | None = None,
        missed: str | None = None,
        payload: Any = None,
        agent_id: str | None = None,
        schedule_id: str | None = None,
    ) -> JsonObject:
        """Create a schedule that starts runs of a saved workflow: by a `cron` expression, or once `at` a time.

        Args:
            workflow_id: The workflow, which must be saved.
            cron: The times of a repeated schedule, in five fields, or six with the second first.
            at: The time of a single run; without `tzinfo` it is meant by the clock of `time_zone`.
            time_zone: The IANA name of the zone of `cron` and `at`; UTC if not given.
            missed: What becomes of due times that were missed: `skip`, `once` (if not given) or `all`.
            payload: The input of every run.
            agent_id: The agent of every run.
            schedule_id: Calls with the same id create one schedule, also across processes; random if not given.

        Returns:
            the schedule, with its next due times.
        """
        document = {
            "scheduleId": schedule_id or f"sch_{uuid.uuid4().hex}",
            "workflowDefinitionId": workflow_id,
            "cron": cron,
            "at": None if at is None else at.isoformat(),
            "timeZone": time_zone,
            "missed": missed,
            "payload": payload,
            "agentId": agent_id,
        }
        body = as_json({key: value for key, value in document.items() if value is not None})
        return await self._caller.document(Call(method="POST", path=path_of("schedule"), body=body))

    async def schedules(self, *, limit: int | None = None, cursor: str | None = None, **filters: str) -> Page:
        """Return a page of schedules, by id.

        Args:
            limit, cursor: As for `page`.
            filters: Named as in the HTTP interface: `workflowId="orders"`. The server ignores any other.
        """
        return await self.page("schedule", limit=limit, cursor=cursor, **filters)

    async def schedule(self, schedule_id: str) -> JsonObject:
        """Return one schedule, with its next due times.

        Args:
            schedule_id: The schedule.
        """
        return await self._caller.document(Call(method="GET", path=path_of("schedule", schedule_id)))

    async def pause_schedule(self, schedule_id: str, *, paused: bool = True) -> JsonObject:
        """Pause a schedule, so that it starts no runs, or resume it; returns it.

        Args:
            schedule_id: The schedule.
            paused: False to resume it.
        """
        path = path_of("schedule", schedule_id, "pause" if paused else "resume")
        return await self._caller.document(Call(method="POST", path=path))

    async def delete_schedule(self, schedule_id: str) -> None:
        """Delete a schedule; runs that it has started continue.

        Args:
            schedule_id: The schedule.
        """
        await self._caller.answer(Call(method="DELETE", path=path_of("schedule", schedule_id)))

    async def page(self, kind: str, **params: str | int | list[str] | None) -> Page:
        """Read a page of a list.

        Args:
            kind: What to list, by its name in the path, such as `session`.
            params: The query, by its names on the wire; None is left out, a list becomes repeated parameters. Every
                list knows `limit`, the most items from 1 to 500 (100), and `cursor`, that of the page before.

        Returns:
            the page.
        """
        chosen = {
            key: value if isinstance(value, list) else str(value) for key, value in params.items() if value is not None
        }
        answer = await self._caller.document(Call(method="GET", path=f"{PREFIX}/{kind}", params=chosen))
        return Page(items=tuple(answer["items"]), next_cursor=answer.get("nextCursor"))


def path_of(*parts: str) -> str:
    """The path made of these parts, with special characters quoted."""
    return "/".join((PREFIX, *(quote(part, safe="") for part in parts)))


def as_json(value: Any) -> bytes:
    """Encode a body as JSON."""
    return json.dumps(value, separators=(",", ":"), allow_nan=False).encode()


def same_json(one: Any, other: Any) -> bool:
    """Whether two values are equal as JSON. In Python `True == 1`, and a tuple is unequal to a list."""
    return _canonical(one) == _canonical(other)


def _canonical(value: Any) -> str:
    # Reading it back turns every object name into a string, so that the names can be sorted.
    return json.dumps(json.loads(as_json(value)), sort_keys=True)


def report_of(task_id: str, what: str, body: JsonObject) -> Call:
    """The call by which an agent reports on an attempt: `what` is heartbeat, complete or fail."""
    path = path_of("task", task_id, what)
    attempt = (task_id, body["attempt"])
    return Call(method="POST", path=path, body=as_json(body), attempt=attempt, outlasts_full_store=True)
