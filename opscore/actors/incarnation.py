"""The context of an actor, which owns all that ends with one incarnation: tasks, timers, watches, deferred replies."""

from __future__ import annotations

import functools
import logging
import math
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

from opscore.actors.actor import Context, Terminated
from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorStopped, MailboxFull
from opscore.actors.left_open import close_left_open, is_left_open
from opscore.actors.mailbox import Lane
from opscore.actors.reply import Reply
from opscore.actors.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from outcome import Outcome

    from opscore.actors.cell import Environment
    from opscore.actors.mailbox import Mailbox
    from opscore.actors.message import Message
    from opscore.actors.ref import Ref
    from opscore.actors.reply import Entry

ProtocolT = TypeVar("ProtocolT")
ReplyT = TypeVar("ReplyT")
ProtocolT_co = TypeVar("ProtocolT_co", covariant=True)

_LOGGER = logging.getLogger("opscore.actors")
_TIMERS_SWEPT_AT = 64


class Host(Protocol[ProtocolT_co]):
    """The cell that an incarnation runs in."""

    incarnation: int
    environment: Environment
    mailbox: Mailbox

    @property
    def ref(self) -> Ref[ProtocolT_co]:
        """The actor's address."""
        ...

    def leave(self) -> None:
        """End this incarnation normally after the current message."""
        ...

    def fail(self, cause: BaseException) -> None:
        """Crash this incarnation."""
        ...


class Incarnation(Context[ProtocolT]):
    """The context of one incarnation of an actor; `end` ends its tasks, timers and watches.

    What most actors never use is created when it is first used.
    """

    __slots__ = (
        "_deferred",
        "_ended",
        "_host",
        "_log",
        "_quiet",
        "_scopes",
        "_timers",
        "_timers_swept_at",
        "_watches",
        "clock",
        "incarnation",
        "name",
        "ref",
        "registry",
    )

    def __init__(self, host: Host[ProtocolT]) -> None:
        self.ref = host.ref
        self.name = host.ref.name
        self.clock = host.environment.clock
        self.registry = host.environment.registry
        self.incarnation = host.incarnation
        self._host = host
        self._ended = False
        self._log: logging.LoggerAdapter[logging.Logger] | None = None
        self._deferred: set[Reply[Any]] | None = None
        self._scopes: set[trio.CancelScope] | None = None
        self._quiet: trio.Event | None = None
        self._timers: list[Timer] | None = None
        self._timers_swept_at = _TIMERS_SWEPT_AT
        self._watches: dict[Mailbox, Callable[[], None]] | None = None

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger `opscore.actors`, bound to the actor's name and incarnation."""
        if self._log is None:
            self._log = logging.LoggerAdapter(_LOGGER, {"actor": self.name, "incarnation": self.incarnation})
        return self._log

    @property
    def deferred(self) -> tuple[Reply[Any], ...]:
        """Replies that were deferred and not given yet."""
        return tuple(self._deferred or ())

    def defer(self) -> Reply[Any]:
        """Return the reply of the message being handled, to be given later."""
        entry = self._handling("defer()")
        if not isinstance(entry, Reply):
            return Reply(self.name, entry)
        if not entry.done:
            if self._deferred is None:
                self._deferred = set()
            entry.hold(self._deferred.discard)
            self._deferred.add(entry)
        return entry

    def stash(self) -> Reply[Any]:
        """Stash the message being handled."""
        entry = self._handling("stash()")
        self._host.mailbox.stash()
        return entry if isinstance(entry, Reply) else Reply(self.name, entry)

    def unstash(self) -> None:
        """Put the stashed messages before those that wait."""
        if not self._ended:
            self._host.mailbox.unstash()

    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a function as a background task, until the incarnation ends."""
        if self._ended:
            raise RuntimeError(f"{self.name} can't start a task: incarnation {self.incarnation} is ending")
        scope = trio.CancelScope()
        if self._scopes is None:
            self._scopes = set()
        self._scopes.add(scope)
        self._host.environment.spawn(self._run_beside, scope, async_fn, args)

    def ask_soon(
        self,
        ref: Ref[Any],
        message: Message[Any, ReplyT],
        then: Callable[[Outcome[ReplyT]], None],
        *,
        timeout_s: float = 30.0,
    ) -> None:
        """Ask another actor without waiting, and pass the outcome to a function."""
        if not 0.0 < timeout_s < math.inf:
            msg = f"timeout_s must be positive and finite, not {timeout_s!r}"
            raise ValueError(msg)

        def answered(answer: Outcome[ReplyT]) -> None:
            if self._ended:
                return
            try:
                then(answer)
            except Exception as error:  # noqa: BLE001 (it crashes the actor, and its supervisor judges it)
                self._host.fail(error)

        reply = Reply(ref.name, message, timeout_s)
        reply.call_back(answered)
        try:
            ref.mailbox.put(reply)
        except (MailboxFull, ActorStopped) as error:
            reply.fail(error)
        else:
            self._host.environment.timers.add(timeout_s, reply)

    def tell_after(self, delay_s: float, message: Message[ProtocolT, Any]) -> Timer:
        """Tell this actor a message after a delay."""
        if math.isnan(delay_s):
            msg = f"delay_s must be a number of seconds, not {delay_s!r}"
            raise ValueError(msg)
        timer = Timer(functools.partial(Incarnation._remind, self, message))
        self._remember(timer)
        if not timer.done:
            self._host.environment.timers.add(delay_s, timer)
        return timer

    def tell_every(self, interval_s: float, message: Message[ProtocolT, Any]) -> Timer:
        """Tell this actor a message at every interval."""
        if not interval_s > 0.0:
            msg = f"interval_s must be positive, not {interval_s!r}"
            raise ValueError(msg)
        last: Reply[Any] | None = None

        def tick() -> None:
            nonlocal last
            timer.done = False
            self._host.environment.timers.add(interval_s, timer)
            if last is None or last.done:
                # No one waits for this reply; it shows whether the message was handled.
                last = Reply(self.name, message)
                self._remind(last)

        timer = Timer(tick)
        self._remember(timer)
        if not timer.done:
            self._host.environment.timers.add(interval_s, timer)
        return timer

    def watch(self, ref: Ref[Any]) -> None:
        """Deliver `Terminated` to this actor once another actor is gone."""
        if self._watches is None:
            self._watches = {}
        watched, mailbox = ref.mailbox, self._host.mailbox
        if self._ended or watched in self._watches:
            return

        def tell() -> None:
            if self._watches is not None:
                self._watches.pop(watched, None)
            mailbox.signal(Lane.WATCH, Terminated(actor=watched.name, cause=watched.cause))

        self._watches[watched] = lambda: None
        unwatch = watched.watch(tell)
        if watched in self._watches:
            self._watches[watched] = unwatch

    def unwatch(self, ref: Ref[Any]) -> None:
        """End a watch."""
        unwatch = (self._watches or {}).get(ref.mailbox)
        if unwatch is not None and self._watches is not None:
            del self._watches[ref.mailbox]
            unwatch()

    def stop(self) -> None:
        """End the incarnation normally after the current message."""
        if not self._ended:
            self._host.leave()

    def stop_if_quiet(self) -> bool:
        """Stop only if no message waits or is stashed."""
        statistics = self._host.mailbox.statistics()
        if self._ended or statistics.depth or statistics.stashed:
            return False
        self._host.leave()
        return True

    async def end(self) -> None:
        """Cancel timers and end watches, then cancel the background tasks and wait for them."""
        self._ended = True
        timers, self._timers = self._timers, None
        for timer in timers or ():
            timer.cancel()
        watches, self._watches = self._watches, None
        for unwatch in (watches or {}).values():
            unwatch()
        for scope in self._scopes or ():
            scope.cancel()
        while self._scopes:
            self._quiet = trio.Event()
            with trio.CancelScope(shield=True):
                await self._quiet.wait()

    def _handling(self, what: str) -> Entry:
        entry = None if self._ended else self._host.mailbox.current
        if entry is None:
            msg = f"{what} is for handlers: no message is being handled"
            raise RuntimeError(msg)
        return entry

    # Ctrl-C is for the task that opened the system, which stops it in order.
    @trio.lowlevel.enable_ki_protection
    async def _run_beside(
        self, scope: trio.CancelScope, async_fn: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        try:
            with scope:
                try:
                    await async_fn(*args)
                finally:
                    task = trio.lowlevel.current_task()
                    if is_left_open(task, scope):
                        await close_left_open(task, scope, self.name)
        except Exception as error:  # noqa: BLE001 (it crashes the actor, and its supervisor judges it)
            self._host.fail(error)
        finally:
            assert self._scopes is not None, "it holds at least this scope"
            self._scopes.discard(scope)
            if not self._scopes and self._quiet is not None:
                self._quiet.set()

    def _remember(self, timer: Timer) -> None:
        """Make a timer end with the incarnation; cancel it at once if the incarnation has ended."""
        if self._ended:
            timer.cancel()
            return
        if self._timers is None:
            self._timers = []
        elif len(self._timers) >= self._timers_swept_at:
            # Forget timers that are done: an actor may go on setting timers for years.
            self._timers = [each for each in self._timers if not each.done]
            self._timers_swept_at = 2 * len(self._timers) + _TIMERS_SWEPT_AT
        self._timers.append(timer)

    def _remind(self, entry: Entry) -> None:
        """Put a timer's message into the mailbox, unless that is sealed, because the actor is ending."""
        if self._host.mailbox.sealed:
            return
        try:
            self._host.mailbox.put(entry)
        except MailboxFull as full:
            self._host.mailbox.discard(entry, DeadLetterReason.MAILBOX_FULL, full)
