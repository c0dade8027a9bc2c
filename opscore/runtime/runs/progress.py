"""The consequences of a run's state: which tasks begin, which are skipped, and how the run ends.

They are computed anew after every step, in the order of the graph, so that they depend on the rows alone and not on
how the rows came to be. A paused run has no consequences; what happened meanwhile counts when it is resumed.
"""

from collections.abc import Iterable

from opscore.runtime.definitions.definition import Role
from opscore.runtime.errors import ExpressionFailed, LimitExceeded
from opscore.runtime.models import (
    SESSION_ENDED,
    TASK_ENDED,
    TASK_OPEN,
    TASK_WAITS,
    Failure,
    SessionStatus,
    Task,
    TaskStatus,
)
from opscore.runtime.runs import items
from opscore.runtime.runs.lifecycle import SessionEvent, TaskEvent
from opscore.runtime.runs.releasing import release
from opscore.runtime.runs.run import Draft
from opscore.runtime.values import RESULT_TOO_LARGE, check_value

_STEPS = (Role.STEP, Role.FALLBACK)


def follow(draft: Draft) -> None:
    """Do everything that follows from the run's state."""
    if draft.session.status in SESSION_ENDED or draft.session.status is SessionStatus.PAUSED:
        return
    if not draft.session.unwinding:
        _advance(draft)
    if draft.session.unwinding:
        _unwind(draft)


def fail_session(draft: Draft, error: Failure) -> None:
    """Let the run fail: no further step begins, open attempts may still end, then completed steps are undone."""
    draft.move_session(SessionEvent.FAIL, error=error)


# --- forwards -----------------------------------------------------------------------------------------------


def _advance(draft: Draft) -> None:
    """Begin the steps that no longer wait for others; once every step is over, complete the run."""
    all_over = True
    for definition in draft.definition.steps:
        task = draft.tasks[definition.ordinal]
        if task.status is TaskStatus.PENDING:
            task = _considered(draft, task)
        if definition.for_each is not None and task.awaits:
            task = items.go_through(draft, task)
        if task.status is TaskStatus.FAILED and not tolerated(draft, task):
            _fall_back(draft, task)
            if draft.session.unwinding:
                return
        all_over = all_over and _is_over(draft, task)
    if all_over:
        _complete(draft)


def _complete(draft: Draft) -> None:
    outputs = draft.definition.outputs
    try:
        standing = draft.standing()
        if outputs is None:
            # Each may be as large as a result may be; if all are too large for the run's row, reading gathers them.
            result = standing.gathered()
        else:
            result = outputs.evaluate(standing.scope(outputs.task_keys))
            check_value(result, draft.definition.limits)
    except LimitExceeded as error:
        fail_session(draft, Failure(message=f"outputs: {error}", code=RESULT_TOO_LARGE))
        return
    except ExpressionFailed as error:
        fail_session(draft, Failure(message=f"outputs: {error}", code=error.code))
        return
    _skip_unused(draft)
    draft.move_session(SessionEvent.COMPLETE, ended_at=draft.now, due_at=None, result=result)


def _considered(draft: Draft, task: Task) -> Task:
    """Begin a step once every step before it is over; skip it if they were all skipped, or its `when` is false."""
    definition = draft.of(task)
    all_skipped = bool(definition.depends_on)
    for key in definition.depends_on:
        before = draft.by_key(key)
        if not _is_over(draft, before):
            return task
        all_skipped = all_skipped and before.status is TaskStatus.SKIPPED
    if all_skipped:
        return draft.end(task, TaskEvent.SKIP)
    try:
        when = definition.when
        if when is not None and not when.holds(draft.standing().scope(when.task_keys, task)):
            return draft.end(task, TaskEvent.SKIP)
        return release(draft, task) if definition.for_each is None else items.begin(draft, task)
    except ExpressionFailed as error:
        return draft.end(task, TaskEvent.FAIL, error=Failure(message=str(error), code=error.code))


def _is_over(draft: Draft, task: Task) -> bool:
    """Whether the steps that wait for a step may begin."""
    return task.status in (TaskStatus.COMPLETED, TaskStatus.SKIPPED) or tolerated(draft, task)


def tolerated(draft: Draft, task: Task) -> bool:
    """Whether a task failed and the run goes on all the same: its fallback was completed, or it may fail.

    A failed fallback is tolerated if its step is, and a failed item if its list goes on after failures.
    """
    if task.status is not TaskStatus.FAILED:
        return False
    definition = draft.of(task)
    if definition.role is Role.FALLBACK:
        return tolerated(draft, step_of(draft, task))
    if task.item is not None and definition.continue_on_failure:
        return True
    if definition.fallback is not None:
        instead = draft.by_key(definition.fallback)
        if instead.status is not TaskStatus.FAILED:
            return instead.status is TaskStatus.COMPLETED
    return definition.continue_on_failure


def step_of(draft: Draft, fallback: Task) -> Task:
    """Return the step that a fallback stands in for."""
    return next(draft.by_key(each.key) for each in draft.definition.steps if each.fallback == fallback.key)


def _fall_back(draft: Draft, task: Task) -> None:
    """Begin a failed step's fallback; if there is none, or it has failed too, the run fails."""
    fallback = draft.of(task).fallback
    instead = None if fallback is None else draft.by_key(fallback)
    if instead is not None and instead.status is TaskStatus.PENDING:
        instead = release(draft, instead)
    if (instead is None or instead.status is TaskStatus.FAILED) and not tolerated(draft, task):
        _bury(draft, task)
        cause = task.error or Failure(message="unknown")
        fail_session(draft, Failure(message=f"task {task.key!r} failed: {cause.message}", code=cause.code))


# --- backwards ----------------------------------------------------------------------------------------------


def _unwind(draft: Draft) -> None:
    """Cancel what waits; once no step has an open attempt, undo the completed steps, and end the run."""
    for task in draft.in_role(*_STEPS):
        for each in (*draft.items(task), task):
            if each.awaits and each.items is not None:
                each = items.wind_up(draft, each)  # noqa: PLW2901 (it is the same task after the step)
            elif (each.status in TASK_WAITS and draft.of(each).role is Role.STEP) or _is_called_off(each):
                draft.end(each, TaskEvent.CANCEL)
    for task in draft.in_role(*_STEPS):
        for each in (*draft.items(task), task):
            # A step that failed in a cancelled run is no dead letter, because it could not be retried.
            if each.status is TaskStatus.FAILED and draft.session.cancelled_at is None:
                _bury(draft, each)
    if any(each.is_out for task in draft.in_role(*_STEPS) for each in (task, *draft.items(task))):
        return
    if all(_is_done(draft, handler) for handler in handlers(draft)):
        _skip_unused(draft)
        draft.move_session(SessionEvent.SETTLE, ended_at=draft.now, due_at=None)


def _is_called_off(task: Task) -> bool:
    return task.awaits or task.status in (TaskStatus.READY, TaskStatus.PENDING_RETRY)


def handlers(draft: Draft) -> Iterable[Task]:
    """Yield the tasks that the end of the run calls for: compensations, the last step's first, then `onFailure`."""
    ended: dict[str, tuple[float, int]] = {}
    for place, step in enumerate(draft.definition.steps):
        # If the clock was set back, a step must still not be undone before a step that depends on it.
        times = [draft.by_key(step.key).ended_at or 0.0, *(ended[key][0] for key in step.depends_on)]
        ended[step.key] = (max(times), place)
    for key in sorted(ended, key=ended.__getitem__, reverse=True):
        compensation = draft.definition.by_key[key].compensation
        if compensation is not None and draft.by_key(key).status is TaskStatus.COMPLETED:
            yield draft.by_key(compensation)
    if draft.definition.on_failure is not None:
        told = draft.by_key(draft.definition.on_failure)
        if draft.session.cancelled_at is None or told.status is not TaskStatus.PENDING:
            yield told


def _is_done(draft: Draft, handler: Task) -> bool:
    """Begin a handler if it has not begun; return whether it has ended, in whichever way."""
    if handler.status is TaskStatus.PENDING:
        handler = release(draft, handler)
    if handler.status is TaskStatus.FAILED:
        _bury(draft, handler)
    return handler.status in TASK_ENDED


def _bury(draft: Draft, task: Task) -> None:
    """Make a dead letter of a task that failed for good, unless an open attempt of its fallback may still save it."""
    fallback = draft.of(task).fallback
    may_be_served = fallback is not None and draft.by_key(fallback).status in TASK_OPEN
    if not task.dead and not may_be_served and not tolerated(draft, task):
        draft.change(task, dead=True)


def _skip_unused(draft: Draft) -> None:
    """Skip the handlers that the run did not need."""
    for task in draft.in_role(Role.FALLBACK, Role.COMPENSATION, Role.ON_FAILURE):
        if task.status is TaskStatus.PENDING:
            draft.end(task, TaskEvent.SKIP)
