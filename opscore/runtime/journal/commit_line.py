"""The line in which commits and loads wait for the journal; like a mailbox, it outlives the journal's actor.

It is leaner than a mailbox, because everything durable goes through it: a place is only a submission and the task that
waits, without a message, a deadline or an actor's turn (ADR 12).
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
"""Commits and loads that may wait at the same time."""
GATHERED_ROUNDS_MAX: Final = 16
"""For how many rounds of the event loop the line may keep growing before it is served."""


@final
class Place:
    """One place in the line: the work, and the task that waits for it."""

    __slots__ = ("_task", "work")

    def __init__(self, work: Submission | Callable[[Snapshot], Any], task: trio.lowlevel.Task) -> None:
        self.work = work
        """A submission to apply, or a function that reads a snapshot."""
        self._task: trio.lowlevel.Task | None = task

    def answer(self, value: Any) -> None:
        """Answer the task that waits; only the first answer counts."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Value(value))

    def fail(self, error: BaseException) -> None:
        """Answer the task that waits with an error."""
        task, self._task = self._task, None
        if task is not None:
            trio.lowlevel.reschedule(task, outcome.Error(error))

    def leave(self, _: object) -> trio.lowlevel.Abort:
        """Let a cancelled task stop waiting for a read; the wait for a commit can't be cancelled."""
        if not callable(self.work):
            return trio.lowlevel.Abort.FAILED
        self._task = None
        return trio.lowlevel.Abort.SUCCEEDED


class CommitLine:
    """A bounded line, first come, first served, from which one journal takes."""

    def __init__(self) -> None:
        self._waiting: deque[Place] = deque()
        self._taker: trio.lowlevel.Task | None = None
        self._closed: str | None = None

    def __len__(self) -> int:
        return len(self._waiting)

    async def join(self, work: Submission | Callable[[Snapshot], Any]) -> Any:
        """Wait in line until the work is done, and return its result. Only a read's wait can be cancelled.

        Raises:
            NotReady: the line is closed, or full.
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
        """Wait until the line is not empty, let others join while it grows, and take at most `count_max` places.

        Tasks that the last commit woke join again within a round or two of the event loop. Starting with the first of
        them would leave the others to the next commit, and make the writer's thread and the event loop's contend for
        the interpreter.
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
        """Refuse everyone who waits, and everyone who joins from now on."""
        self._closed = reason
        self.refuse(NotReady(reason))

    def refuse(self, error: Exception) -> None:
        """Refuse everyone who waits; none of their work was done."""
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
    """Gives any task access to the journal.

    Args:
        line: the line in which commits and loads wait.
    """

    def __init__(self, line: CommitLine) -> None:
        self._line = line

    async def commit(self, submission: Submission) -> int:
        """Apply a submission durably; return its version. This can't be cancelled.

        Raises:
            Superseded: a precondition did not hold; nothing was applied.
            StoreFull: there is no room; nothing was applied.
            StoreDamaged: a value that it depends on is not what was written; nothing was applied.
            NotReady: the node has stopped; nothing was applied.
            CommitUnanswered: its outcome is unknown; read the rows again.
        """
        return cast("int", await self._line.join(submission))

    async def load(self, read: Callable[[Snapshot], ResultT]) -> ResultT:
        """Read from a snapshot that includes every submission sent before.

        Raises:
            NotReady: the node has stopped.
            CommitUnanswered: the disk does not answer.
        """
        return cast("ResultT", await self._line.join(read))
