"""Operations: steps of a task, as the domain commits them. Their contents are decided before the clock starts."""

from collections.abc import Iterator
from random import Random
from typing import Final

import attrs

from opscore.runtime.identity import new_id
from opscore.runtime.models import Record, Task, TaskStatus

SEED: Final = 7
BEGAN_AT: Final = 1_700_000_000.0
TASKS_AHEAD: Final = 25_000
STEPS: Final = (TaskStatus.PENDING, TaskStatus.READY, TaskStatus.DISPATCHED, TaskStatus.COMPLETED)


class Steps:
    """The steps of each waiter's task, one after another; the fourth is the last, and then comes another task."""

    def __init__(self) -> None:
        self._random = Random(SEED)
        self._ahead = [self._task() for _ in range(TASKS_AHEAD)]
        self._left: dict[int, Iterator[Task]] = {}

    def next_of(self, waiter: int) -> tuple[Task, bool]:
        """Return a waiter's next row, and whether it is the first of its task."""
        row = next(self._left.get(waiter, iter(())), None)
        if row is not None:
            return row, False
        self._left[waiter] = left = iter(self._ahead.pop() if self._ahead else self._task())
        return next(left), True

    def _task(self) -> list[Task]:
        return steps_of(new_id("ses", BEGAN_AT, self._random))


def steps_of(session_id: str) -> list[Task]:
    """A task at each of its steps."""
    begun = Task(task_id=f"{session_id}.0", session_id=session_id, key="measure", ordinal=0)
    return [attrs.evolve(begun, status=status) for status in STEPS]


def line_of(row: Task, number: int) -> Record:
    """Return the journal record of a step, which contains the number of the operation."""
    return Record(
        at=BEGAN_AT,
        entity="task",
        entity_id=row.task_id,
        session_id=row.session_id,
        kind=f"task.{row.status}",
        data={"taskKey": row.key, "attempt": number, "agentId": row.agent_id},
    )
