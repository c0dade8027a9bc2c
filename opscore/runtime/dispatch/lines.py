"""The lines in which tasks wait for agents, as the dispatcher has them in memory: of a long line only the front.

The rows have every waiting task, in the order of its line. Memory holds a line up to some place, and nothing beyond
it. When few tasks are left, the next are requested; when there are too many, the last are dropped. Tasks that wait
before a closed gate stand aside: they do not count, but are dropped if they are beyond the last place.
"""

import heapq
import itertools
from collections.abc import Iterator
from typing import Final

import attrs

from opscore.runtime.waiting import LinePage, Place, ReadyTask, Requirement

SLACK: Final = 128
"""How many entries of tasks that no longer wait a line may keep, beyond as many as do wait."""
Entry = tuple[float, int, str]
"""A task in line: its rank, a number that keeps tasks of the same rank in order of arrival, and its id."""


@attrs.define
class _Line:
    entries: list[Entry] = attrs.field(factory=list)
    """A heap; outdated entries are skipped when they come to the front."""
    aside: dict[str, Entry] = attrs.field(factory=dict)
    """The entries that stand aside, by task."""
    count: int = 0
    """Tasks in memory that do not stand aside."""
    reached: Place | None = None
    """The last place that is in memory; None if that is the whole line."""
    is_read: bool = False
    """Whether the next tasks are being read."""


class Lines:
    """The tasks that wait, in order.

    Args:
        window: how many tasks of a line are read at a time.
    """

    def __init__(self, window: int) -> None:
        self._window = window
        self._ready: dict[str, ReadyTask] = {}
        self._lines: dict[Requirement, _Line] = {}
        self._order = itertools.count()
        self._wanted: set[Requirement] = set()
        # Hints that came while lines are read, and may be newer than what is read: tasks beyond the last place in
        # memory, and tasks that no longer wait.
        self._readings = 0
        self._beyond: dict[str, ReadyTask] = {}
        self._gone: set[str] = set()

    def __len__(self) -> int:
        return len(self._ready)

    def known(self, entry: Entry) -> ReadyTask:
        """Return the task of an entry, which is the first in its line."""
        return self._ready[entry[2]]

    # --- coming and going ---------------------------------------------------------------------------------

    def put(self, task: ReadyTask) -> ReadyTask | None:
        """Put a task in line; return the task as it waited before, if it did so in another place."""
        self._gone.discard(task.task_id)
        self._beyond.pop(task.task_id, None)
        before = self._ready.get(task.task_id)
        if before == task:
            return None
        line = self._lines.setdefault(task.requirement, _Line())
        if line.reached is not None and (task.rank, task.task_id) > line.reached:
            self._forget(task.task_id)
            if self._readings:
                self._beyond[task.task_id] = task
        else:
            # If the task is in memory already, the hint of a grant may have been missed: it waits anew, in a new place.
            self._stand_in(line, task)
        return before

    def _stand_in(self, line: _Line, task: ReadyTask) -> None:
        if line.aside.pop(task.task_id, None) is not None or task.task_id not in self._ready:
            line.count += 1
        self._ready[task.task_id] = task
        heapq.heappush(line.entries, (task.rank, next(self._order), task.task_id))
        if line.count > 2 * self._window and not line.is_read:
            self._cut(line)

    def remove(self, task_id: str) -> ReadyTask | None:
        """Remove a task that no longer waits; return it if it was in memory."""
        if self._readings:
            self._beyond.pop(task_id, None)
            self._gone.add(task_id)
        return self._forget(task_id)

    def _forget(self, task_id: str) -> ReadyTask | None:
        task = self._ready.pop(task_id, None)
        if task is not None:
            if self._lines[task.requirement].aside.pop(task_id, None) is None:
                self._count_down(task.requirement)
            self._tidy(task.requirement)
        return task

    def _tidy(self, requirement: Requirement) -> None:
        """Keep little of those who wait no longer: who stands before them may wait for good, and nobody look there."""
        line = self._lines[requirement]
        if not line.count and self._is_over(line):
            del self._lines[requirement]
        elif len(line.entries) > 2 * line.count + SLACK:
            line.entries = sorted(self._standing(line).values())

    def _is_over(self, line: _Line) -> bool:
        """Whether nobody waits in a line without entries."""
        return line.reached is None and not line.is_read and not line.aside

    # --- the front of a line ------------------------------------------------------------------------------

    def first(self, requirement: Requirement) -> Entry | None:
        """Return the first entry of a line, if there is one in memory."""
        line = self._lines.get(requirement)
        while line is not None and line.entries:
            entry = line.entries[0]
            if self._stands_for(line, entry):
                return entry
            heapq.heappop(line.entries)
        if line is not None and self._is_over(line):
            del self._lines[requirement]
        return None

    def is_unread(self, requirement: Requirement) -> bool:
        """Whether a line has more tasks than are in memory; those beyond can't be given out before they are read."""
        line = self._lines.get(requirement)
        return line is not None and line.reached is not None

    def step_aside(self, requirement: Requirement) -> Entry:
        """Take the first entry of a line out of it, to stand aside; return it."""
        line = self._lines[requirement]
        entry = heapq.heappop(line.entries)
        line.aside[entry[2]] = entry
        self._count_down(requirement)
        return entry

    def stands_aside(self, requirement: Requirement, entry: Entry) -> bool:
        """Whether the task of an entry still stands aside in that place."""
        line = self._lines.get(requirement)
        return line is not None and line.aside.get(entry[2]) == entry

    def step_back(self, requirement: Requirement, entry: Entry) -> bool:
        """Put an entry that stood aside back in line; return `False` if it no longer stands aside."""
        if not self.stands_aside(requirement, entry):
            return False
        line = self._lines[requirement]
        del line.aside[entry[2]]
        line.count += 1
        heapq.heappush(line.entries, entry)
        return True

    def _stands_for(self, line: _Line, entry: Entry) -> bool:
        """Whether the task of an entry still waits in that place."""
        task = self._ready.get(entry[2])
        return task is not None and entry[0] == task.rank and entry[2] not in line.aside

    def _standing(self, line: _Line) -> dict[str, Entry]:
        """Return the tasks in a line, each with its first entry: one that was offered in vain has several."""
        return {entry[2]: entry for entry in sorted(line.entries, reverse=True) if self._stands_for(line, entry)}

    # --- what is in memory --------------------------------------------------------------------------------

    def take_wanted(self) -> Iterator[tuple[Requirement, Place]]:
        """Yield the lines of which more has to be read, each with the place to read from; each is yielded once."""
        wanted, self._wanted = self._wanted, set()
        for requirement in wanted:
            line = self._lines[requirement]
            if line.reached is not None and not line.is_read:
                line.is_read = True
                self._readings += 1
                yield requirement, line.reached

    def take_page(self, page: LinePage) -> None:
        """Add the next tasks of a line, as they were read, corrected by the hints that came meanwhile."""
        line = self._lines.setdefault(page.requirement, _Line())
        if line.is_read:
            line.is_read = False
            self._readings -= 1
        line.reached = page.reached
        for task in page.tasks:
            heard = task.task_id in self._ready or task.task_id in self._gone or task.task_id in self._beyond
            if not heard:
                self.put(task)
        for task in [task for task in self._beyond.values() if task.requirement == page.requirement]:
            del self._beyond[task.task_id]
            self.put(task)
        if not self._readings:
            self._beyond, self._gone = {}, set()
        self._look(page.requirement, line)

    def _count_down(self, requirement: Requirement) -> None:
        line = self._lines[requirement]
        line.count -= 1
        self._look(requirement, line)

    def _look(self, requirement: Requirement, line: _Line) -> None:
        if line.reached is not None and not line.is_read and line.count <= self._window // 2:
            self._wanted.add(requirement)

    def _cut(self, line: _Line) -> None:
        """Keep only the front of a line in memory; the rows have the others."""
        entries = self._standing(line)
        # By rank and id, as in the rows: among tasks of the same rank, that differs from the order of arrival.
        standing = sorted(entries.values(), key=_place)
        reached = line.reached = _place(standing[self._window - 1])
        # A task that stands aside may be called up only by one that is dropped here. So it is dropped as well, to be
        # read again with the rows, or stands in line again if only its id puts it before the last place.
        for entry in [entry for entry in line.aside.values() if entry[0] >= reached[0]]:
            standing.append(line.aside.pop(entry[2]))
        for entry in standing:
            if _place(entry) > reached:
                del self._ready[entry[2]]
        line.entries = sorted(entry for entry in standing if _place(entry) <= reached)
        line.count = len(line.entries)


def _place(entry: Entry) -> Place:
    rank, _, task_id = entry
    return rank, task_id
