"""The waiters, and how their operations reach a thread; this is the same for every store.

Each waiter is a trio task that submits an operation, waits until it is durable, and submits the next. They begin
together, and none begins another operation once the time is over.
"""

import itertools
import queue
import threading
import time
from collections.abc import Awaitable, Callable, Sequence
from typing import Any, Generic, Protocol, TypeVar

import attrs
import outcome
import trio

from opscore.runtime.journal.commit_line import GATHERED_ROUNDS_MAX

Submit = Callable[[int, int], Awaitable[None]]
"""Takes a waiter's number and an operation's number; returns once the operation is durable."""


@attrs.frozen(kw_only=True)
class Outcome:
    """The outcome of a run of waiters; times are in seconds."""

    seconds: float
    cpu_s: float
    """Processor time of the whole process, all its threads included."""
    latencies: list[float]
    """Latencies in ascending order, one for each operation."""
    acknowledged: list[int]
    """Numbers of the operations that were acknowledged as durable."""

    def quantile(self, share: float) -> float:
        return self.latencies[min(int(share * len(self.latencies)), len(self.latencies) - 1)]


async def run_waiters(submit: Submit, *, waiters: int, seconds: float, numbers: "itertools.count[int]") -> Outcome:
    """Let all waiters submit for a time."""
    latencies: list[float] = []
    acknowledged: list[int] = []
    clock = time.perf_counter

    async def wait(waiter: int, until: float) -> None:
        while (began := clock()) < until:
            number = next(numbers)
            await submit(waiter, number)
            latencies.append(clock() - began)
            acknowledged.append(number)

    started, cpu_started = clock(), time.process_time()
    async with trio.open_nursery() as nursery:
        for waiter in range(waiters):
            nursery.start_soon(wait, waiter, started + seconds)
    ended, cpu_ended = clock(), time.process_time()
    return Outcome(
        seconds=ended - started,
        cpu_s=cpu_ended - cpu_started,
        latencies=sorted(latencies),
        acknowledged=acknowledged,
    )


OperationT = TypeVar("OperationT")
AppliedT_contra = TypeVar("AppliedT_contra", contravariant=True)


class Store(Protocol[AppliedT_contra]):
    """What the thread calls, all of it in that thread."""

    def open(self) -> None:
        """Open the store."""

    def apply(self, operations: Sequence[AppliedT_contra]) -> None:
        """Make these operations durable, with one sync."""

    def close(self) -> None:
        """Close the store."""


@attrs.frozen(eq=False)
class _Job:
    operations: Sequence[Any]
    token: trio.lowlevel.TrioToken
    task: trio.lowlevel.Task


class HandOver(Generic[OperationT]):
    """Group commit in front of any store: one task gathers operations while a thread makes the last batch durable.

    This is what `JournalActor` and `ThreadWriter` do, without actors, checks and codec.
    """

    def __init__(self, store: Store[OperationT], batch_seconds: list[float]) -> None:
        self._store = store
        self._batch_seconds = batch_seconds
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._waiting: list[tuple[OperationT, trio.lowlevel.Task]] = []
        self._more = trio.Event()
        self._opened: queue.SimpleQueue[outcome.Outcome[None]] = queue.SimpleQueue()
        self._thread = threading.Thread(target=self._run, daemon=True)
        self._thread.start()
        self._opened.get().unwrap()

    async def submit(self, operation: OperationT) -> None:
        self._waiting.append((operation, trio.lowlevel.current_task()))
        self._more.set()
        await trio.lowlevel.wait_task_rescheduled(_not_cancellable)

    async def gather(self) -> None:
        """Serve until cancelled."""
        while True:
            if not self._waiting:
                self._more = trio.Event()
                await self._more.wait()
            # As in the journal: the waiters that the last batch woke are about to submit.
            seen = rounds = 0
            while seen < len(self._waiting) and rounds < GATHERED_ROUNDS_MAX:
                seen, rounds = len(self._waiting), rounds + 1
                await trio.lowlevel.checkpoint()
            line, self._waiting = self._waiting, []
            began = time.perf_counter()
            await self._in_thread([operation for operation, _ in line])
            self._batch_seconds.append(time.perf_counter() - began)
            for _, task in line:
                trio.lowlevel.reschedule(task)

    def close(self) -> None:
        self._jobs.put(None)
        self._thread.join()

    async def _in_thread(self, operations: Sequence[OperationT]) -> None:
        self._jobs.put(_Job(operations, trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()))
        await trio.lowlevel.wait_task_rescheduled(_not_cancellable)

    def _run(self) -> None:
        opened = outcome.capture(self._store.open)
        self._opened.put(opened)
        if isinstance(opened, outcome.Error):
            return
        while (job := self._jobs.get()) is not None:
            result = outcome.capture(self._store.apply, job.operations)
            job.token.run_sync_soon(trio.lowlevel.reschedule, job.task, result)
        self._store.close()


def _not_cancellable(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
