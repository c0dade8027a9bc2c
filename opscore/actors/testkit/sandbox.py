"""The hooks and handlers of one actor, run without a system."""

from __future__ import annotations

import functools
import logging
from collections.abc import Awaitable, Callable
from typing import Any, Generic, TypeVar, cast

import attrs
from outcome import Outcome, capture

from opscore.actors.actor import Actor, Context
from opscore.actors.clock import VirtualClock
from opscore.actors.dead_letters import DeadLetters
from opscore.actors.mailbox import Mailbox
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.registry import Registry
from opscore.actors.reply import Reply
from opscore.actors.timers import Timer, Timers

MessageT = TypeVar("MessageT", bound=Message[Any, Any])
ProtocolT = TypeVar("ProtocolT")
ReplyT = TypeVar("ReplyT")


@attrs.frozen
class Sent:
    """A message that a handler sent to another actor, or to its own."""

    to: str
    """Path of the other actor."""
    message: Message[Any, Any]
    how: str = "tell"
    """`tell`, `send` or `ask`."""


@attrs.frozen
class Scheduled:
    """A message that a handler set a timer for."""

    message: Message[Any, Any]
    delay_s: float
    """Seconds until it comes."""
    repeats: bool = False
    """Whether it comes again after each delay."""
    timer: Timer = attrs.field(factory=lambda: Timer(lambda: None), eq=False)
    """What the handler got, to cancel it."""


@attrs.frozen
class Started:
    """A function that a handler started beside itself; the sandbox does not run it."""

    async_fn: Callable[..., Awaitable[object]]
    args: tuple[object, ...] = ()


@attrs.define(kw_only=True)
class Effects(Generic[ReplyT]):
    """What one hook or handler did, in the order it did it."""

    reply: ReplyT | None = None
    """What it answered; None if it deferred, stashed or raised."""
    error: Exception | None = None
    """What it raised."""
    declared: bool = False
    """Whether the message declares that error, so that it is an answer and no crash."""
    deferred: Reply[ReplyT] | None = None
    """The reply that it took to answer later."""
    stashed: bool = False
    """Whether it put its message aside."""
    unstashed: tuple[Message[Any, Any], ...] = ()
    """Messages it had put aside and wants next; the sandbox leaves it to the test to hand them in again."""
    sent: list[Sent] = attrs.field(factory=list)
    scheduled: list[Scheduled] = attrs.field(factory=list)
    started: list[Started] = attrs.field(factory=list)
    watched: list[str] = attrs.field(factory=list)
    unwatched: list[str] = attrs.field(factory=list)
    stopped: bool = False


class Sandbox(Generic[ProtocolT]):
    """Runs the hooks and handlers of one actor, one at a time, and tells what each did. Nothing else runs.

    Make it inside `trio.run`, or inside the `run` of this test kit.

    Args:
        factory: Makes the actor, as in its `ChildSpec`.
        name: The actor's path.
    """

    def __init__(self, factory: Callable[[], Actor[ProtocolT]], *, name: str = "/sandbox") -> None:
        self._script = _Script()
        self._context: _SandboxContext[ProtocolT] = _SandboxContext(name, self._script)
        self._factory = factory
        self._actor: Actor[ProtocolT] | None = None

    @property
    def registry(self) -> Registry:
        """The names the actor finds; the test registers what it needs."""
        return self._context.registry

    @property
    def actor(self) -> Actor[ProtocolT]:
        """The actor itself, to look at its state; made when it is first used, so that it can be given addresses."""
        if self._actor is None:
            self._actor = self._factory()
            self._actor.context = self._context
        return self._actor

    def ref(self, name: str) -> Ref[Any]:
        """Return an address for the actor to send to; what is sent there is among the effects."""
        return self._script.ref(name)

    def answer(self, ref: Ref[Any], kind: type[MessageT], reply: Callable[[MessageT], object]) -> None:
        """Say what an ask gets from now on.

        Args:
            ref: One that `ref` made.
            kind: The type of the message asked.
            reply: Makes the reply from the message; what it raises, the ask raises.
        """
        self._script.answers[ref.name, kind] = reply

    async def start(self) -> Effects[None]:
        """Run `on_start`; what it raises is among the effects."""
        return await self._observe(self.actor.on_start)

    async def stop(self) -> Effects[None]:
        """Run `on_stop`; what it raises is among the effects."""
        return await self._observe(self.actor.on_stop)

    async def handle(self, message: Message[ProtocolT, ReplyT]) -> Effects[ReplyT]:
        """Run the handler of a message, as if it had been asked; what it raises is among the effects.

        Raises:
            TypeError: The actor has no handler for it.
        """
        handler = self.actor.routes[type(message)]
        if handler is None:
            msg = f"{type(self.actor).__name__} has no handler for {type(message).__name__}"
            raise TypeError(msg)
        self._script.current = message
        try:
            effects = await self._observe(functools.partial(handler, self.actor, message))
        finally:
            self._script.current = None
        effects.declared = isinstance(effects.error, message.declared_errors)
        if effects.stashed or effects.deferred is not None:
            effects.reply = None
        return effects

    async def _observe(self, run: Callable[[], Any]) -> Effects[Any]:
        effects = self._script.effects = Effects[Any]()
        try:
            value = run()
            # As in a system: what can't be awaited is the answer of a plain function.
            effects.reply = await value if isinstance(value, Awaitable) else value
        except Exception as error:  # noqa: BLE001 (what it raised is what the test asks for)
            effects.error = error
        return effects


class _Script:
    """What the test said beforehand, and what has happened since."""

    def __init__(self) -> None:
        self.clock = VirtualClock()
        self.answers: dict[tuple[str, type[Any]], Callable[[Any], object]] = {}
        self.effects: Effects[Any] = Effects()
        self.current: Message[Any, Any] | None = None
        self.stash: tuple[Message[Any, Any], ...] = ()
        self._timers = Timers()
        self._dead_letters = DeadLetters(self.clock)

    def ref(self, name: str) -> Ref[Any]:
        return _SandboxRef(Mailbox(name, MailboxSpec(), self._dead_letters), self._timers, self)

    def answer(self, to: str, message: Message[Any, Any]) -> object:
        kind = type(message)
        if (to, kind) not in self.answers:
            raise AssertionError(
                f"nobody said what {to} answers to {kind.__name__}: "
                f"call sandbox.answer(ref, {kind.__name__}, lambda message: ...) first"
            )
        return self.answers[to, kind](message)

    def handling(self, what: str) -> Message[Any, Any]:
        if self.current is None:
            msg = f"{what} is for handlers: no message is being handled"
            raise RuntimeError(msg)
        return self.current


class _SandboxRef(Ref[Any]):
    """Writes down what is sent to it, and answers as the test said."""

    __slots__ = ("_script",)

    def __init__(self, mailbox: Mailbox, timers: Timers, script: _Script) -> None:
        super().__init__(mailbox, timers)
        self._script = script

    def tell(self, message: Message[Any, Any]) -> None:
        self._script.effects.sent.append(Sent(self.name, message, "tell"))

    async def send(self, message: Message[Any, Any]) -> None:
        self._script.effects.sent.append(Sent(self.name, message, "send"))

    async def ask(self, message: Message[Any, ReplyT], *, timeout_s: float = 30.0) -> ReplyT:
        self._script.effects.sent.append(Sent(self.name, message, "ask"))
        return cast("ReplyT", self._script.answer(self.name, message))


class _SandboxContext(Context[ProtocolT]):
    """Writes down what an actor asks of its system."""

    def __init__(self, name: str, script: _Script) -> None:
        self.name = name
        self.ref = script.ref(name)
        self.clock = script.clock
        self.registry = Registry()
        self.incarnation = 1
        self._script = script
        self._log = logging.LoggerAdapter(logging.getLogger("opscore.actors"), {"actor": name, "incarnation": 1})

    @property
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        return self._log

    def defer(self) -> Reply[Any]:
        effects = self._script.effects
        if effects.deferred is None:
            effects.deferred = Reply(self.name, self._script.handling("defer()"))
        return effects.deferred

    def stash(self) -> Reply[Any]:
        message = self._script.handling("stash()")
        self._script.stash += (message,)
        self._script.effects.stashed = True
        return Reply(self.name, message)

    def unstash(self) -> None:
        stash, self._script.stash = self._script.stash, ()
        self._script.effects.unstashed += stash

    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        self._script.effects.started.append(Started(async_fn, args))

    def ask_soon(
        self,
        ref: Ref[Any],
        message: Message[Any, ReplyT],
        then: Callable[[Outcome[ReplyT]], None],
        *,
        timeout_s: float = 30.0,
    ) -> None:
        self._script.effects.sent.append(Sent(ref.name, message, "ask"))
        then(capture(lambda: cast("ReplyT", self._script.answer(ref.name, message))))

    def tell_after(self, delay_s: float, message: Message[ProtocolT, Any]) -> Timer:
        return self._schedule(Scheduled(message, delay_s))

    def tell_every(self, interval_s: float, message: Message[ProtocolT, Any]) -> Timer:
        return self._schedule(Scheduled(message, interval_s, repeats=True))

    def watch(self, ref: Ref[Any]) -> None:
        self._script.effects.watched.append(ref.name)

    def unwatch(self, ref: Ref[Any]) -> None:
        self._script.effects.unwatched.append(ref.name)

    def stop(self) -> None:
        self._script.effects.stopped = True

    def stop_if_quiet(self) -> bool:
        if self._script.stash:
            return False
        self.stop()
        return True

    def _schedule(self, scheduled: Scheduled) -> Timer:
        self._script.effects.scheduled.append(scheduled)
        return scheduled.timer
