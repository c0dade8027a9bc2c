"""Child runs, which tasks of a parent run wait for: how they begin, how their state is read, how they are cancelled.

A task that waits for a child run has chosen its session id beforehand, so that a repeated attempt to begin it finds it.
These are errands beside the mailbox; if one is lost, it is rebuilt from rows.
"""

import contextlib
import functools
from collections.abc import Callable
from typing import Any, Final

import trio

from opscore.actors.clock import Clock
from opscore.actors.errors import ActorError
from opscore.runtime import views
from opscore.runtime.delivery import Completed, Failed
from opscore.runtime.errors import (
    AgentNotFound,
    DefinitionNotFound,
    LimitExceeded,
    NotReady,
    Refusal,
    SessionConflict,
    SessionNotFound,
    Superseded,
    Unavailable,
)
from opscore.runtime.evolving import evolve
from opscore.runtime.journal.tables import (
    OPEN_SESSIONS,
    SESSIONS,
    SESSIONS_BELOW,
    TASKS,
    is_waited_for,
    session_of,
    tasks_of,
)
from opscore.runtime.journal.typed_tables import named
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.messages.addresses import Addresses
from opscore.runtime.messages.to_session import AnnounceSession, Start, Steer
from opscore.runtime.models import Failure, Move, Session, SessionStatus, Task
from opscore.runtime.runs.run import Run
from opscore.runtime.runs.transitions import TOO_MANY_RUNS
from opscore.runtime.runs.triggering import Prepared, Trigger, prepare
from opscore.runtime.store import Snapshot, Submission
from opscore.runtime.values import check_value, checked

RACES_MAX: Final = 8
"""How often the start of a child run is decided anew because its workflow is being saved meanwhile."""
BEGINNINGS_MAX: Final = 100
"""Child runs that the whole node begins at the same time, so that a tree of them does not keep others waiting."""
CALLED_OFF: Final = "no run waits for it any more"
"""The reason of a child run that is cancelled because its parent no longer waits for it."""


class SubRuns:
    """Begins and ends child runs on behalf of the actors of their parent runs.

    Args:
        addresses: where the actors are.
        library: the definitions that runs follow.
        limits: the node's limits.
        clock: wall time and randomness.
        open_beside: returns how many runs are unfinished below the triggered run that a run belongs to.
    """

    def __init__(
        self,
        *,
        addresses: Addresses,
        library: Library,
        limits: Limits,
        clock: Clock,
        open_beside: Callable[[str], int],
    ) -> None:
        self._addresses = addresses
        self._library = library
        self._limits = limits
        self._clock = clock
        self._open_beside = open_beside
        self._beginnings = trio.CapacityLimiter(BEGINNINGS_MAX)

    @property
    def has_room(self) -> bool:
        """Whether another child run could begin now."""
        return self._beginnings.available_tokens > 0

    async def standing(self, task: Task) -> Session | None:
        """Return the child run that a task waits for, after every commit sent before; None if it has not begun."""
        child_id = task.child_session_id
        if child_id is None:
            return None
        child = await self._addresses.journal.load(lambda view: views.whole_session(view, child_id, self._library))
        if child is None or child.status is not SessionStatus.COMPLETED:
            return child
        # Each result of its tasks is within the limits, but all of them together may not be.
        judged = checked(Completed(result=child.result), self._limits)
        if isinstance(judged, Failed):
            return evolve(child, status=SessionStatus.FAILED, result=None, error=judged.error)
        return child

    async def begin(self, parent: Session, task: Task, asked: dict[str, Any]) -> Failed | bool:
        """Begin the child run that a task waits for, unless it has begun.

        Args:
            parent: the run of the task.
            task: the task.
            asked: its parameters: the id of a saved workflow, and the input.

        Returns:
            why it can't begin, if it can't; else whether it has begun just now, so that it will report its own end.

        Raises:
            StoreError, Unavailable: it could not begin now.
        """
        async with self._beginnings:
            for _ in range(RACES_MAX):
                try:
                    return await self._begun(parent, task, asked)
                except Superseded:
                    # It has begun meanwhile, or its workflow has been saved anew, so this is decided again.
                    continue
        raise NotReady(f"the workflow that task {task.task_id!r} starts changes too fast", retry_after_s=1.0)

    async def _begun(self, parent: Session, task: Task, asked: dict[str, Any]) -> Failed | bool:
        try:
            found = await self._addresses.journal.load(lambda view: self._prepared(view, parent, task, asked))
            if found is None:
                return False
            # Not before this point, because a child run that has begun already is counted itself.
            too_many = self._too_many_with(parent)
            if too_many is not None:
                return too_many
            session = found.session
            start = Start(session=session, definition=found.definition, extra=found.extra)
            await self._addresses.session(session.session_id).ask(start)
        except SessionConflict:
            # The task no longer waits for it.
            return False
        except Unavailable:
            raise
        except DefinitionNotFound as error:
            return Failed(error=Failure(message=str(error), code="workflow_not_found"), retryable=False)
        except AgentNotFound as error:
            # The task may be retried, because the agent may register again.
            return Failed(error=Failure(message=str(error), code=error.code))
        except Refusal as error:
            return _impossible(error)
        return True

    def _too_many_with(self, parent: Session) -> Failed | None:
        """Return the failure if another child run would exceed a limit, else None."""
        depth, count = parent.depth + 1, self._open_beside(parent.session_id)
        if depth > self._limits.runs_depth_max:
            return _too_many("runs_depth_max", self._limits.runs_depth_max, depth)
        if count >= self._limits.runs_below_max:
            return _too_many("runs_below_max", self._limits.runs_below_max, count + 1)
        return None

    def _prepared(self, view: Snapshot, parent: Session, task: Task, asked: dict[str, Any]) -> Prepared | None:
        above = TASKS.read(view, task.task_id)
        child_id = task.child_session_id
        if above.row is None or not above.row.awaits or above.row.child_session_id != child_id or child_id is None:
            return None
        if SESSIONS.read(view, child_id).row is not None or not _is_wanted(view, parent):
            return None
        check_value(asked.get("input"), self._limits)
        trigger = Trigger(
            definition=str(asked["workflowId"]),
            payload=asked.get("input"),
            agent_id=parent.agent_id,
            session_id=child_id,
            parent_task_id=task.task_id,
            depth=parent.depth + 1,
        )
        found = prepare(view, trigger, self._library, self._limits, self._clock.now(), self._clock.random)
        assert isinstance(found, Prepared), "it has no idempotency key"
        # It begins only if the task still waits for it.
        waited_for = Submission(expects=(TASKS.expect(task.task_id, above.version),))
        return evolve(found, extra=found.extra + waited_for)

    async def is_waited_for(self, session: Session) -> bool:
        """Return whether the parent's task, if there is one, still waits for a run."""
        if session.parent_task_id is None:
            return True
        return await self._addresses.journal.load(functools.partial(is_waited_for, session=session))

    async def left_behind(self, run: Run) -> list[str]:
        """Return the ids of unfinished child runs that tasks of a run no longer wait for."""

        def read(view: Snapshot) -> list[str]:
            return [
                session_id
                for task in run.every()
                if task.child_session_id is not None
                for _, session_id in SESSIONS_BELOW.lines(view, prefix=named(task.task_id))
                if not task.awaits or session_id != task.child_session_id
            ]

        return await self._addresses.journal.load(read)

    async def have_them_look_above(self, session_id: str) -> None:
        """Tell the unfinished child runs of a run to check whether it still waits for them, because its actor is gone.

        Raises:
            StoreError, Unavailable: their ids could not be read now.
        """

        def read(view: Snapshot) -> list[str]:
            return [
                below
                for task, _ in tasks_of(view, session_id)
                for _, below in SESSIONS_BELOW.lines(view, prefix=named(task.task_id))
                if OPEN_SESSIONS.read(view, below).row is not None
            ]

        for below in await self._addresses.journal.load(read):
            with contextlib.suppress(ActorError):
                await self._addresses.session(below).send(AnnounceSession())

    async def call_off(self, session_id: str) -> None:
        """Cancel a child run that no task waits for any more; one that has ended, or never began, stays as it is.

        Raises:
            StoreError, Unavailable: it could not be cancelled now.
        """
        try:
            await self._addresses.session(session_id).ask(Steer(move=Move.CANCEL, reason=CALLED_OFF))
        except (SessionNotFound, SessionConflict):
            return


def _is_wanted(view: Snapshot, session: Session) -> bool:
    """Whether every parent run above still waits for the next one; where one does not, all below it are cancelled."""
    above: Session | None = session
    while above is not None and above.parent_task_id is not None:
        if not is_waited_for(view, above):
            return False
        above = SESSIONS.read(view, session_of(above.parent_task_id)).row
    return above is not None


def _too_many(name: str, allowed: int, found: int) -> Failed:
    """Return the failure for one child run too many, which no retry of the task or of the tasks above it can mend."""
    return Failed(error=Failure(message=str(LimitExceeded(name, allowed, found)), code=TOO_MANY_RUNS), retryable=False)


def _impossible(error: Refusal) -> Failed:
    return Failed(error=Failure(message=str(error), code=error.code), retryable=False)
