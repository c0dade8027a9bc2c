"""A running tree of actors, from the first start to the last stop."""

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
    """A running tree of actors; `open_system` creates it."""

    def __init__(self, name: str, root: SupervisorCell) -> None:
        self.name = name
        """The name given to `open_system`."""
        self.dead_letters: DeadLetters = root.environment.dead_letters
        """Messages that no actor handled to the end."""
        self.registry: Registry = root.environment.registry
        """Well-known names of actors."""
        self.environment = root.environment
        """What all actors of the system share; for test kits."""
        self._root = root

    def ref(self, path: str) -> Ref[Any] | None:
        """Return the address of the live actor at a path, for example `/agents/agent-7`, or None."""
        cell = self._find(path)
        return cell.ref if isinstance(cell, ActorCell) else None

    def supervisor(self, path: str) -> Supervisor:
        """Return a handle to the supervisor at a path; the root's path is `/`.

        Raises:
            LookupError: There is no supervisor at that path.
        """
        cell = self._find(path)
        if not isinstance(cell, SupervisorCell):
            raise LookupError(f"there is no supervisor {path!r} in system {self.name!r}")  # noqa: TRY004
        return Supervisor(cell)

    def state(self, path: str) -> State | None:
        """Return the state of the actor or supervisor at a path, or None if there is none."""
        cell = self._find(path)
        return None if cell is None else cell.state

    def snapshot(self) -> tuple[ActorSnapshot, ...]:
        """Return a snapshot of each actor and supervisor, parents before children."""
        return tuple(self._root.snapshots())

    def statistics(self) -> SystemStatistics:
        """Return figures for the whole system."""
        environment = self.environment
        return SystemStatistics(
            actors=len(self._root.snapshots()),
            scheduler=environment.queue.statistics(),
            timers=len(environment.timers),
            dead_letters=environment.dead_letters.total,
        )

    async def wait_stopped(self) -> None:
        """Wait until the root supervisor has stopped by itself, because of its `auto_shutdown`.

        Cancelling this call has no effect on the system.
        """
        await self._root.wait_ended()

    def _find(self, path: str) -> Cell | None:
        cell: Cell | None = self._root
        for name in path.strip("/").split("/") if path.strip("/") else ():
            cell = cell.children.get(name) if isinstance(cell, SupervisorCell) else None
        return cell


class _Trunk:
    """The parent of the root supervisor, which is told how the root ends."""

    def __init__(self) -> None:
        self.settled = trio.Event()
        self.body = trio.CancelScope()
        self.cause: BaseException | None = None
        self.root: SupervisorCell | None = None
        self._abandoned = False

    # Ctrl-C is for the task that opened the system, which stops it in order.
    @trio.lowlevel.enable_ki_protection
    async def run(
        self, spec: SupervisorSpec, clock: Clock, dead_letters: DeadLetters, ready: deque[Runnable] | None
    ) -> None:
        """Run the tree until the root ends, shielded from cancellation so that the root decides the stopping order."""
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
        """Make the root stop everything."""
        self._abandoned = True
        if self.root is not None:
            self.root.request_stop(final=True)

    def child_ended(self, cell: Cell, exit_: Exit) -> None:
        """Note why the root ended; if it failed, cancel the body of `open_system`."""
        self.cause = exit_.cause
        if exit_.cause is not None:
            self.body.cancel()

    def child_leaves(self, cell: Cell) -> None:
        """Do nothing: the root does not leave by itself."""

    def failure(self) -> StartFailed | SystemFailed | None:
        """Return the error to raise from `open_system`, or None if the root did not fail."""
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

    The block is entered once every static child has started. Leaving it, also by an error or by cancellation, stops
    the children right to left, each with a stop message, a bounded wait and then cancellation. It returns when every
    actor is gone.

    Args:
        root: The root supervisor; the paths of its children are `/name`.
        name: Name of the system, to tell several in one program apart.
        clock: Wall time and randomness; the machine's by default.
        ready: The queue of actors that wait for their turn; first come, first served by default. A queue that orders
            them by a seed reveals what depends on the order.

    Raises:
        StartFailed: A static child could not be started within the restart intensity.
        SystemFailed: The root supervisor gave up while the system ran; the block is cancelled.
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
