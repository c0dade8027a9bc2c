"""What follows from where a run stands: which tasks begin, which are skipped, and how the run comes to its end.

It is looked at anew after every step, in the order of the graph, so that what follows depends on the rows alone and
not on how they came to be. A paused run stands still: what happened meanwhile is taken up when it is resumed.
"""

from collections.abc import Iterable
from typing import Any

from opscore.runtime.definitions import Definition, Role, TaskKind
from opscore.runtime.lifecycle import SessionEvent, TaskEvent
from opscore.runtime.models import SESSION_ENDED, TASK_ENDED, TASK_WAITS, Failure, SessionStatus, Task, TaskStatus
from opscore.runtime.run import Draft

_STEPS = (Role.STEP, Role.FALLBACK)


def follow(draft: Draft) -> None:
    """Do everything that follows from where the run stands."""
    if draft.session.status in SESSION_ENDED or draft.session.status is SessionStatus.PAUSED:
        return
    if not draft.unwinding:
        _advance(draft)
    if draft.unwinding:
        _unwind(draft)


def fail_session(draft: Draft, error: Failure) -> None:
    """Let the run fail: nothing new begins, what is out with agents may still end, then it is undone."""
    draft.move_session(SessionEvent.FAIL, error=error)


def release(draft: Draft, task: Task) -> Task:
    """Let a task wait for an agent, or begin with what no agent does."""
    definition, now = draft.of(task), draft.now
    closes_at = task.closes_at
    if closes_at is None and definition.schedule_to_close_s is not None:
        closes_at = now + definition.schedule_to_close_s
    times_out_at = None if definition.timeout_s is None else now + definition.timeout_s
    begun: dict[str, Any] = {"started_at": now, "closes_at": closes_at, "due_at": earliest(times_out_at, closes_at)}
    match definition.kind:
        case TaskKind.SIGNAL:
            signal = draft.take_signal(definition.signal, task)
            if signal is not None:
                return draft.end(task, TaskEvent.COMPLETE, result=signal.payload)
            return draft.move(task, TaskEvent.AWAIT, **begun)
        case TaskKind.DELAY:
            over_at = now + float(definition.parameters["seconds"])
            return draft.move(task, TaskEvent.AWAIT, **{**begun, "due_at": earliest(over_at, closes_at)})
        case TaskKind.WORKFLOW:
            attempt = task.attempt + 1
            begun |= {"attempt": attempt, "child_session_id": _child_id(task, attempt)}
            return draft.move(task, TaskEvent.AWAIT, **begun)
        case TaskKind.AGENT | TaskKind.TOOL:
            start_by = None if definition.schedule_to_start_s is None else now + definition.schedule_to_start_s
            times = {"closes_at": closes_at, "due_at": earliest(start_by, closes_at)}
            return draft.move(task, TaskEvent.RELEASE, ready_at=now, **times)


def _child_id(task: Task, attempt: int) -> str:
    """The session that a task waits for, by a name that the same attempt always gives it."""
    return f"{task.task_id.replace('.', '-')}-{attempt}"


def earliest(*times: float | None) -> float | None:
    """The first of these times; nothing where none is set."""
    return min((time for time in times if time is not None), default=None)


# --- forwards -----------------------------------------------------------------------------------------------


def _advance(draft: Draft) -> None:
    """Begin what waits for nothing any more; with every step over, end the run."""
    for definition in draft.definition.steps:
        task = draft.tasks[definition.ordinal]
        if task.status is TaskStatus.PENDING:
            task = _considered(draft, task)
        if task.status is TaskStatus.FAILED and not tolerated(draft, task):
            _fall_back(draft, task)
            if draft.unwinding:
                return
    if all(_is_over(draft, draft.tasks[step.ordinal]) for step in draft.definition.steps):
        result = gathered(draft.definition, draft.tasks)
        _skip_unused(draft)
        draft.move_session(SessionEvent.COMPLETE, ended_at=draft.now, due_at=None, result=result)


def _considered(draft: Draft, task: Task) -> Task:
    """Begin a step once everything before it is over; skip it where all of that was skipped."""
    before = [draft.by_key(key) for key in draft.of(task).depends_on]
    if not all(_is_over(draft, each) for each in before):
        return task
    if before and all(each.status is TaskStatus.SKIPPED for each in before):
        return draft.end(task, TaskEvent.SKIP)
    return release(draft, task)


def _is_over(draft: Draft, task: Task) -> bool:
    """Whether what waits for a step may go on."""
    return task.status in (TaskStatus.COMPLETED, TaskStatus.SKIPPED) or tolerated(draft, task)


def tolerated(draft: Draft, task: Task) -> bool:
    """Whether a step failed and the run goes on all the same: its fallback was completed, or it need not succeed."""
    if task.status is not TaskStatus.FAILED:
        return False
    definition = draft.of(task)
    if definition.fallback is not None:
        instead = draft.by_key(definition.fallback)
        if instead.status is not TaskStatus.FAILED:
            return instead.status is TaskStatus.COMPLETED
    return definition.continue_on_failure


def _fall_back(draft: Draft, task: Task) -> None:
    """Begin a failed step's fallback; without one, or once that has failed too, the run fails."""
    fallback = draft.of(task).fallback
    instead = None if fallback is None else draft.by_key(fallback)
    if instead is not None and instead.status is TaskStatus.PENDING:
        instead = release(draft, instead)
    if instead is None or instead.status is TaskStatus.FAILED:
        _bury(draft, task)
        cause = task.error or Failure(message="unknown")
        fail_session(draft, Failure(message=f"task {task.key!r} failed: {cause.message}", code=cause.code))


def gathered(definition: Definition, tasks: Iterable[Task]) -> dict[str, Any]:
    """The results of the steps that no other step waits for, by their ids; one that was skipped has none."""
    by_key = {task.key: task for task in tasks}
    last = [step for step in definition.steps if not definition.dependents[step.key]]
    return {
        step.key: result_of(definition, by_key, step.key)
        for step in sorted(last, key=lambda step: step.ordinal)
        if by_key[step.key].status is not TaskStatus.SKIPPED
    }


def result_of(definition: Definition, by_key: dict[str, Task], key: str) -> Any:
    """The result of a step; the one of its fallback, where that was done in its place."""
    task, fallback = by_key[key], definition.by_key[key].fallback
    return by_key[fallback].result if task.status is TaskStatus.FAILED and fallback is not None else task.result


# --- backwards ----------------------------------------------------------------------------------------------


def _unwind(draft: Draft) -> None:
    """Call off what waits; once nothing is out any more, undo what was done, and end the run."""
    for task in draft.in_role(*_STEPS):
        for each in (task, *draft.items(task)):
            if each.status is TaskStatus.FAILED:
                _bury(draft, each)
            elif (each.status in TASK_WAITS and draft.of(each).role is Role.STEP) or _is_called_off(each):
                draft.end(each, TaskEvent.CANCEL)
    if any(each.is_out for task in draft.in_role(*_STEPS) for each in (task, *draft.items(task))):
        return
    if all(_is_done(draft, handler) for handler in _handlers(draft)):
        _skip_unused(draft)
        draft.move_session(SessionEvent.SETTLE, ended_at=draft.now, due_at=None)


def _is_called_off(task: Task) -> bool:
    return task.awaits or task.status in (TaskStatus.READY, TaskStatus.PENDING_RETRY)


def _handlers(draft: Draft) -> Iterable[Task]:
    """What the end of the run calls for, in its order: what was done last is undone first."""
    done = [task for task in draft.in_role(Role.STEP) if task.status is TaskStatus.COMPLETED]
    order = {step.ordinal: place for place, step in enumerate(draft.definition.steps)}
    for task in sorted(done, key=lambda task: (task.ended_at or 0.0, order[task.ordinal]), reverse=True):
        compensation = draft.of(task).compensation
        if compensation is not None:
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
    """Make a dead letter of a task that failed for good."""
    if not task.dead and not tolerated(draft, task):
        draft.change(task, dead=True)


def _skip_unused(draft: Draft) -> None:
    """Handlers that were never called for end with the run."""
    for task in draft.in_role(Role.FALLBACK, Role.COMPENSATION, Role.ON_FAILURE):
        if task.status is TaskStatus.PENDING:
            draft.end(task, TaskEvent.SKIP)
