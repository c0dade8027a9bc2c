"""Everything that lives and dies with one incarnation of an actor."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Any, Protocol, TypeVar

import trio

from opscore.actors.actor import Context, Terminated
from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import MailboxFull
from opscore.actors.mailbox import Lane
from opscore.actors.reply import Reply
from opscore.actors.timers import Timer

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from opscore.actors.cell import Environment
    from opscore.actors.mailbox import Mailbox
    from opscore.actors.message import Message
    from opscore.actors.ref import Ref

ProtocolT = TypeVar("ProtocolT")
ProtocolT_co = TypeVar("ProtocolT_co", covariant=True)

_LOGGER = logging.getLogger("opscore.actors")
_TIMERS_SWEPT_AT = 64


class Host(Protocol[ProtocolT_co]):
    """The cell that an incarnation runs in."""

    incarnation: int
    environment: Environment

    @property
    def ref(self) -> Ref[ProtocolT_co]:
        """The actor's address."""
        ...

    @property
    def mailbox(self) -> Mailbox:
        """Where the actor's messages wait."""
        ...

    def leave(self) -> None:
        """End this incarnation normally after the current message."""
        ...

    def fail(self, cause: BaseException) -> None:
        """Crash this incarnation."""
        ...


class Incarnation(Context[ProtocolT]):
    """The context of a running actor; `end` takes its tasks, timers and watches down."""

    def __init__(self, host: Host[ProtocolT]) -> None:
        self.ref = host.ref
        self.name = host.ref.name
        self.clock = host.environment.clock
        self.incarnation = host.incarnation
        self.log = logging.LoggerAdapter(_LOGGER, {"actor": self.name, "incarnation": self.incarnation})
        self.deferred: set[Reply[Any]] = set()
        self._host = host
        self._ended = False
        self._scopes: set[trio.CancelScope] = set()
        self._quiet = trio.Event()
        self._timers: list[Timer] = []
        self._timers_swept_at = _TIMERS_SWEPT_AT
        self._unwatch: list[Callable[[], None]] = []

    def defer(self) -> Reply[Any]:
        """Take the reply of the message being handled."""
        entry = self._host.mailbox.current
        if entry is None:
            msg = "defer() is for handlers: no message is being handled"
            raise RuntimeError(msg)
        if not isinstance(entry, Reply):
            return Reply(self.name, entry)
        if not entry.done:
            entry.defer(self.deferred.discard)
            self.deferred.add(entry)
        return entry

    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a function beside the handlers until the incarnation ends."""
        if self._ended:
            raise RuntimeError(f"{self.name} starts no tasks any more: incarnation {self.incarnation} is ending")
        scope = trio.CancelScope()
        self._scopes.add(scope)
        self._host.environment.spawn(self._run_beside, scope, async_fn, args)

    def tell_after(self, delay_s: float, message: Message[ProtocolT, Any]) -> Timer:
        """Tell the actor itself a message later."""
        if self._ended:
            timer = Timer(lambda: None)
            timer.cancel()
            return timer
        timer = self._host.environment.timers.call_later(delay_s, lambda: self._tell_self(message))
        if len(self._timers) >= self._timers_swept_at:
            # Only timers still pending are worth remembering: an actor may set them for years.
            self._timers = [each for each in self._timers if not each.done]
            self._timers_swept_at = 2 * len(self._timers) + _TIMERS_SWEPT_AT
        self._timers.append(timer)
        return timer

    def watch(self, ref: Ref[Any]) -> None:
        """Have `Terminated` delivered once another actor is gone for good."""
        if self._ended:
            return
        mailbox = self._host.mailbox
        self._unwatch.append(ref.mailbox.watch(lambda: mailbox.signal(Lane.WATCH, Terminated(actor=ref.name))))

    def stop(self) -> None:
        """End normally after the current message."""
        self._host.leave()

    def stop_if_quiet(self) -> bool:
        """Stop only if no message waits."""
        if len(self._host.mailbox):
            return False
        self._host.leave()
        return True

    async def end(self) -> None:
        """Cancel what runs beside the handlers, wait for it, and forget timers and watches."""
        self._ended = True
        for timer in self._timers:
            timer.cancel()
        for unwatch in self._unwatch:
            unwatch()
        for scope in self._scopes:
            scope.cancel()
        while self._scopes:
            with trio.CancelScope(shield=True):
                await self._quiet.wait()

    async def _run_beside(
        self, scope: trio.CancelScope, async_fn: Callable[..., Awaitable[object]], args: tuple[object, ...]
    ) -> None:
        try:
            with scope:
                await async_fn(*args)
        except Exception as error:  # noqa: BLE001 (it crashes the actor, and its supervisor judges it)
            self._host.fail(error)
        finally:
            self._scopes.discard(scope)
            if not self._scopes:
                self._quiet.set()
                self._quiet = trio.Event()

    def _tell_self(self, message: Message[ProtocolT, Any]) -> None:
        try:
            self.ref.tell(message)
        except MailboxFull:
            self._host.environment.dead_letters.record(self.name, message, DeadLetterReason.MAILBOX_FULL)
