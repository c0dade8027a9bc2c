"""Counts of the items of a list, kept up as they change: a list may have ten thousand, and changes one by one."""

from collections.abc import Sequence
from typing import Final

import attrs

from opscore.runtime.models import TASK_ENDED, Task, TaskStatus


@attrs.frozen
class Tally:
    """Counts of the items that a `forEach` task has begun so far, by their state."""

    pending: int = 0
    """Items of a retried run that have to begin anew."""
    ended: int = 0
    failed: int = 0
    """Those of the ended items that failed."""
    out: int = 0
    """Items of which an agent has an open attempt."""

    def moved(self, old: Task | None, new: Task) -> "Tally":
        """Return the tally after an item changed, or was added."""
        before, after = _NOTHING if old is None else _counted_as(old), _counted_as(new)
        if before == after:
            return self
        return Tally(
            self.pending + after[0] - before[0],
            self.ended + after[1] - before[1],
            self.failed + after[2] - before[2],
            self.out + after[3] - before[3],
        )


NO_ITEMS: Final = Tally()
_NOTHING: Final = (False, False, False, False)


def _counted_as(item: Task) -> tuple[bool, bool, bool, bool]:
    """Return what an item adds to each count, in the order of the tally's fields."""
    status = item.status
    return status is TaskStatus.PENDING, status in TASK_ENDED, status is TaskStatus.FAILED, item.is_out


def tallied(items: Sequence[Task]) -> Tally:
    """Count items by their state."""
    statuses = [item.status for item in items]
    return Tally(
        pending=statuses.count(TaskStatus.PENDING),
        ended=sum(status in TASK_ENDED for status in statuses),
        failed=statuses.count(TaskStatus.FAILED),
        out=sum(item.is_out for item in items),
    )
