"""The thread that writes to the store, and its interface in trio.

A thread can't be killed and LMDB can't be opened twice in one process, so the thread belongs to the node and
outlives any incarnation of the journal's actor. It applies one batch at a time; what waits meanwhile becomes the next
batch, which is the group commit.
"""

import queue
import threading
from collections.abc import Sequence
from typing import Protocol

import attrs
import outcome
import trio

from opscore.runtime.errors import CommitUncertain, NotReady
from opscore.runtime.store import Outcomes, Store, Submission


class Writer(Protocol):
    """Applies batches; the simulated one has no thread."""

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch durably. It can't be cancelled once it is submitted."""

    async def settled(self) -> None:
        """Wait until no batch is under way, such as one that a crashed journal left behind."""

    def close(self) -> None:
        """Finish the batch that is under way, and take no more."""


@attrs.frozen(eq=False)
class _Job:
    batch: Sequence[Submission]
    token: trio.lowlevel.TrioToken
    task: trio.lowlevel.Task


class ThreadWriter:
    """A writer with a dedicated thread. After a commit whose sync failed, it refuses every batch."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._jobs: queue.SimpleQueue[_Job | None] = queue.SimpleQueue()
        self._turn = trio.Lock()
        self._failed: CommitUncertain | None = None
        self._closed = False
        # A daemon thread, because a disk that never answers must not keep the process from ending.
        self._thread = threading.Thread(target=self._run, name="opscore-writer", daemon=True)
        self._thread.start()

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch durably.

        Raises:
            StoreFull: there is no room; nothing was applied.
            CommitUncertain: its sync failed, or that of an earlier batch; the node has to stop.
            NotReady: the writer is closed.
        """
        try:
            self._turn.acquire_nowait()
        except trio.WouldBlock:
            with trio.CancelScope(shield=True):
                await self._turn.acquire()
        try:
            if self._failed is not None:
                raise self._failed
            if self._closed:
                raise NotReady("the store is closed")
            return await self._in_thread(batch)
        finally:
            self._turn.release()

    async def _in_thread(self, batch: Sequence[Submission]) -> Outcomes:
        self._jobs.put(_Job(batch, trio.lowlevel.current_trio_token(), trio.lowlevel.current_task()))
        try:
            result: Outcomes = await trio.lowlevel.wait_task_rescheduled(_not_cancellable)
        except CommitUncertain as error:
            self._failed = error
            raise
        return result

    async def settled(self) -> None:
        """Wait until no batch is under way."""
        async with self._turn:
            pass

    def close(self, timeout_s: float = 10.0) -> None:
        """End the thread after the batch that is under way, and wait for that at most `timeout_s` seconds."""
        self._closed = True
        self._jobs.put(None)
        self._thread.join(timeout_s)

    def _run(self) -> None:
        while (job := self._jobs.get()) is not None:
            result = outcome.capture(self._store.apply, job.batch)
            job.token.run_sync_soon(trio.lowlevel.reschedule, job.task, result)


def _not_cancellable(_: object) -> trio.lowlevel.Abort:
    return trio.lowlevel.Abort.FAILED
