"""A sandbox, which runs the hooks and handlers of one actor without a system."""

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
    """A message that a handler sent to another actor or to its own."""

    to: str
    """Path of the actor that it was sent to."""
    message: Message[Any, Any]
    how: str = "tell"
    """`tell`, `send` or `ask`."""


@attrs.frozen
class Scheduled:
    """A message that a handler set a timer for."""

    message: Message[Any, Any]
    delay_s: float
    """Delay or interval, in seconds."""
    repeats: bool = False
    """Whether it repeats at that interval."""
    timer: Timer = attrs.field(factory=lambda: Timer(lambda: None), eq=False)
    """The timer that the handler was given."""


@attrs.frozen
class Started:
    """A background task that a handler started; the sandbox does not run it."""

    async_fn: Callable[..., Awaitable[object]]
    args: tuple[object, ...] = ()


@attrs.define(kw_only=True)
class Effects(Generic[ReplyT]):
    """What one hook or handler did; each list is in the order in which it happened."""

    reply: ReplyT | None = None
    """The reply; None if it deferred, stashed or raised."""
    error: Exception | None = None
    """The error that it raised."""
    declared: bool = False
    """Whether the message declares that error, which makes it an answer and not a crash."""
    deferred: Reply[ReplyT] | None = None
    """The reply that it deferred."""
    stashed: bool = False
    """Whether it stashed its message."""
    unstashed: tuple[Message[Any, Any], ...] = ()
    """Messages that it unstashed; the sandbox leaves it to the test to handle them again."""
    sent: list[Sent] = attrs.field(factory=list)
    scheduled: list[Scheduled] = attrs.field(factory=list)
    started: list[Started] = attrs.field(factory=list)
    watched: list[str] = attrs.field(factory=list)
    unwatched: list[str] = attrs.field(factory=list)
    stopped: bool = False


class Sandbox(Generic[ProtocolT]):
    """Runs the hooks and handlers of one actor, one at a time, and returns what each did. Nothing else runs.

    Create it inside `trio.run`, or inside the `run` of this test kit.

    Args:
        factory: Creates the actor, as in its `ChildSpec`.
        name: The actor's path.
    """

    def __init__(self, factory: Callable[[], Actor[ProtocolT]], *, name: str = "/sandbox") -> None:
        self._script = _Script()
        self._context: _SandboxContext[ProtocolT] = _SandboxContext(name, self._script)
        self._factory = factory
        self._actor: Actor[ProtocolT] | None = None

    @property
    def registry(self) -> Registry:
        """The registry that the actor sees; the test registers the names that the actor needs."""
        return self._context.registry

    @property
    def actor(self) -> Actor[ProtocolT]:
        """The actor, to look at its state. It is created on first use, so that its factory can use `ref` before."""
        if self._actor is None:
            self._actor = self._factory()
            self._actor.context = self._context
        return self._actor

    def ref(self, name: str) -> Ref[Any]:
        """Return an address for the actor to send to; messages sent to it are recorded in the effects."""
        return self._script.ref(name)

    def answer(self, ref: Ref[Any], kind: type[MessageT], reply: Callable[[MessageT], object]) -> None:
        """Set the reply to asks of one type from now on.

        Args:
            ref: An address that `ref` returned.
            kind: The type of the message that is asked.
            reply: Computes the reply from the message; an error that it raises is raised by the ask.
        """
        self._script.answers[ref.name, kind] = reply

    async def start(self) -> Effects[None]:
        """Run `on_start`; an error that it raises is recorded in the effects."""
        return await self._observe(self.actor.on_start)

    async def stop(self) -> Effects[None]:
        """Run `on_stop`; an error that it raises is recorded in the effects."""
        return await self._observe(self.actor.on_stop)

    async def handle(self, message: Message[ProtocolT, ReplyT]) -> Effects[ReplyT]:
        """Run the handler of a message, as if it had been asked; an error that it raises is recorded in the effects.

        Raises:
            TypeError: The actor has no handler for the message.
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
            # As in a system, a value that can't be awaited is the reply of a plain function.
            effects.reply = await value if isinstance(value, Awaitable) else value
        except Exception as error:  # noqa: BLE001 (the error is one of the effects that the test looks at)
            effects.error = error
        return effects


class _Script:
    """The replies that the test has set, and the effects of the current handler."""

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
                f"no reply of {to} to {kind.__name__} is set: "
                f"call sandbox.answer(ref, {kind.__name__}, lambda message: ...) first"
            )
        return self.answers[to, kind](message)

    def handling(self, what: str) -> Message[Any, Any]:
        if self.current is None:
            msg = f"{what} is for handlers: no message is being handled"
            raise RuntimeError(msg)
        return self.current


class _SandboxRef(Ref[Any]):
    """Records what is sent to it, and answers as the test has set."""

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
    """Records how an actor uses its system."""

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
