"""A node: the one façade that embedders and the gateway call.

Every answer is durable: what a call accepts is synced before it returns, and what a call shows was committed.
"""

from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import attrs
import trio

from opscore.actors.actor import Actor
from opscore.actors.clock import Clock, SystemClock
from opscore.actors.scheduler import Runnable
from opscore.runtime import delivery
from opscore.runtime.agents.local import LocalAgents
from opscore.runtime.calls.calls import CALLED_IN_TRIO
from opscore.runtime.calls.dead_letter_calls import DeadLetterCalls
from opscore.runtime.calls.directory_calls import DirectoryCalls
from opscore.runtime.calls.schedule_calls import ScheduleCalls
from opscore.runtime.core import Core, open_nursery
from opscore.runtime.journal.following import Follower
from opscore.runtime.journal.journal import JournalStatistics
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import SIGNATURES, SeenSignature
from opscore.runtime.journal.writer import ThreadWriter, Writer
from opscore.runtime.limits import Limits
from opscore.runtime.storage.lmdb_store import MAP_BYTES
from opscore.runtime.store import Store, Submission


@attrs.frozen(kw_only=True)
class NodeStatistics:
    """What a node holds at one moment."""

    open_sessions: int
    """Unfinished runs."""
    actors: int
    """Actors in memory, supervisors included. A run without an open attempt needs none."""
    deliveries: int
    """Attempts on their way to an agent, including those of local functions at work."""
    listeners: int
    """Calls that wait for a run to end, or for an agent to be drained."""
    journal: JournalStatistics
    """Commits since the node was opened."""


class Node(DirectoryCalls, DeadLetterCalls, ScheduleCalls):
    """A running runtime; `opscore.open_runtime` opens it. Call it in the trio run that opened it.

    What a call has written is synced to the disk before it returns, and what it reads was committed. If a call is
    cancelled, or ends by `CommitUnanswered` or an `ActorError`, what was asked may take effect all the same: read what
    is there, or repeat the call in a way that counts once. What is returned belongs to the caller, who may change it.

    Raises:
        RuntimeError: by each async method, if it is awaited elsewhere; nothing was done.
        NotReady: by each method that reads or writes, if the node has stopped, or stops while the call waits.
        StoreError: by each method that reads or writes, if the store can't be read or written.
        TypeError: by each method, if an id is not a string.
        ActorError: by async methods, if the part of the node that does the work crashes, or does not answer in time.
    """

    @property
    def limits(self) -> Limits:
        """The node's limits."""
        return self._core.limits

    def now(self) -> float:
        """Return the node's wall time, in Unix seconds."""
        return self._core.clock.now()

    def ready(self) -> str | None:
        """Return why new work would be refused or not be done, or None when all is well."""
        down = self._core.addresses.down()
        return self._core.stopped or self._not_ready or (f"{down} is being restarted" if down is not None else None)

    def drain(self, reason: str = "it is shutting down") -> None:
        """Take no new work, make no new offers, and end waiting claims and watchers early. Attempts can still end.

        Args:
            reason: why, as given to callers that are refused from now on.

        Raises:
            RuntimeError: it is called in another thread.
        """
        self._home.require_thread(CALLED_IN_TRIO, "node.drain")
        self._not_ready = reason
        self._drained.set()
        self._core.offering = False

    def statistics(self) -> NodeStatistics:
        """Return what the node holds at the moment."""
        return NodeStatistics(
            open_sessions=len(self._core.open_sessions),
            actors=len(self._core.addresses.system.snapshot()),
            deliveries=self._core.courier.statistics(),
            listeners=self._core.feed.statistics(),
            journal=self._core.meter.statistics(),
        )

    def follow(self, after: int = 0) -> Follower:
        """Return an asynchronous iterator over every record that is or will be committed, each once, in order.

        Nothing is buffered for a follower, so it may be slow. The iteration ends when the node drains.

        Args:
            after: the sequence number of the newest record that the caller already has; 0 for all that are kept.

        Raises:
            RecordsGone: while iterating, if retention has removed records that the follower has not read yet.
            NotReady: while iterating, once the node has stopped.
            RuntimeError: while iterating outside of the trio run that opened the node.
        """

        async def next_commit() -> bool:
            return await self.unless_draining(self._core.feed.next_commit) is not None

        def check() -> None:
            self._home.require_task("a node is followed in the trio that opened it", "anext, follower")
            self._core.refuse_stopped()

        return Follower(self._core.store, after=after, next_commit=next_commit, check=check)

    async def seen_before(self, signature: str) -> bool:
        """Return whether a request with this signature was accepted before.

        Args:
            signature: the signature, or any other text that identifies the request.
        """
        return self._read(lambda view: SIGNATURES.read(view, signature).row) is not None

    async def remember_signature(self, signature: str) -> None:
        """Remember the signature of a request for `signature_keep_s`, so that a replay has no effect.

        Args:
            signature: the signature, or any other text that identifies the request.
        """
        seen = SeenSignature(signature=signature, seen_at=self._core.clock.now())
        await self._core.addresses.journal.commit(Submission(writes=(SIGNATURES.put(seen),)))


@asynccontextmanager
async def open_node(
    path: str | Path,
    *,
    ways: Sequence[delivery.Delivery] = (),
    limits: Limits | None = None,
    clock: Clock | None = None,
    map_bytes: int = MAP_BYTES,
    make_writer: Callable[[Store], Writer] = ThreadWriter,
) -> AsyncIterator[Node]:
    """Open a node on a data directory, and run it for as long as the `async with` block runs.

    Unfinished runs in the directory continue at once. Leaving the block, also by an error or by cancellation, stops
    every actor in order and closes the store; runs that are unfinished then continue at the next opening.

    Args:
        path: the data directory; it is created if it does not exist.
        ways: how attempts reach remote agents; the first way that reaches an agent is used.
        limits: what the node admits, keeps and waits for.
        clock: wall time and randomness; the machine's by default.
        map_bytes: the size in bytes to which the store may grow (8 GiB); reserved sparsely.
        make_writer: makes what applies batches; a thread of its own, unless virtual time forbids threads.

    Yields:
        the node. It has read the unfinished work by then, and its methods may be called.

    Raises:
        StoreLocked: another process, or this one, has the directory open.
        StoreError: the directory can't be opened or written.
        CommitUncertain: while the node ran, a commit's sync failed; open it again to see what the disk holds.
        RuntimeError: it is opened outside of trio.
        TypeError: `limits` is not a `Limits`; nothing was opened.
    """
    limits = _limits_of(limits)
    if not trio.lowlevel.in_trio_task():
        raise RuntimeError(
            "a runtime is opened in trio; from asyncio "
            "`async with opscore.runtime.hosting.open_guest(lambda: opscore.open_runtime(path)) as guest`"
        )
    with open_store(Path(path), map_bytes=map_bytes) as store:
        writer = make_writer(store)
        try:
            async with run_node(store, writer=writer, ways=ways, limits=limits, clock=clock) as node:
                yield node
        finally:
            writer.close()


@asynccontextmanager
async def run_node(
    store: Store,
    *,
    writer: Writer,
    ways: Sequence[delivery.Delivery] = (),
    limits: Limits | None = None,
    clock: Clock | None = None,
    cast: Callable[[Actor[Any]], Actor[Any]] = lambda actor: actor,
    ready: deque[Runnable] | None = None,
) -> AsyncIterator[Node]:
    """Run a node on an open store and on the writer that applies its batches; both stay open.

    The arguments are all the ports a node has: `open_node` fills them for a process, `opscore.runtime.simulation` for
    a simulated world.

    Args:
        store: what the node reads.
        writer: applies the node's batches.
        ways: how attempts reach remote agents; the first way that reaches an agent is used.
        limits: what the node admits, keeps and waits for.
        clock: wall time and randomness; the machine's by default.
        cast: is applied to every actor when it is made, and returns the actor to run.
        ready: the queue in which actors wait for their turn; first come, first served by default.

    Raises:
        StoreError: the store can't be read or written.
        CommitUncertain: while the node ran, a commit's sync failed; open the store again to see what the disk holds.
        TypeError: `limits` is not a `Limits`.
    """
    limits = _limits_of(limits)
    async with open_nursery() as nursery:
        local = LocalAgents()
        core = Core(
            store=store,
            writer=writer,
            ways=(*ways, local),
            limits=limits,
            clock=clock or SystemClock(),
            nursery=nursery,
            cast=cast,
            ready=ready,
        )
        async with core.run():
            yield Node(core, local)


def _limits_of(given: Any) -> Limits:
    """Return the limits given, or the default ones. A wrong type is refused here, before an actor crashes on it."""
    if given is None:
        return Limits()
    if not isinstance(given, Limits):
        raise TypeError(f"expected limits as in opscore.Limits(lease_s=60.0), found {given!r}")
    return given
