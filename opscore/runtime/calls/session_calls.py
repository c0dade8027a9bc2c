"""Calls on a node about runs of workflows."""

import functools
from collections.abc import Callable, Mapping
from typing import Any

import trio

from opscore.runtime import views
from opscore.runtime.calls.calls import chosen
from opscore.runtime.calls.definition_calls import DefinitionCalls
from opscore.runtime.core import RACES_MAX
from opscore.runtime.definitions.labels import business_key_faults, label_faults
from opscore.runtime.errors import (
    InvalidDocument,
    LimitExceeded,
    NotReady,
    SessionNotFound,
    Superseded,
)
from opscore.runtime.evolving import evolve
from opscore.runtime.journal.following import JournalEntry
from opscore.runtime.journal.tables import SESSIONS
from opscore.runtime.limits import Limits
from opscore.runtime.messages.to_session import SendSignal, Steer
from opscore.runtime.models import SESSION_ENDED, Move, Session, Signal
from opscore.runtime.runs import history, triggering
from opscore.runtime.runs.triggering import IdempotencyKey, Trigger
from opscore.runtime.store import Snapshot
from opscore.runtime.values import check_is_text, check_texts, copied, own
from opscore.runtime.views import Page, SessionView, TaskView


class SessionCalls(DefinitionCalls):
    """Calls about triggers and sessions."""

    async def trigger(
        self,
        definition: str | Mapping[str, Any],
        *,
        payload: Any = None,
        agent_id: str | None = None,
        idempotency: IdempotencyKey | None = None,
        labels: Mapping[str, str] | None = None,
        business_key: str | None = None,
    ) -> Session:
        """Start a run. Once this returns, the run exists and no crash can lose it.

        If the call is cancelled, the run may start all the same. With an idempotency key the call can be repeated.

        Args:
            definition: the id of a saved workflow, or a workflow document. If nothing is saved under the document's id
                yet, it is saved as well.
            payload: the run's input; JSON values, `value_bytes_max` (256 KiB) at most.
            agent_id: the session's agent: it runs the tasks that name neither capability nor agent, and is preferred
                for tasks whose capability it has.
            idempotency: the same key with the same body returns the session that it started before. If the key has
                no body, the other arguments are the body.
            labels: names and values by which the run is found; they override those of the definition.
            business_key: the caller's own name for the run; several runs may have the same.

        Returns:
            the run as it began, or as it is now if its idempotency key has started it before.

        Raises:
            AgentNotFound, DefinitionNotFound: there is no such agent, or nothing is saved under the id.
            InvalidDocument: the document, the payload (by the workflow's `inputSchema`), a label or the business key
                has faults; or a task names neither capability nor agent, and `agent_id` is not given.
            IdempotencyConflict: the key was used with another body.
            LimitExceeded: the payload is too large or nests too deeply.
            NotReady, QueueFull, StoreFull: no new run is accepted at present; try the same call again later.
            ValueError, TypeError: the payload is not JSON, or an argument has the wrong type.
        """
        _check_kinds(definition, idempotency)
        _check_finds(labels, business_key)
        if idempotency is None:
            self._admit()
        limits = self._core.limits
        request = Trigger(
            definition=definition,
            payload=copied(payload, limits),
            agent_id=agent_id,
            idempotency=idempotency,
            labels=copied(dict(labels or {}), limits),
            business_key=copied(business_key, limits),
        )
        _check_found_by(request, limits)
        for _ in range(RACES_MAX):
            prepared = self._prepare(request)
            if isinstance(prepared, Session):
                # A trigger that was accepted once is answered again, even while no new run is accepted.
                return prepared
            self._admit()
            try:
                return own(await self._core.start(prepared))
            except Superseded:
                continue
        raise NotReady("its idempotency key is being used by too many at once", retry_after_s=1.0)

    def _prepare(self, request: Trigger) -> triggering.Prepared | Session:
        core = self._core
        return self._read(
            lambda view: triggering.prepare(
                view, request, core.library, core.limits, core.clock.now(), core.clock.random
            )
        )

    def session(self, session_id: str, *, tasks_bytes_max: int | None = None) -> SessionView:
        """Return a session with its tasks.

        Args:
            session_id: the run.
            tasks_bytes_max: how many bytes its tasks may have as they are stored. With 0 they are left out, and so is
                a result that is too large for the session's row, because it is in them; `session_tasks` has both.

        Raises:
            SessionNotFound: there is none.
            LimitExceeded: its tasks have more bytes.
        """
        library = self._core.library
        found = self._read(lambda view: views.session_view(view, session_id, library, tasks_bytes_max=tasks_bytes_max))
        if found is None:
            raise SessionNotFound(session_id)
        return found

    def session_tasks(self, session_id: str, *, limit: int = 100, cursor: str | None = None) -> Page[TaskView]:
        """List the tasks of a session in the order of its definition; the items of a list follow their task.

        Args:
            session_id: the run.
            limit: the most tasks to return, from 1 to 500. A page may have fewer without being the last.
            cursor: `next_cursor` of the page before.

        Raises:
            SessionNotFound: there is none.
            InvalidDocument: the cursor is invalid, or the limit is not from 1 to 500.
        """
        found = self._read(lambda view: views.session_tasks(view, session_id, limit=limit, cursor=cursor))
        if found is None:
            raise SessionNotFound(session_id)
        return found

    def history(self, session_id: str, *, limit: int = 100, cursor: str | None = None) -> Page[JournalEntry]:
        """Return a page of the journal's records of a run, newest first; `history.attempts_of` groups them by attempt.

        Args:
            session_id: the run.
            limit: the most records to return, from 1 to 500. A page may have fewer, or none, without being the last.
            cursor: `next_cursor` of the page before.

        Raises:
            SessionNotFound: there is none.
            InvalidDocument: the cursor is invalid, or the limit is not from 1 to 500.
        """
        found = self._read(lambda view: history.history(view, session_id, limit=limit, cursor=cursor))
        if found is None:
            raise SessionNotFound(session_id)
        return found

    def sessions(
        self,
        *,
        limit: int = 100,
        cursor: str | None = None,
        status: str | None = None,
        workflow_id: str | None = None,
        agent_id: str | None = None,
        labels: Mapping[str, str] | None = None,
        business_key: str | None = None,
    ) -> Page[Session]:
        """Return a page of sessions, newest first. A result that is too large for its row is only in `session`.

        Args:
            limit: the most sessions to return, from 1 to 500. A page may have fewer, or none, without being the last.
            cursor: `next_cursor` of the page before.
            status: only sessions with this status.
            workflow_id: only sessions of this workflow.
            agent_id: only sessions with this agent.
            labels: only sessions that have all of these labels.
            business_key: only sessions with this business key.

        Raises:
            InvalidDocument: there is no such status, the cursor is invalid, or the limit is not from 1 to 500.
            TypeError: the labels are not a mapping of strings, or the business key is not a string.
        """
        _check_finds(labels, business_key)
        for name, value in (labels or {}).items():
            check_is_text(name, "a string as the name of a label")
            check_is_text(value, "a string as the value of a label")
        wanted = views.WantedSessions(
            status=status, workflow_id=workflow_id, agent_id=agent_id, labels=labels or {}, business_key=business_key
        )
        return self._read(lambda view: views.sessions(view, wanted, limit=limit, cursor=cursor))

    async def wait(self, session_id: str) -> Session:
        """Wait until a session has ended, and return it. Use `trio.fail_after` to bound the wait.

        Cancelling the wait does not concern the session. A session that is paused has not ended.

        Args:
            session_id: the run.

        Raises:
            SessionNotFound: there is none, or retention has removed it.
            NotReady: the node stopped before the session ended; the session continues at the next opening.
        """
        library = self._core.library
        return await self._when_ended(session_id, lambda view: views.whole_session(view, session_id, library))

    async def wait_briefly(self, session_id: str, wait_s: float, *, tasks_bytes_max: int | None = None) -> SessionView:
        """Wait at most `wait_s` seconds for a session to end, less if the node drains; return it as it is then.

        Args:
            session_id: the run.
            wait_s: how long to wait at most, in seconds.
            tasks_bytes_max: as of `session`.

        Raises:
            SessionNotFound, NotReady: as `wait`.
            LimitExceeded: as `session`.
        """
        with trio.move_on_after(wait_s):
            row = functools.partial(_row, session_id=session_id)
            await self.unless_draining(lambda: self._when_ended(session_id, row))
        return self.session(session_id, tasks_bytes_max=tasks_bytes_max)

    async def _when_ended(self, session_id: str, read: Callable[[Snapshot], Session | None]) -> Session:
        check_is_text(session_id, "a string as an id")
        while True:
            with self._core.feed.listen(session_id) as bell:
                session = self._read(read)
                if session is None:
                    raise SessionNotFound(session_id)
                if session.status in SESSION_ENDED:
                    return session
                await bell.wait()

    async def steer(self, session_id: str, move: Move, *, reason: str | None = None) -> Session:
        """Cancel, pause, resume, retry, reset or terminate a run; return the session as it is then.

        Cancelling ends the open attempts and undoes the completed steps. Retrying begins again from what failed.
        Resetting takes the open attempts from their agents and gives the tasks out again. Terminating ends the run at
        once, as cancelled, and undoes nothing more. A move to where the run already is changes nothing.

        Args:
            session_id: the run.
            move: what to do.
            reason: why; kept with the session when it is cancelled, terminated or paused.

        Returns:
            the session after the move; while a cancelled run still has something to undo, it is `cancelling`.

        Raises:
            SessionNotFound: there is none.
            SessionConflict: the move is impossible in the session's present status. Only a failed run can be retried,
                if it has undone nothing and is no child run.
            InvalidDocument: there is no such move.
            LimitExceeded: the reason is larger than `value_bytes_max` (256 KiB).
            ValueError, TypeError: the reason is not a string, or can't be stored.
        """
        check_texts((reason,), self._core.limits)
        steer = Steer(move=chosen(Move, move, "call", "move"), reason=reason)
        self._known_session(session_id)
        return own(await self._core.addresses.session(session_id).ask(steer))

    async def signal(self, session_id: str, name: str, *, payload: Any = None, signal_id: str | None = None) -> Signal:
        """Send a run a named signal. It is kept until a task of the run waits for it.

        Args:
            session_id: the run.
            name: the name that a `signal` task of its definition waits for.
            payload: becomes the result of that task; JSON values, `value_bytes_max` (256 KiB) at most.
            signal_id: makes the signal safe to send again: the same id has an effect once; made up if not given.

        Returns:
            the signal, as it was kept when it was first sent.

        Raises:
            SessionNotFound: there is none.
            SessionConflict: the run has ended.
            InvalidDocument: no task of its definition waits for a signal of that name.
            IdempotencyConflict: a signal with this id has another name or payload.
            LimitExceeded: the payload is too large, the id too long, or the run has too many signals.
            ValueError, TypeError: the payload is not JSON, or the name or id is not a string.
        """
        self._known_session(session_id)
        for text in (name, signal_id or ""):
            check_is_text(text)
        if signal_id is not None and len(signal_id.encode()) > self._core.limits.id_bytes_max:
            raise LimitExceeded("id_bytes_max", self._core.limits.id_bytes_max, len(signal_id.encode()))
        told = SendSignal(name=name, payload=copied(payload, self._core.limits), signal_id=signal_id)
        return own(await self._core.addresses.session(session_id).ask(told))

    def _known_session(self, session_id: str) -> None:
        """Check that a session exists before its actor is addressed, so that an unknown id activates no actor."""
        if self._read(lambda view: SESSIONS.read(view, session_id).row) is None:
            raise SessionNotFound(session_id)

    def _admit(self) -> None:
        if self._not_ready is not None:
            raise NotReady(self._not_ready)
        self._core.admit()


def _row(view: Snapshot, session_id: str) -> Session | None:
    return SESSIONS.read(view, session_id).row


def _check_kinds(definition: Any, idempotency: Any) -> None:
    """Check the types of a trigger's definition and idempotency key.

    Raises:
        TypeError: one of them is wrong.
    """
    if not isinstance(definition, str | Mapping):
        raise TypeError(f"expected the id of a saved workflow, or a document as a mapping, found {definition!r}")
    if idempotency is not None and not isinstance(idempotency, IdempotencyKey):
        raise TypeError(f"expected an IdempotencyKey as idempotency, found {idempotency!r}")


def _check_finds(labels: Any, business_key: Any) -> None:
    """Check the types of labels and business key; their limits are checked elsewhere.

    Raises:
        TypeError: the labels are not a mapping, or the business key is not a string.
    """
    if labels is not None and not isinstance(labels, Mapping):
        raise TypeError(f"expected a mapping of strings as labels, found {labels!r}")
    if business_key is not None:
        check_is_text(business_key, "a string as a business key")


def _check_found_by(request: Trigger, limits: Limits) -> None:
    faults = [evolve(each, path=f"labels{each.path}") for each in label_faults(request.labels, limits)]
    if request.business_key is not None:
        found = business_key_faults(request.business_key, limits)
        faults += [evolve(each, path=f"businessKey{each.path}") for each in found]
    if faults:
        raise InvalidDocument("trigger", tuple(faults))
