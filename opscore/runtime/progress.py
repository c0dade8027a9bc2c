"""What follows from where a run stands: which tasks begin, which are skipped, and how the run comes to its end.

It is looked at anew after every step, in the order of the graph, so that what follows depends on the rows alone and
not on how they came to be. A paused run stands still: what happened meanwhile is taken up when it is resumed.
"""

from collections.abc import Iterable

from opscore.runtime import items
from opscore.runtime.definitions.definition import Role
from opscore.runtime.errors import ExpressionFailed, LimitExceeded
from opscore.runtime.lifecycle import SessionEvent, TaskEvent
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
from opscore.runtime.releasing import release
from opscore.runtime.run import Draft
from opscore.runtime.values import RESULT_TOO_LARGE, check_value

_STEPS = (Role.STEP, Role.FALLBACK)


def follow(draft: Draft) -> None:
    """Do everything that follows from where the run stands."""
    if draft.session.status in SESSION_ENDED or draft.session.status is SessionStatus.PAUSED:
        return
    if not draft.session.unwinding:
        _advance(draft)
    if draft.session.unwinding:
        _unwind(draft)


def fail_session(draft: Draft, error: Failure) -> None:
    """Let the run fail: nothing new begins, what is out with agents may still end, then it is undone."""
    draft.move_session(SessionEvent.FAIL, error=error)


# --- forwards -----------------------------------------------------------------------------------------------


def _advance(draft: Draft) -> None:
    """Begin what waits for nothing any more; with every step over, end the run."""
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
            # Each of them may be as large as a result; what is too large for the run's row is gathered as it is read.
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
    """Begin a step once everything before it is over; skip it where all of that was skipped."""
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
    """Whether what waits for a step may go on."""
    return task.status in (TaskStatus.COMPLETED, TaskStatus.SKIPPED) or tolerated(draft, task)


def tolerated(draft: Draft, task: Task) -> bool:
    """Whether a step failed and the run goes on all the same: its fallback was completed, or it need not succeed.

    A fallback that failed too is tolerated with the step that it was done for, and an item where its list goes on.
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
    """The step that a fallback is done for."""
    return next(draft.by_key(each.key) for each in draft.definition.steps if each.fallback == fallback.key)


def _fall_back(draft: Draft, task: Task) -> None:
    """Begin a failed step's fallback; without one, or once that has failed too, the run fails."""
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
    """Call off what waits; once nothing is out any more, undo what was done, and end the run."""
    for task in draft.in_role(*_STEPS):
        for each in (*draft.items(task), task):
            if each.awaits and each.items is not None:
                each = items.wind_up(draft, each)  # noqa: PLW2901 (it is the same task, as it stands then)
            elif (each.status in TASK_WAITS and draft.of(each).role is Role.STEP) or _is_called_off(each):
                draft.end(each, TaskEvent.CANCEL)
    for task in draft.in_role(*_STEPS):
        for each in (*draft.items(task), task):
            # A run that is cancelled fails by nothing, and nothing of it could be tried again.
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
    """What the end of the run calls for, in its order: what was done last is undone first."""
    ended: dict[str, tuple[float, int]] = {}
    for place, step in enumerate(draft.definition.steps):
        # A clock that was set back must not have a step undone before one that came after it.
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
    """Whether a handler has come to its end, whichever; begins it if it has not begun."""
    if handler.status is TaskStatus.PENDING:
        handler = release(draft, handler)
    if handler.status is TaskStatus.FAILED:
        _bury(draft, handler)
    return handler.status in TASK_ENDED


def _bury(draft: Draft, task: Task) -> None:
    """Make a dead letter of a task that failed for good; not as long as the fallback that is out may still serve it."""
    fallback = draft.of(task).fallback
    may_be_served = fallback is not None and draft.by_key(fallback).status in TASK_OPEN
    if not task.dead and not may_be_served and not tolerated(draft, task):
        draft.change(task, dead=True)


def _skip_unused(draft: Draft) -> None:
    """Handlers that were never called for end with the run."""
    for task in draft.in_role(Role.FALLBACK, Role.COMPENSATION, Role.ON_FAILURE):
        if task.status is TaskStatus.PENDING:
            draft.end(task, TaskEvent.SKIP)
