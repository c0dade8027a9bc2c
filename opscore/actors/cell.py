"""A place in the tree: what runs in it comes and goes, its name and mailbox stay."""

from __future__ import annotations

import enum
import logging
from abc import ABC, abstractmethod
from contextvars import Context as Variables
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from opscore.actors.clock import Clock
from opscore.actors.dead_letters import DeadLetters
from opscore.actors.errors import StartFailed
from opscore.actors.mailbox import HANDLING
from opscore.actors.supervision import Exit, Record
from opscore.actors.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from opscore.actors.mailbox import Mailbox
    from opscore.actors.supervision import ChildSpec, SupervisorSpec
    from opscore.actors.timers import Timer

_LOGGER = logging.getLogger("opscore.actors")
_OVERDUE_EVERY_S = 1.0


class State(enum.Enum):
    """Where a cell is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    DOWN = "down"
    """No incarnation runs; one may follow."""
    GONE = "gone"


@attrs.frozen(kw_only=True)
class ActorSnapshot:
    """One actor or supervisor as it was at one moment."""

    name: str
    """Its path."""
    state: State
    incarnation: int
    restarts: int
    depth: int
    """Messages waiting."""
    high_water: int
    handled: int
    dropped: int
    failed: int
    """Incarnations that ended with an error."""
    last_error: BaseException | None


@attrs.frozen(kw_only=True)
class Environment:
    """What every cell of one system shares."""

    clock: Clock
    timers: Timers
    dead_letters: DeadLetters
    nursery: trio.Nursery
    variables: Variables
    """Context variables of whoever opened the system; actors start from these, not from their starter's."""

    def spawn(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a function as a task of the system."""
        self.variables.run(self.nursery.start_soon, async_fn, *args)


class Parent(Protocol):
    """Who learns how the incarnations of a cell end."""

    def child_ended(self, cell: Cell, exit_: Exit) -> None:
        """Note the end of an incarnation."""
        ...

    def child_leaves(self, cell: Cell) -> None:
        """Note that a child is ending for good by itself; its name is free."""
        ...


class Cell(ABC):
    """Runs one incarnation at a time, in one task with one cancel scope, and reports its end."""

    def __init__(
        self, path: str, spec: ChildSpec[Any] | SupervisorSpec, parent: Parent, environment: Environment
    ) -> None:
        self.path = path
        self.spec = spec
        self.state = State.NEW
        self.incarnation = 0
        self.failed = 0
        self.last_error: BaseException | None = None
        self.last_exit: Exit | None = None
        self.record = Record()
        self.parent = parent
        self.environment = environment
        self.crash: BaseException | None = None
        self.asked_to_stop = False
        self._scope = trio.CancelScope()
        self._settled = trio.Event()
        self._ended = trio.Event()
        self._started_at: float | None = None
        self._timer: Timer | None = None

    @property
    @abstractmethod
    def mailbox(self) -> Mailbox:
        """Where its messages wait."""

    @property
    def running(self) -> bool:
        """Whether an incarnation runs, be it only starting or stopping."""
        return self.state in {State.STARTING, State.RUNNING, State.STOPPING}

    @property
    def has_started(self) -> bool:
        """Whether the newest incarnation came through its start, even if it has ended since."""
        return self._started_at is not None

    def start(self) -> None:
        """Begin the next incarnation."""
        assert not self.running, "one incarnation at a time"
        assert self.state is not State.GONE, "what is gone stays gone"
        self._cancel_timer()
        self.state = State.STARTING
        self.incarnation += 1
        self.crash = None
        self.asked_to_stop = False
        self._started_at = None
        self._scope = trio.CancelScope()
        self._settled = trio.Event()
        self._ended = trio.Event()
        self.mailbox.signals.clear()
        self.environment.spawn(self._run)

    def start_after(self, delay_s: float) -> None:
        """Begin the next incarnation after a delay in seconds."""
        self._cancel_timer()
        self._timer = self.environment.timers.call_later(delay_s, self.start)

    async def wait_settled(self) -> None:
        """Wait until the incarnation has started or ended."""
        await self._settled.wait()

    async def wait_ended(self) -> None:
        """Wait until no incarnation runs."""
        if self.running:
            await self._ended.wait()

    def request_stop(self, *, final: bool) -> None:
        """Ask the incarnation to end: the stop message now, cancellation after `shutdown_s`.

        Args:
            final: Whether no other incarnation follows.
        """
        self.asked_to_stop = True
        if self.running:
            if self.state is not State.STOPPING:
                self.state = State.STOPPING
                self._timer = self.environment.timers.call_later(self.spec.shutdown_s, self._overrun)
            self._ask_to_stop(final=final)
            return
        self._cancel_timer()
        if final:
            self.close()

    def kill(self) -> None:
        """Cancel whatever the incarnation is doing."""
        self._scope.cancel()

    def fail(self, cause: BaseException) -> None:
        """Crash the incarnation from outside its handlers."""
        if self.crash is None:
            self.crash = cause
        self._scope.cancel()

    @abstractmethod
    def close(self) -> None:
        """Let no other incarnation follow."""

    @abstractmethod
    def restarting(self) -> None:
        """Note that another incarnation will follow the one that ended."""

    @abstractmethod
    def snapshots(self) -> list[ActorSnapshot]:
        """Return the state of this cell and of those below it."""

    @abstractmethod
    def _ask_to_stop(self, *, final: bool) -> None:
        """Deliver the stop message."""

    @abstractmethod
    async def _live(self) -> None:
        """Run one incarnation from start to end."""

    @abstractmethod
    def _close_down(self, cause: BaseException | None) -> None:
        """Account for what the incarnation left unfinished."""

    def snapshot(self) -> ActorSnapshot:
        """Return the state of this cell."""
        mailbox = self.mailbox.statistics()
        return ActorSnapshot(
            name=self.path,
            state=self.state,
            incarnation=self.incarnation,
            restarts=max(0, self.incarnation - 1),
            depth=mailbox.depth,
            high_water=mailbox.high_water,
            handled=mailbox.handled,
            dropped=mailbox.dropped,
            failed=self.failed,
            last_error=self.last_error,
        )

    def _mark_started(self) -> None:
        if self.state is State.STARTING:
            self.state = State.RUNNING
        self._started_at = trio.current_time()
        self._settled.set()

    async def _run(self) -> None:
        HANDLING.set(self.mailbox)
        self.mailbox.task = trio.lowlevel.current_task()
        cause: BaseException | None = None
        try:
            with self._scope:
                await self._live()
        except Exception as error:  # noqa: BLE001 (whatever an actor raises is for its supervisor to judge)
            cause = error
        finally:
            self._finish(self.crash if self.crash is not None else cause)

    def _finish(self, cause: BaseException | None) -> None:
        self._cancel_timer()
        self.mailbox.task = None
        self.state = State.DOWN
        began = self._started_at
        exit_ = Exit(
            name=self.path,
            incarnation=self.incarnation,
            cause=cause,
            ran_s=0.0 if began is None else trio.current_time() - began,
        )
        self.last_exit = exit_
        if cause is not None:
            self.failed += 1
            self.last_error = cause
            self._log_crash(cause)
        self._close_down(cause)
        self._settled.set()
        self._ended.set()
        self.parent.child_ended(self, exit_)

    def _log_crash(self, cause: BaseException) -> None:
        error = cause.cause if isinstance(cause, StartFailed) else cause
        _LOGGER.error(
            "%s failed %s (incarnation %d): %s: %s",
            self.path,
            "to start" if self._started_at is None else "while running",
            self.incarnation,
            type(error).__name__,
            error,
            exc_info=error,
            extra={"actor": self.path, "incarnation": self.incarnation},
        )

    def _overrun(self) -> None:
        """Cancel at the deadline, and name whoever ignores that every second from then on."""
        self.kill()
        self._timer = self.environment.timers.call_later(_OVERDUE_EVERY_S, self._log_overdue)

    def _log_overdue(self) -> None:
        _LOGGER.warning(
            "%s was cancelled past its shutdown deadline and still runs",
            self.path,
            extra={"actor": self.path, "incarnation": self.incarnation},
        )
        self._timer = self.environment.timers.call_later(_OVERDUE_EVERY_S, self._log_overdue)

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
