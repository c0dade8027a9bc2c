"""The line in which commits and loads wait for the journal: it outlives the journal's actor, as a mailbox would.

It is a mailbox with less around it, because everything that is durable goes through it: a place is a submission and
the task that waits, with no message, no deadline and no switch to an actor's turn in between (ADR 12).
"""

from collections import deque
from collections.abc import Callable
from typing import Any, Final, TypeVar, cast, final

import outcome
import trio

from opscore.runtime.errors import NotReady
from opscore.runtime.store import Snapshot, Submission

ResultT = TypeVar("ResultT")

LINE_MAX: Final = 262_144
"""Commits and loads that may wait at once."""
GATHERED_ROUNDS_MAX: Final = 16
"""How many rounds of the loop the line may go on growing before its head is served."""


@final
class Place:
    """One place in the line: what is to be done, and who waits for it."""

    __slots__ = ("_task", "work")

    def __init__(self, work: Submission | Callable[[Snapshot], Any], task: trio.lowlevel.Task) -> None:
        self.work = work
        """A submission to apply, or a read to do."""
        self._task: trio.lowlevel.Task | None = task

    def answer(self, value: Any) -> None:
        """Answer who waits; the first answer counts."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Value(value))

    def fail(self, error: BaseException) -> None:
        """Answer who waits with an error."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Error(error))

    def leave(self, _: object) -> trio.lowlevel.Abort:
        """Nobody waits any more: its task is cancelled, and a read, unlike a commit, may be given up."""
        if not callable(self.work):
            return trio.lowlevel.Abort.FAILED
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class CommitLine:
    """First come, first served; bounded. One journal takes from it."""

    def __init__(self) -> None:
        self._waiting: deque[Place] = deque()
        self._taker: trio.lowlevel.Task | None = None
        self._closed: str | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def join(self, work: Submission | Callable[[Snapshot], Any]) -> Any:
        """Stand in line until it has been done; a submission's wait can't be cancelled, a read's can.

        Raises:
            NotReady: the line is closed, or as long as it may be.
        """
        if self._closed is not None:
            raise NotReady(self._closed)
        if len(self._waiting) >= LINE_MAX:
            raise NotReady(f"{LINE_MAX:,} commits wait already", retry_after_s=1.0)
        place = Place(work, trio.lowlevel.current_task())
        self._waiting.append(place)
        self._wake()
        return await trio.lowlevel.wait_task_rescheduled(place.leave)

    async def take(self, count_max: int) -> list[Place]:
        """Wait for somebody to stand in line, let everyone join who is about to, and take the first of them.

        Whoever was woken by the commit before comes again within a round or two of the loop. To start with the first
        of them would leave the others to the next commit, and have the writer's thread and the loop's contend for the
        interpreter.
        """
        if not self._waiting:
            self._taker = trio.lowlevel.current_task()
            await trio.lowlevel.wait_task_rescheduled(self._stop_waiting)
        seen = rounds = 0
        while seen < len(self._waiting) < count_max and rounds < GATHERED_ROUNDS_MAX:
            seen, rounds = len(self._waiting), rounds + 1
            await trio.lowlevel.checkpoint()
        return [self._waiting.popleft() for _ in range(min(count_max, len(self._waiting)))]

    def close(self, reason: str) -> None:
        """Refuse who waits and who comes."""
        self._closed = reason
        self.refuse(NotReady(reason))

    def refuse(self, error: Exception) -> None:
        """Refuse who waits; nothing of it was done."""
        while self._waiting:
            self._waiting.popleft().fail(error)

    def _wake(self) -> None:
        taker, self._taker = self._taker, None
        if taker is not None:
            trio.lowlevel.reschedule(taker)

    def _stop_waiting(self, _: object) -> trio.lowlevel.Abort:
        self._taker = None
        return trio.lowlevel.Abort.SUCCEEDED


class Journal:
    """How commits and loads reach the journal, from any task.

    Args:
        line: where they wait.
    """

    def __init__(self, line: CommitLine) -> None:
        self._line = line

    async def commit(self, submission: Submission) -> int:
        """Apply a submission durably; returns the version of what it wrote. Not cancellable.

        Raises:
            Superseded: a precondition did not hold; nothing of it was applied.
            StoreFull: nothing was applied.
            StoreDamaged: a value that it depends on is not what was written; nothing was applied.
            NotReady: the node has stopped; nothing was applied.
            CommitUnanswered: what became of it is not known; read the rows again.
        """
        return cast("int", await self._line.join(submission))

    async def load(self, read: Callable[[Snapshot], ResultT]) -> ResultT:
        """Read behind every submission sent before.

        Raises:
            NotReady: the node has stopped.
            CommitUnanswered: the disk does not answer.
        """
        return cast("ResultT", await self._line.join(read))
