"""A cell: one place in the tree, whose name and mailbox outlive the incarnations that run in it."""

from __future__ import annotations

import logging
from abc import ABC, abstractmethod
from contextvars import Context as Variables
from typing import TYPE_CHECKING, Any, Protocol

import attrs
import trio

from opscore.actors.clock import Clock
from opscore.actors.dead_letters import DeadLetters
from opscore.actors.errors import StartFailed, text_of
from opscore.actors.registry import Registry
from opscore.actors.reply import message_of
from opscore.actors.scheduler import RunQueue
from opscore.actors.snapshot import ActorSnapshot, State
from opscore.actors.supervision import CLEAN, Exit
from opscore.actors.timers import Timers

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from opscore.actors.mailbox import Mailbox
    from opscore.actors.spec import ChildSpec, SupervisorSpec
    from opscore.actors.timers import Timer

_LOGGER = logging.getLogger("opscore.actors")
_RUNNING = {State.STARTING, State.RUNNING, State.STOPPING}


@attrs.frozen(kw_only=True)
class Environment:
    """What all cells of one system share."""

    clock: Clock
    timers: Timers
    dead_letters: DeadLetters
    registry: Registry
    queue: RunQueue
    nursery: trio.Nursery
    variables: Variables
    """Context variables of the task that opened the system; actors start from these, not from those of the task that
    starts them."""

    def spawn(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a function as a task of the system."""
        self.variables.run(self.nursery.start_soon, async_fn, *args)


class Parent(Protocol):
    """The owner of a cell, which is told how the cell's incarnations end."""

    def child_ended(self, cell: Cell, exit_: Exit) -> None:
        """Note the end of an incarnation."""
        ...

    def child_leaves(self, cell: Cell) -> None:
        """Note that a child is stopping by itself and will not come back; its name is free."""
        ...


class Cell(ABC):
    """Runs one incarnation at a time and reports its end."""

    __slots__ = (
        "_ended",
        "_settled",
        "_started_at",
        "_timer",
        "asked_to_stop",
        "crash",
        "environment",
        "failed",
        "incarnation",
        "last_error",
        "last_exit",
        "mailbox",
        "parent",
        "path",
        "record",
        "spec",
        "state",
    )

    def __init__(
        self,
        path: str,
        spec: ChildSpec[Any] | SupervisorSpec,
        parent: Parent,
        environment: Environment,
        mailbox: Mailbox,
    ) -> None:
        self.path = path
        self.spec = spec
        self.mailbox = mailbox
        """The mailbox; that of a supervisor holds the exits of its children."""
        self.state = State.NEW
        self.incarnation = 0
        self.failed = 0
        self.last_error: BaseException | None = None
        self.last_exit: Exit | None = None
        self.record = CLEAN
        self.parent = parent
        self.environment = environment
        self.crash: BaseException | None = None
        """The error that the incarnation ends with; it takes precedence over one that the incarnation raises itself."""
        self.asked_to_stop = False
        self._started_at: float | None = None
        # The first task that waits creates the event: few cells are ever waited for, and an event takes memory.
        self._settled: trio.Event | None = None
        self._ended: trio.Event | None = None
        self._timer: Timer | None = None

    @property
    def running(self) -> bool:
        """Whether an incarnation is starting, running or stopping."""
        return self.state in _RUNNING

    @property
    def has_started(self) -> bool:
        """Whether the newest incarnation has completed its start, even if it has ended since."""
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
        self.mailbox.signals = ()
        self._launch()

    def start_after(self, delay_s: float) -> None:
        """Begin the next incarnation after a delay in seconds."""
        self._cancel_timer()
        self._timer = self.environment.timers.call_later(delay_s, self.start)

    def forgo_restart(self) -> None:
        """Cancel the pending restart, if there is one."""
        if not self.running:
            self._cancel_timer()

    async def wait_settled(self) -> None:
        """Wait until the incarnation has started or ended."""
        if self.running and self._started_at is None:
            if self._settled is None:
                self._settled = trio.Event()
            await self._settled.wait()

    async def wait_ended(self) -> None:
        """Wait until no incarnation runs."""
        if self.running:
            if self._ended is None:
                self._ended = trio.Event()
            await self._ended.wait()

    def request_stop(self, *, final: bool) -> None:
        """Send the incarnation a stop message, and cancel it after `shutdown_s`.

        Args:
            final: Whether no other incarnation follows.
        """
        self.asked_to_stop = True
        if self.running:
            self._limit_stopping()
            self._ask_to_stop(final=final)
            return
        self._cancel_timer()
        if final:
            self.close()

    def _limit_stopping(self) -> None:
        if self.state is not State.STOPPING:
            self.state = State.STOPPING
            self._timer = self.environment.timers.call_later(self.spec.shutdown_s, self.kill)

    @abstractmethod
    def kill(self) -> None:
        """Cancel whatever the incarnation is doing."""

    @abstractmethod
    def close(self) -> None:
        """Prevent further incarnations."""

    @abstractmethod
    def restarting(self) -> None:
        """Note that another incarnation will follow the one that ended."""

    @abstractmethod
    def snapshots(self) -> list[ActorSnapshot]:
        """Return the state of this cell and of those below it."""

    @abstractmethod
    def _launch(self) -> None:
        """Begin to run the incarnation."""

    @abstractmethod
    def _ask_to_stop(self, *, final: bool) -> None:
        """Deliver the stop message."""

    @abstractmethod
    def _close_down(self, cause: BaseException | None) -> None:
        """Account for the messages that the incarnation left unfinished."""

    def snapshot(self) -> ActorSnapshot:
        """Return the state of this cell."""
        mailbox, current = self.mailbox.statistics(), self.mailbox.current
        return ActorSnapshot(
            name=self.path,
            state=self.state,
            incarnation=self.incarnation,
            restarts=max(0, self.incarnation - 1),
            depth=mailbox.depth,
            high_water=mailbox.high_water,
            stashed=mailbox.stashed,
            handled=mailbox.handled,
            dropped=mailbox.dropped,
            failed=self.failed,
            last_error=self.last_error,
            current=None if current is None else type(message_of(current)).__name__,
            current_age_s=None if current is None else trio.current_time() - self.mailbox.since,
        )

    def finish(self, cause: BaseException | None) -> None:
        """Record that the incarnation has ended, and report it to the parent."""
        cause = self.crash if self.crash is not None else cause
        self._cancel_timer()
        self.state = State.DOWN
        began = self._started_at
        exit_ = Exit(
            child=self.spec,
            path=self.path,
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
        self._mark_settled()
        if self._ended is not None:
            self._ended.set()
            self._ended = None
        self.parent.child_ended(self, exit_)

    def _mark_started(self) -> None:
        if self.state is State.STARTING:
            self.state = State.RUNNING
        self._started_at = trio.current_time()
        self._mark_settled()

    def _mark_settled(self) -> None:
        if self._settled is not None:
            self._settled.set()
            self._settled = None

    def _log_crash(self, cause: BaseException) -> None:
        error = cause.cause if isinstance(cause, StartFailed) else cause
        _LOGGER.error(
            "%s failed %s (incarnation %d): %s: %s",
            self.path,
            "to start" if self._started_at is None else "while running",
            self.incarnation,
            type(error).__name__,
            text_of(error),
            exc_info=error,
            extra={"actor": self.path, "incarnation": self.incarnation},
        )

    def _cancel_timer(self) -> None:
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
