"""`forEach` tasks: some items of a list are in progress at once, and their results have the order of the list."""

from collections.abc import Iterator
from typing import Any, Final

from opscore.runtime.codec import encode_json, type_name
from opscore.runtime.errors import ExpressionFailed
from opscore.runtime.identity import numbered
from opscore.runtime.models import TASK_WAITS, Failure, Task, TaskStatus
from opscore.runtime.runs.lifecycle import TaskEvent
from opscore.runtime.runs.releasing import release
from opscore.runtime.runs.run import Draft

LIST_BYTES_MAX: Final = 256 * 1024
"""Size of a list as JSON; it is kept in its task's row."""


def begin(draft: Draft, task: Task) -> Task:
    """Evaluate the list of a `forEach` task, and begin its first items.

    Raises:
        ExpressionFailed: its value is not a list, or is too long.
    """
    definition = draft.of(task)
    assert definition.for_each is not None, "it is done for each item of a list"
    values: Any = definition.for_each.evaluate(draft.standing().scope(definition.for_each.task_keys, task))
    if not isinstance(values, list):
        raise ExpressionFailed(f"forEach: expected a list, found {type_name(values)}")
    if len(values) > definition.items_max:
        raise ExpressionFailed(f"forEach: items_max allows {definition.items_max:,} items, found {len(values):,}")
    if len(encode_json(values)) > LIST_BYTES_MAX:
        raise ExpressionFailed(f"forEach: a list has at most {LIST_BYTES_MAX:,} bytes as JSON")
    return go_through(draft, draft.move(task, TaskEvent.AWAIT, started_at=draft.now, items=values))


def go_through(draft: Draft, task: Task) -> Task:
    """Begin as many items as may be in progress at once; end the task with its last item, or when one has failed."""
    definition, values = draft.of(task), task.items or []
    if draft.tally(task).failed and not definition.continue_on_failure:
        return _fail(draft, task)
    # In a run that is retried, many items may have to begin anew; they are searched for once.
    pending = (item for item in draft.items(task) if item.status is TaskStatus.PENDING)
    waiting = iter(tuple(pending) if draft.tally(task).pending else ())
    while _open(draft, task) < definition.concurrency and _next(draft, task, waiting, len(values)):
        if draft.tally(task).failed and not definition.continue_on_failure:
            return _fail(draft, task)
    if draft.tally(task).ended < len(values):
        return task
    return draft.end(task, TaskEvent.COMPLETE)


def wind_up(draft: Draft, task: Task) -> Task:
    """End a task of an unwinding run, once no item is open; its outcome follows from those of its items."""
    begun = draft.items(task)
    if _open(draft, task):
        return task
    if draft.tally(task).failed and not draft.of(task).continue_on_failure:
        return _fail(draft, task)
    whole = len(begun) == len(task.items or ())
    done = whole and all(item.status in (TaskStatus.COMPLETED, TaskStatus.FAILED) for item in begun)
    return draft.end(task, TaskEvent.COMPLETE if done else TaskEvent.CANCEL)


def are_called_off(draft: Draft, task: Task) -> bool:
    """Whether a task is an item of a list in which another has failed for good, so that it gets no further attempt."""
    return task.item is not None and bool(draft.tally(task).failed) and not draft.of(task).continue_on_failure


def _open(draft: Draft, task: Task) -> int:
    tally = draft.tally(task)
    return len(draft.items(task)) - tally.ended - tally.pending


def _next(draft: Draft, task: Task, waiting: Iterator[Task], count: int) -> bool:
    """Begin the next item, those that have to begin anew first; return `False` if there is none."""
    item, place = next(waiting, None), len(draft.items(task))
    if item is None and place < count:
        item = Task(
            task_id=numbered(task.task_id, place, count),
            session_id=task.session_id,
            key=task.key,
            ordinal=task.ordinal,
            item=place,
        )
        draft.add_item(item)
    if item is None:
        return False
    release(draft, item)
    return True


def _fail(draft: Draft, task: Task) -> Task:
    """Cancel the items that wait; once none is open, fail the task with the error of the item that failed first."""
    for item in tuple(draft.items(task)):
        if item.status in TASK_WAITS or item.awaits:
            draft.end(item, TaskEvent.CANCEL)
    if _open(draft, task):
        return task
    failed = (item for item in draft.items(task) if item.status is TaskStatus.FAILED)
    first = min(failed, key=lambda item: item.ended_at or 0.0)
    cause = first.error or Failure(message="unknown")
    error = Failure(message=f"item {first.item} failed: {cause.message}", code=cause.code)
    return draft.end(task, TaskEvent.FAIL, error=error)
