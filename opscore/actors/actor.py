"""What an actor is: typed handlers, hooks, and the context it runs in."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar, overload

import attrs

from opscore.actors.message import Message

if TYPE_CHECKING:
    import logging

    from outcome import Outcome

    from opscore.actors.clock import Clock
    from opscore.actors.ref import Ref
    from opscore.actors.registry import Registry
    from opscore.actors.reply import Reply
    from opscore.actors.timers import Timer

ProtocolT = TypeVar("ProtocolT")
ReplyT = TypeVar("ReplyT")
ActorT = TypeVar("ActorT")
MessageT = TypeVar("MessageT", bound=Message[Any, Any])
MessageT_co = TypeVar("MessageT_co", covariant=True)

Handler: TypeAlias = Callable[[Any, Any], Any]

_MARK = "__opscore_handles__"


@attrs.frozen(kw_only=True)
class Terminated(Message[Any, None]):
    """Tells a watcher that an actor is gone for good."""

    actor: str
    """Path of the actor that is gone."""
    cause: BaseException | None = None
    """The error its last incarnation failed with; None if it ended normally or was stopped."""


class Handles(Generic[MessageT_co]):
    """The decorator that `handles` returns."""

    def __init__(self, message_type: type[MessageT_co]) -> None:
        self._message_type = message_type

    # The explicit `self` lets a type checker derive the reply's type from the message's.
    @overload
    def __call__(
        self: Handles[Message[ProtocolT, ReplyT]],
        function: Callable[[ActorT, MessageT_co], Awaitable[ReplyT | Reply[ReplyT]]],
    ) -> Callable[[ActorT, MessageT_co], Awaitable[ReplyT | Reply[ReplyT]]]: ...
    @overload
    def __call__(
        self: Handles[Message[ProtocolT, ReplyT]],
        function: Callable[[ActorT, MessageT_co], ReplyT | Reply[ReplyT]],
    ) -> Callable[[ActorT, MessageT_co], ReplyT | Reply[ReplyT]]: ...
    def __call__(self, function: Callable[[Any, Any], Any]) -> Callable[[Any, Any], Any]:
        """Mark a method as the handler of the message type."""
        setattr(function, _MARK, self._message_type)
        return function


def handles(message_type: type[MessageT]) -> Handles[MessageT]:
    """Make a method the handler of a message type, subclasses of it included.

    A plain method answers at once and costs less: a question to an idle actor is answered in its asker's task,
    without a switch. An async one may wait. Either takes the message and returns the reply, or the `Reply` it took
    with `context.defer()` or `context.stash()`; type checkers hold it to the message's reply type. An error that the
    message declares is an answer, any other crashes the actor.

    Args:
        message_type: The messages the method is for; a handler of a subclass goes before that of its base.

    Raises:
        TypeError: Two methods handle one type; raised when the class is made.
    """
    return Handles(message_type)


class Context(ABC, Generic[ProtocolT]):
    """What an incarnation of an actor can ask of the system it runs in."""

    __slots__ = ()

    name: str
    """Path of the actor."""
    ref: Ref[ProtocolT]
    """The actor's own address."""
    clock: Clock
    """The system's wall time and randomness."""
    registry: Registry
    """The system's well-known names."""
    incarnation: int
    """Counts the starts of this actor, from 1."""

    @property
    @abstractmethod
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """Logger `opscore.actors`, bound with the actor's name and incarnation."""

    @abstractmethod
    def defer(self) -> Reply[Any]:
        """Take the reply of the message being handled, to answer later; the handler returns it.

        For a told message it is a sink.

        Raises:
            RuntimeError: No message is being handled.
        """

    @abstractmethod
    def stash(self) -> Reply[Any]:
        """Put the message being handled aside; the handler returns what this returns.

        It waits for `unstash`, or for the next incarnation; its asker goes on waiting.

        Raises:
            RuntimeError: No message is being handled.
            StashFull: As many as the mailbox's `stash_max` are put aside already.
        """

    @abstractmethod
    def unstash(self) -> None:
        """Have everything that was put aside come next, in the order it came; harmless once the incarnation ended."""

    @abstractmethod
    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a function beside the handlers until the incarnation ends.

        Its exception crashes the actor. It is cancelled and awaited before `on_stop` is called.

        Args:
            async_fn: What to run.
            *args: Its arguments.

        Raises:
            RuntimeError: The incarnation is ending.
        """

    @abstractmethod
    def ask_soon(
        self,
        ref: Ref[Any],
        message: Message[Any, ReplyT],
        then: Callable[[Outcome[ReplyT]], None],
        *,
        timeout_s: float = 30.0,
    ) -> None:
        """Ask another actor and go on; what comes of it is given to a function. It costs no task, as `start_soon` does.

        The function is called in the midst of whatever happens then, another handler of this actor included: it had
        better tell the actor a message. What it raises crashes the actor. Once the incarnation has ended it is not
        called any more.

        Args:
            ref: The other actor.
            message: What to ask.
            then: Called once, with the reply or with the error that `ask` would raise.
            timeout_s: Seconds to wait at most; finite.

        Raises:
            ValueError: `timeout_s` is not positive and finite.
        """

    @abstractmethod
    def tell_after(self, delay_s: float, message: Message[ProtocolT, Any]) -> Timer:
        """Tell the actor itself a message after a delay, unless the incarnation ends before.

        Where the mailbox is full then, and its policy is to reject, the message becomes a dead letter.

        Args:
            delay_s: Seconds to wait at least; infinite is never, as for `trio.sleep`, and none or fewer is at once.
            message: What to tell.

        Returns:
            What cancels it.

        Raises:
            ValueError: The delay is NaN.
        """

    @abstractmethod
    def tell_every(self, interval_s: float, message: Message[ProtocolT, Any]) -> Timer:
        """Tell the actor itself a message after every interval, until cancelled or the incarnation ends.

        A message that finds the one before it still waiting is left out: a slow actor is not buried in its own timer.

        Args:
            interval_s: Seconds from one to the next, and to the first.
            message: What to tell.

        Returns:
            What cancels it.

        Raises:
            ValueError: The interval is not positive.
        """

    @abstractmethod
    def watch(self, ref: Ref[Any]) -> None:
        """Have `Terminated` delivered once another actor is gone for good, at once if it is.

        `Terminated` goes before all messages that wait. Watching twice is watching once. The watch ends with the
        incarnation.

        Args:
            ref: The other actor.
        """

    @abstractmethod
    def unwatch(self, ref: Ref[Any]) -> None:
        """End a watch; what was delivered before may still wait. Harmless without a watch."""

    @abstractmethod
    def stop(self) -> None:
        """End normally after the current message.

        A permanent actor is restarted and keeps its mailbox. Any other is gone: its name is free at once, unless it
        is significant, and what still waits in its mailbox becomes dead letters, unless its `ChildSpec` says `drain`.
        """

    @abstractmethod
    def stop_if_quiet(self) -> bool:
        """Stop as `stop` does, but only if no message waits; return whether it did."""


class Routes(dict[type[Any], Handler | None]):
    """Finds the handler of a message type, or that of its nearest base, and remembers it; None where there is none."""

    def __init__(self, handlers: Mapping[type[Any], Handler | None] = MappingProxyType({})) -> None:
        super().__init__(handlers)
        self._plain: dict[type[Any], bool] = {}

    def __missing__(self, message_type: type[Any]) -> Handler | None:
        found = next((self[base] for base in message_type.__mro__[1:] if self.get(base) is not None), None)
        self[message_type] = found
        return found

    def is_plain(self, message_type: type[Any]) -> bool:
        """Return whether there is a handler, and it is a plain function: one that never waits.

        A decorated one is as plain as what its decorators say they wrap.
        """
        plain = self._plain.get(message_type)
        if plain is None:
            handler = self[message_type]
            plain = self._plain[message_type] = handler is not None and not _is_async(handler)
        return plain


class Actor(Generic[ProtocolT]):
    """Base of every actor: subclass it, keep state in attributes, and mark handlers with `handles`.

    A restart makes a new instance through the factory of its `ChildSpec`.
    """

    handler_table: ClassVar[Mapping[type[Any], Handler]] = MappingProxyType({})
    """The handler of each message type, inherited ones included."""
    routes: Routes = Routes()
    """The same, for every type that ever came: subclasses of messages go to the handler of their nearest base.

    One that is set on an instance holds for that instance alone: so a test kit gets between messages and handlers.
    """

    context: Context[ProtocolT]
    """Set before `on_start` is called."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        handlers = _handlers(cls)
        cls.handler_table = MappingProxyType(handlers)
        cls.routes = Routes(handlers)

    async def on_start(self) -> None:
        """Prepare to handle messages; raising is a failed start, after which `on_stop` is not called."""

    async def on_stop(self) -> None:
        """Let go of what was taken; called whenever `on_start` came to its end.

        It is shielded from cancellation for the `shutdown_s` of the actor's `ChildSpec`.
        """


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(handler, stop=inspect.iscoroutinefunction))


def _handlers(cls: type[Any]) -> dict[type[Any], Handler]:
    """Find the handlers of a class; an override without the decorator keeps the type it overrides."""
    table: dict[type[Any], Handler] = {}
    taken_by: dict[type[Any], str] = {}
    for name in dict.fromkeys(name for base in reversed(cls.__mro__) for name in vars(base)):
        marks = (getattr(vars(base).get(name), _MARK, None) for base in cls.__mro__)
        message_type = next((mark for mark in marks if mark is not None), None)
        if message_type is None:
            continue
        if message_type in taken_by:
            msg = f"{cls.__name__} handles {message_type.__name__} twice: {taken_by[message_type]} and {name}"
            raise TypeError(msg)
        taken_by[message_type] = name
        table[message_type] = getattr(cls, name)
    return table
