"""A whole tree of actors, from the first start to the last stop."""

from __future__ import annotations

import contextvars
from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Any

import trio

from opscore.actors.actor_cell import ActorCell
from opscore.actors.cell import Environment
from opscore.actors.clock import SystemClock
from opscore.actors.dead_letters import DeadLetters
from opscore.actors.errors import StartFailed, SystemFailed
from opscore.actors.groups import unwrapped
from opscore.actors.registry import Registry
from opscore.actors.scheduler import RunQueue, Worker
from opscore.actors.snapshot import SystemStatistics
from opscore.actors.supervisor import Supervisor, SupervisorCell
from opscore.actors.timers import Timers

if TYPE_CHECKING:
    from collections import deque
    from collections.abc import AsyncGenerator

    from opscore.actors.cell import Cell
    from opscore.actors.clock import Clock
    from opscore.actors.ref import Ref
    from opscore.actors.scheduler import Runnable
    from opscore.actors.snapshot import ActorSnapshot, State
    from opscore.actors.spec import SupervisorSpec
    from opscore.actors.supervision import Exit


class System:
    """A running tree of actors; `open_system` makes it."""

    def __init__(self, name: str, root: SupervisorCell) -> None:
        self.name = name
        """As given to `open_system`."""
        self.dead_letters: DeadLetters = root.environment.dead_letters
        """Messages that no actor handled to the end."""
        self.registry: Registry = root.environment.registry
        """Well-known names of actors."""
        self.environment = root.environment
        """What all its actors share, for test kits."""
        self._root = root

    def ref(self, path: str) -> Ref[Any] | None:
        """Return the address of a live actor by its path, for example `/agents/agent-7`, or None."""
        cell = self._find(path)
        return cell.ref if isinstance(cell, ActorCell) else None

    def supervisor(self, path: str) -> Supervisor:
        """Return a handle on a supervisor by its path; the root's is `/`.

        Raises:
            LookupError: There is no supervisor of that path.
        """
        cell = self._find(path)
        if not isinstance(cell, SupervisorCell):
            raise LookupError(f"there is no supervisor {path!r} in system {self.name!r}")  # noqa: TRY004
        return Supervisor(cell)

    def state(self, path: str) -> State | None:
        """Return where an actor or supervisor is in its life, or None if there is none of that path."""
        cell = self._find(path)
        return None if cell is None else cell.state

    def snapshot(self) -> tuple[ActorSnapshot, ...]:
        """Return every actor and supervisor as it is now, parents before children."""
        return tuple(self._root.snapshots())

    def statistics(self) -> SystemStatistics:
        """Return figures of the system as a whole."""
        environment = self.environment
        return SystemStatistics(
            actors=len(self._root.snapshots()),
            scheduler=environment.queue.statistics(),
            timers=len(environment.timers),
            dead_letters=environment.dead_letters.total,
        )

    async def wait_stopped(self) -> None:
        """Wait until the root supervisor has stopped by itself, as its `auto_shutdown` says.

        Cancelled, it stops waiting and nothing else.
        """
        await self._root.wait_ended()

    def _find(self, path: str) -> Cell | None:
        cell: Cell | None = self._root
        for name in path.strip("/").split("/") if path.strip("/") else ():
            cell = cell.children.get(name) if isinstance(cell, SupervisorCell) else None
        return cell


class _Trunk:
    """What the root grows from: it learns that the root ended, and why."""

    def __init__(self) -> None:
        self.settled = trio.Event()
        self.body = trio.CancelScope()
        self.cause: BaseException | None = None
        self.root: SupervisorCell | None = None
        self._abandoned = False

    # Ctrl-C belongs to whoever opened the system, who stops it in order.
    @trio.lowlevel.enable_ki_protection
    async def run(
        self, spec: SupervisorSpec, clock: Clock, dead_letters: DeadLetters, ready: deque[Runnable] | None
    ) -> None:
        """Run the tree until the root ends, shielded so that only the root decides the order of stopping."""
        if self._abandoned:
            return
        variables = contextvars.copy_context()
        timers = Timers()

        def spawn(worker: Worker, variables: contextvars.Context) -> None:
            variables.run(nursery.start_soon, worker.run)

        with trio.CancelScope(shield=True):
            async with trio.open_nursery() as nursery:
                environment = Environment(
                    clock=clock,
                    timers=timers,
                    dead_letters=dead_letters,
                    registry=Registry(),
                    queue=RunQueue(spawn, trio.lowlevel.current_clock().current_time, variables, ready=ready),
                    nursery=nursery,
                    variables=variables,
                )
                environment.spawn(timers.run)
                self.root = SupervisorCell("/", spec, self, environment, root=True)
                self.root.start()
                await self.root.wait_settled()
                self.settled.set()
                await self.root.wait_ended()
                nursery.cancel_scope.cancel()

    def abandon(self) -> None:
        """Have the root stop everything."""
        self._abandoned = True
        if self.root is not None:
            self.root.request_stop(final=True)

    def child_ended(self, cell: Cell, exit_: Exit) -> None:
        """Note why the root ended, and release whoever works with the system."""
        self.cause = exit_.cause
        if exit_.cause is not None:
            self.body.cancel()

    def child_leaves(self, cell: Cell) -> None:
        """A root does not leave by itself."""

    def failure(self) -> StartFailed | SystemFailed | None:
        """Return what the root's end means to whoever opened the system."""
        if self.cause is None:
            return None
        if self.root is not None and self.root.has_started:
            return SystemFailed(self.cause)
        return self.cause if isinstance(self.cause, StartFailed) else StartFailed("/", self.cause)


@asynccontextmanager
async def open_system(
    root: SupervisorSpec,
    *,
    name: str = "opscore",
    clock: Clock | None = None,
    ready: deque[Runnable] | None = None,
) -> AsyncGenerator[System]:
    """Run a tree of actors for as long as the `async with` block runs.

    The block is entered once every static child has started. Leaving it, also by an error or by cancellation,
    stops the children right to left, each with its stop message, a bounded wait and then cancellation, and
    returns when every actor is gone.

    Args:
        root: The root supervisor; its children's paths are `/name`.
        name: Which system this is, where a program has several.
        clock: Wall time and randomness; the machine's by default.
        ready: Where actors wait for their turn; first come, first served by default. One that hands them out in
            another order, by a seed, shows what depends on the order.

    Raises:
        StartFailed: A static child did not start within the restart intensity.
        SystemFailed: The root supervisor gave up while the system ran; the body is cancelled.
    """
    clock = clock if clock is not None else SystemClock()
    dead_letters = DeadLetters(clock)
    trunk = _Trunk()
    error: BaseException | None = None
    try:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trunk.run, root, clock, dead_letters, ready)
            try:
                await trunk.settled.wait()
                if trunk.root is not None and trunk.cause is None:
                    with trunk.body:
                        yield System(name, trunk.root)
            except BaseException as raised:  # noqa: BLE001 (raised again below, outside of the nursery's group)
                error = raised
            finally:
                trunk.abandon()
    except BaseExceptionGroup as group:
        raise unwrapped(group) from None
    failure = trunk.failure()
    if failure is not None and (error is None or isinstance(error, Exception | trio.Cancelled)):
        failure.__context__ = error
        raise failure from trunk.cause
    if error is not None:
        raise error
