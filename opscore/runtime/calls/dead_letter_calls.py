"""Calls on a node about dead letters: tasks that failed for good, and their runs with them."""

import functools

import attrs

from opscore.runtime import views
from opscore.runtime.calls.session_calls import SessionCalls
from opscore.runtime.core import open_nursery
from opscore.runtime.errors import DeadLetterNotFound, Fault, InvalidDocument, Refusal
from opscore.runtime.journal.tables import session_of
from opscore.runtime.messages.to_session import Discard
from opscore.runtime.models import Move, Session, Task, shown_text
from opscore.runtime.values import check_is_text, own
from opscore.runtime.views import PAGE_MAX, DeadLetter, Page


@attrs.frozen(kw_only=True)
class RefusedReplay:
    """A run that could not be retried, and why."""

    session_id: str
    """The run."""
    error: Refusal
    """Why; a `SessionConflict` for a run that has undone something, for example."""


@attrs.frozen(kw_only=True)
class Replayed:
    """The outcome of replaying many dead letters."""

    sessions: tuple[Session, ...]
    """The runs that were retried, as they are then."""
    refused: tuple[RefusedReplay, ...]
    """The runs that could not be."""
    next_cursor: str | None
    """Where the next call continues; None once no dead letter is left."""


class DeadLetterCalls(SessionCalls):
    """Calls about dead letters."""

    def dead_letters(
        self, *, limit: int = 100, cursor: str | None = None, workflow_id: str | None = None, code: str | None = None
    ) -> Page[DeadLetter]:
        """Return a page of the dead letters, the newest first.

        Args:
            limit: the most letters to return, from 1 to 500. A page may have fewer, or none, without being the last.
            cursor: `next_cursor` of the page before.
            workflow_id: only those of runs of this workflow.
            code: only those that failed with this code.

        Raises:
            InvalidDocument: the cursor is invalid, or the limit is not from 1 to 500.
        """
        return self._read(
            lambda view: views.dead_letters(view, limit=limit, cursor=cursor, workflow_id=workflow_id, code=code)
        )

    def dead_letter(self, task_id: str) -> DeadLetter:
        """Return one dead letter.

        Args:
            task_id: the task that is one.

        Raises:
            DeadLetterNotFound: there is no such task, or it is not a dead letter.
        """
        found = self._read(lambda view: views.dead_letter(view, task_id))
        if found is None:
            raise DeadLetterNotFound(task_id)
        return found

    async def replay(self, task_id: str) -> Session:
        """Retry the run of a dead letter from everything in it that failed; return the session as it is then.

        Args:
            task_id: the task that is a dead letter.

        Raises:
            DeadLetterNotFound: the task is not a dead letter.
            SessionConflict: the run can't be retried.
        """
        return await self.steer(self.dead_letter(task_id).session.session_id, Move.RETRY)

    async def replay_all(
        self, *, workflow_id: str | None = None, code: str | None = None, cursor: str | None = None
    ) -> Replayed:
        """Retry the runs of the newest dead letters, `replays_max` letters at a call.

        A task that fails again becomes a newer dead letter than those ahead of the cursor, so that following the cursor
        comes to an end.

        Args:
            workflow_id: only dead letters of runs of this workflow.
            code: only those that failed with this code.
            cursor: `next_cursor` of the call before.

        Returns:
            the runs that were retried, those that could not be, and where the next call continues.

        Raises:
            InvalidDocument: the cursor is invalid.
            StoreError, ActorError: some runs were not retried; their tasks are still dead letters. Several such errors
                are raised as an `ExceptionGroup`.
        """
        page = self.dead_letters(
            limit=min(self._core.limits.replays_max, PAGE_MAX), cursor=cursor, workflow_id=workflow_id, code=code
        )
        outcomes: dict[str, Session | Refusal | None] = {letter.session.session_id: None for letter in page.items}

        async def retry(session_id: str) -> None:
            try:
                outcomes[session_id] = await self.steer(session_id, Move.RETRY)
            except Refusal as error:
                outcomes[session_id] = error

        # Concurrently, so that their commits share batches.
        async with open_nursery() as nursery:
            for session_id in outcomes:
                nursery.start_soon(functools.partial(retry, session_id))
        return Replayed(
            sessions=tuple(each for each in outcomes.values() if isinstance(each, Session)),
            refused=tuple(
                RefusedReplay(session_id=session_id, error=each)
                for session_id, each in outcomes.items()
                if isinstance(each, Refusal)
            ),
            next_cursor=page.next_cursor,
        )

    async def discard(self, task_id: str, reason: str) -> Task:
        """Discard a dead letter; the journal keeps the reason. Its run may still be retried.

        Args:
            task_id: the task that is a dead letter.
            reason: why nobody has to look at it.

        Returns:
            the task, which is no longer a dead letter.

        Raises:
            DeadLetterNotFound: the task is not a dead letter.
            SessionConflict: its run has not ended.
            InvalidDocument: the reason is empty or blank.
            TypeError: the reason is not a string.
        """
        check_is_text(reason, "a string as a reason")
        if not reason.strip():
            fault = Fault(path="reason", message="expected a reason why nobody has to look at it, found only blanks")
            raise InvalidDocument("call", (fault,))
        self.dead_letter(task_id)
        message = Discard(task_id=task_id, reason=shown_text(reason))
        return own(await self._core.addresses.session(session_of(task_id)).ask(message))
