"""How a run moves: pure functions from a run and an event to the next run and its effects.

The two tables are the whole state machine; a pair that is not in its table is a bug and raises
`ImpossibleTransition`. Nothing here waits, reads a clock or writes: time and randomness come in as arguments,
what has to happen goes out as effects, and which rows changed is seen by comparing the two runs.
"""

import functools
import random
from collections.abc import Iterable, Mapping
from enum import StrEnum
from typing import Any, Final

import attrs

from opscore.runtime.definitions import Definition, TaskDefinition
from opscore.runtime.limits import Limits
from opscore.runtime.models import (
    SESSION_ENDED,
    TASK_OPEN,
    Failure,
    Session,
    SessionStatus,
    Task,
    TaskStatus,
)


class TaskEvent(StrEnum):
    """What can happen to a task."""

    RELEASE = "release"
    DISPATCH = "dispatch"
    START = "start"
    COMPLETE = "complete"
    RETRY = "retry"
    FAIL = "fail"
    REQUEUE = "requeue"
    CANCEL = "cancel"


class SessionEvent(StrEnum):
    """What can happen to a session."""

    DISPATCH = "dispatch"
    COMPLETE = "complete"
    FAIL = "fail"
    SETTLE = "settle"
    QUARANTINE = "quarantine"


TASK_TABLE: Final[Mapping[tuple[TaskStatus, TaskEvent], TaskStatus]] = {
    (TaskStatus.PENDING, TaskEvent.RELEASE): TaskStatus.READY,
    (TaskStatus.PENDING, TaskEvent.CANCEL): TaskStatus.CANCELLED,
    (TaskStatus.READY, TaskEvent.DISPATCH): TaskStatus.DISPATCHED,
    (TaskStatus.READY, TaskEvent.CANCEL): TaskStatus.CANCELLED,
    (TaskStatus.DISPATCHED, TaskEvent.START): TaskStatus.RUNNING,
    (TaskStatus.DISPATCHED, TaskEvent.COMPLETE): TaskStatus.COMPLETED,
    (TaskStatus.DISPATCHED, TaskEvent.RETRY): TaskStatus.PENDING_RETRY,
    (TaskStatus.DISPATCHED, TaskEvent.FAIL): TaskStatus.FAILED,
    (TaskStatus.DISPATCHED, TaskEvent.REQUEUE): TaskStatus.READY,
    (TaskStatus.DISPATCHED, TaskEvent.CANCEL): TaskStatus.CANCELLED,
    (TaskStatus.RUNNING, TaskEvent.COMPLETE): TaskStatus.COMPLETED,
    (TaskStatus.RUNNING, TaskEvent.RETRY): TaskStatus.PENDING_RETRY,
    (TaskStatus.RUNNING, TaskEvent.FAIL): TaskStatus.FAILED,
    (TaskStatus.RUNNING, TaskEvent.REQUEUE): TaskStatus.READY,
    (TaskStatus.RUNNING, TaskEvent.CANCEL): TaskStatus.CANCELLED,
    (TaskStatus.PENDING_RETRY, TaskEvent.RELEASE): TaskStatus.READY,
    (TaskStatus.PENDING_RETRY, TaskEvent.CANCEL): TaskStatus.CANCELLED,
}

SESSION_TABLE: Final[Mapping[tuple[SessionStatus, SessionEvent], SessionStatus]] = {
    (SessionStatus.STARTED, SessionEvent.DISPATCH): SessionStatus.RUNNING,
    (SessionStatus.STARTED, SessionEvent.COMPLETE): SessionStatus.COMPLETED,
    (SessionStatus.STARTED, SessionEvent.QUARANTINE): SessionStatus.PAUSED,
    (SessionStatus.RUNNING, SessionEvent.COMPLETE): SessionStatus.COMPLETED,
    (SessionStatus.RUNNING, SessionEvent.FAIL): SessionStatus.FAILING,
    (SessionStatus.RUNNING, SessionEvent.QUARANTINE): SessionStatus.PAUSED,
    (SessionStatus.PAUSED, SessionEvent.COMPLETE): SessionStatus.COMPLETED,
    (SessionStatus.PAUSED, SessionEvent.FAIL): SessionStatus.FAILING,
    (SessionStatus.PAUSED, SessionEvent.SETTLE): SessionStatus.FAILED,
    (SessionStatus.FAILING, SessionEvent.SETTLE): SessionStatus.FAILED,
    (SessionStatus.FAILING, SessionEvent.QUARANTINE): SessionStatus.PAUSED,
}


class ImpossibleTransition(AssertionError):
    """An event reached a state that its table has no row for: a bug, never a condition."""


@attrs.frozen(kw_only=True)
class Run:
    """A session with its tasks, in the order of its definition."""

    session: Session
    tasks: tuple[Task, ...]
    definition: Definition

    @property
    def ended(self) -> bool:
        """Whether nothing more will happen."""
        return self.session.status in SESSION_ENDED

    @property
    def failing(self) -> bool:
        """Whether a task's failure has decided the run's; it stays so if the run is paused meanwhile."""
        return self.session.error is not None

    @functools.cached_property
    def by_id(self) -> dict[str, Task]:
        """The tasks by their id on the wire."""
        return {task.task_id: task for task in self.tasks}

    def task_definition(self, task: Task) -> TaskDefinition:
        """What the definition says of a task."""
        return self.definition.tasks[task.ordinal]


@attrs.frozen(kw_only=True)
class Ready:
    """A task waits for an agent."""

    task: Task


@attrs.frozen(kw_only=True)
class RetryAt:
    """A task waits for its retry delay."""

    task: Task
    due_at: float


@attrs.frozen(kw_only=True)
class Withdrawn:
    """A task that waited for an agent no longer does."""

    task: Task


@attrs.frozen(kw_only=True)
class Ended:
    """The session has come to its end."""

    session: Session


Effect = Ready | RetryAt | Withdrawn | Ended


@attrs.frozen(kw_only=True)
class Step:
    """The next run, and what has to happen once it is committed."""

    run: Run
    effects: tuple[Effect, ...] = ()


def begin(session: Session, definition: Definition, now: float) -> Step:
    """Start a run: its first tasks are ready; one without tasks is complete at once."""
    tasks = tuple(
        Task(
            task_id=f"{session.session_id}.{task.ordinal}",
            session_id=session.session_id,
            key=task.key,
            ordinal=task.ordinal,
        )
        for task in definition.tasks
    )
    return _advance(Run(session=session, tasks=tasks, definition=definition), now)


def dispatch(run: Run, task_id: str, agent_id: str, now: float) -> Step:
    """Give a ready task to an agent, as a new attempt."""
    task = run.by_id[task_id]
    moved = _moved(
        task,
        TaskEvent.DISPATCH,
        attempt=task.attempt + 1,
        agent_id=agent_id,
        dispatched_at=now,
        started_at=None,
    )
    run = _with(run, moved)
    if run.session.status is SessionStatus.STARTED:
        run = _session_moved(run, SessionEvent.DISPATCH)
    return Step(run=run)


def start(run: Run, task_id: str, now: float) -> Step:
    """Note the agent's first sign of life; a task that runs already stays as it is."""
    task = run.by_id[task_id]
    if task.status is TaskStatus.RUNNING:
        return Step(run=run)
    return Step(run=_with(run, _moved(task, TaskEvent.START, started_at=now)))


def complete(run: Run, task_id: str, result: Any, now: float) -> Step:
    """End the current attempt with a result, and release what waited for it."""
    task = _moved(run.by_id[task_id], TaskEvent.COMPLETE, result=result, ended_at=now, bounces=0, error=None)
    return _advance(_with(run, task), now)


def fail(run: Run, task_id: str, error: Failure, now: float, rng: random.Random, *, retryable: bool = True) -> Step:
    """End the current attempt as a failure: a retry after its backoff, or the task's and the session's end."""
    task = run.by_id[task_id]
    policy = run.task_definition(task).retry
    failures = task.retries + 1
    spent = failures > policy.max_retries or not retryable or error.code in policy.non_retryable
    if spent or run.failing:
        failed = _moved(task, TaskEvent.FAIL, retries=failures, error=error, ended_at=now)
        return _fail_session(_with(run, failed), failed, now)
    due_at = now + policy.backoff().delay_s(failures, rng)
    waiting = _moved(task, TaskEvent.RETRY, retries=failures, error=error, due_at=due_at, bounces=0)
    return Step(run=_with(run, waiting), effects=(RetryAt(task=waiting, due_at=due_at),))


def bounce(run: Run, task_id: str, error: Failure, now: float, rng: random.Random, limits: Limits) -> Step:
    """End the current attempt as lost or undelivered: no retry is spent, within `dispatch_attempts_max`."""
    task = run.by_id[task_id]
    if task.bounces + 1 >= limits.dispatch_attempts_max:
        return fail(run, task_id, error, now, rng)
    if run.failing:
        cancelled = _moved(task, TaskEvent.CANCEL, error=error, ended_at=now)
        return _settle(_with(run, cancelled), now)
    ready = _moved(task, TaskEvent.REQUEUE, bounces=task.bounces + 1, error=error, ready_at=now)
    return Step(run=_with(run, ready), effects=(Ready(task=ready),))


def retry_due(run: Run, task_id: str, now: float) -> Step:
    """End a retry delay; one that is not due, or no longer waited for, changes nothing."""
    task = run.by_id.get(task_id)
    if task is None or task.status is not TaskStatus.PENDING_RETRY or (task.due_at or 0.0) > now:
        return Step(run=run)
    ready = _moved(task, TaskEvent.RELEASE, ready_at=now, due_at=None)
    return Step(run=_with(run, ready), effects=(Ready(task=ready),))


def quarantine(session: Session) -> Session:
    """Pause a run whose actor keeps crashing, so that it can't take the others down."""
    status = SESSION_TABLE.get((session.status, SessionEvent.QUARANTINE))
    return session if status is None else attrs.evolve(session, status=status, reason="actor_crashed")


def take_back(task: Task, session: Session, now: float) -> Task:
    """Take an open attempt back from its agent, because the run's actor can't be asked what came of it."""
    event = TaskEvent.REQUEUE if session.error is None else TaskEvent.CANCEL
    ended_at = now if event is TaskEvent.CANCEL else None
    error = Failure(message="the run was paused because its actor kept crashing", code="lost")
    return _moved(task, event, error=error, ready_at=now, ended_at=ended_at)


def _moved(task: Task, event: TaskEvent, **changes: Any) -> Task:
    status = TASK_TABLE.get((task.status, event))
    if status is None:
        raise ImpossibleTransition(f"task {task.task_id} is {task.status} and can't {event}")
    return attrs.evolve(task, status=status, **changes)


def _session_moved(run: Run, event: SessionEvent, **changes: Any) -> Run:
    status = SESSION_TABLE.get((run.session.status, event))
    if status is None:
        raise ImpossibleTransition(f"session {run.session.session_id} is {run.session.status} and can't {event}")
    return attrs.evolve(run, session=attrs.evolve(run.session, status=status, **changes))


def _with(run: Run, *changed: Task) -> Run:
    tasks = list(run.tasks)
    for task in changed:
        tasks[task.ordinal] = task
    return attrs.evolve(run, tasks=tuple(tasks))


def _advance(run: Run, now: float) -> Step:
    """Release the tasks whose predecessors are complete; with every task complete, end the session."""
    if run.failing:
        return _settle(run, now)
    done = {task.key for task in run.tasks if task.status is TaskStatus.COMPLETED}
    released = [
        _moved(task, TaskEvent.RELEASE, ready_at=now)
        for task in run.tasks
        if task.status is TaskStatus.PENDING and done.issuperset(run.task_definition(task).depends_on)
    ]
    run = _with(run, *released)
    if len(done) == len(run.tasks):
        run = _session_moved(run, SessionEvent.COMPLETE, ended_at=now, result=gathered(run.definition, run.tasks))
        return Step(run=run, effects=(Ended(session=run.session),))
    return Step(run=run, effects=tuple(Ready(task=task) for task in released))


def gathered(definition: Definition, tasks: Iterable[Task]) -> dict[str, Any]:
    """The results of the tasks that no other task waits for, by their ids."""
    return {task.key: task.result for task in tasks if not definition.dependents[task.key]}


def _fail_session(run: Run, failed: Task, now: float) -> Step:
    """Let the first failure decide the session: nothing new starts, what is out with agents may still end."""
    if run.failing:
        return _settle(run, now)
    cause = failed.error or Failure(message="unknown")
    error = Failure(message=f"task {failed.key!r} failed: {cause.message}", code=cause.code)
    waiting = (TaskStatus.READY, TaskStatus.PENDING, TaskStatus.PENDING_RETRY)
    cancelled = [
        _moved(task, TaskEvent.CANCEL, ended_at=now, due_at=None) for task in run.tasks if task.status in waiting
    ]
    withdrawn = _withdrawn(run.tasks)
    run = _session_moved(_with(run, *cancelled), SessionEvent.FAIL, error=error)
    settled = _settle(run, now)
    return attrs.evolve(settled, effects=withdrawn + settled.effects)


def _withdrawn(tasks: Iterable[Task]) -> tuple[Effect, ...]:
    return tuple(Withdrawn(task=task) for task in tasks if task.status is TaskStatus.READY)


def _settle(run: Run, now: float) -> Step:
    """End a failing session once no attempt of it is open."""
    if any(task.status in TASK_OPEN for task in run.tasks):
        return Step(run=run)
    run = _session_moved(run, SessionEvent.SETTLE, ended_at=now)
    return Step(run=run, effects=(Ended(session=run.session),))
