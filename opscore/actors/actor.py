"""What an actor is: typed handlers, hooks, and the context it runs in."""

from __future__ import annotations

import inspect
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Mapping
from types import MappingProxyType
from typing import TYPE_CHECKING, Any, ClassVar, Generic, TypeAlias, TypeVar

import attrs

from opscore.actors.message import Message

if TYPE_CHECKING:
    import logging

    from opscore.actors.clock import Clock
    from opscore.actors.ref import Ref
    from opscore.actors.reply import Reply
    from opscore.actors.timers import Timer

ProtocolT = TypeVar("ProtocolT")
ReplyT = TypeVar("ReplyT")
ActorT = TypeVar("ActorT")
MessageT = TypeVar("MessageT")
MessageT_co = TypeVar("MessageT_co", covariant=True)

Handler: TypeAlias = Callable[[Any, Any], Awaitable[Any]]

_MARK = "__opscore_handles__"


@attrs.frozen(kw_only=True)
class Terminated(Message[Any, None]):
    """Tells a watcher that an actor is gone for good."""

    actor: str
    """Path of the actor that is gone."""


class Handles(Generic[MessageT_co]):
    """The decorator that `handles` returns."""

    def __init__(self, message_type: type[MessageT_co]) -> None:
        self._message_type = message_type

    # The explicit `self` lets a type checker derive the reply's type from the message's.
    def __call__(
        self: Handles[Message[ProtocolT, ReplyT]],
        function: Callable[[ActorT, MessageT_co], Awaitable[ReplyT | Reply[ReplyT]]],
    ) -> Callable[[ActorT, MessageT_co], Awaitable[ReplyT | Reply[ReplyT]]]:
        """Mark a method as the handler of the message type."""
        if not inspect.iscoroutinefunction(function):
            msg = f"{function!r} handles {self._message_type.__name__} and must be an async function"
            raise TypeError(msg)
        setattr(function, _MARK, self._message_type)
        return function


def handles(message_type: type[MessageT]) -> Handles[MessageT]:
    """Make an async method the handler of a message type, subclasses of it included.

    The method returns the reply, or the `Reply` it took with `context.defer()`; type checkers hold it to the
    message's reply type.
    """
    return Handles(message_type)


class Context(ABC, Generic[ProtocolT]):
    """What an incarnation of an actor can ask of the system it runs in."""

    name: str
    """Path of the actor."""
    ref: Ref[ProtocolT]
    clock: Clock
    log: logging.LoggerAdapter[logging.Logger]
    """Logger `opscore.actors`, bound with the actor's name and incarnation."""
    incarnation: int
    """Counts the starts of this actor, from 1."""

    @abstractmethod
    def defer(self) -> Reply[Any]:
        """Take the reply of the message being handled, to answer later; the handler returns it.

        For a told message it is a sink.

        Raises:
            RuntimeError: No message is being handled.
        """

    @abstractmethod
    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a function beside the handlers until the incarnation ends.

        Its exception crashes the actor. It is cancelled and awaited before `on_stop` is called.

        Raises:
            RuntimeError: The incarnation is ending.
        """

    @abstractmethod
    def tell_after(self, delay_s: float, message: Message[ProtocolT, Any]) -> Timer:
        """Tell the actor itself a message after a delay in seconds, unless the incarnation ends before."""

    @abstractmethod
    def watch(self, ref: Ref[Any]) -> None:
        """Have `Terminated` delivered once another actor is gone for good, at once if it is.

        The watch ends with the incarnation.
        """

    @abstractmethod
    def stop(self) -> None:
        """End normally after the current message.

        A permanent actor is restarted and keeps its mailbox. Any other is gone: its name is free at once, and
        what still waits in its mailbox becomes dead letters.
        """

    @abstractmethod
    def stop_if_quiet(self) -> bool:
        """Stop as `stop` does, but only if no message waits; return whether it did."""


class Actor(Generic[ProtocolT]):
    """Base of every actor: subclass it, keep state in attributes, and mark handlers with `handles`.

    A restart makes a new instance through the factory of its `ChildSpec`.
    """

    handler_table: ClassVar[Mapping[type[Any], Handler]] = MappingProxyType({})
    """The handler of each message type, inherited ones included."""

    context: Context[ProtocolT]
    """Set before `on_start` is called."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        cls.handler_table = MappingProxyType(_handler_table(cls))

    async def on_start(self) -> None:
        """Prepare to handle messages; raising is a failed start."""

    async def on_stop(self) -> None:
        """Let go of what was taken; called whenever `on_start` came to its end.

        It is shielded from cancellation for the `shutdown_s` of the actor's `ChildSpec`.
        """


def _handler_table(cls: type[Any]) -> dict[type[Any], Handler]:
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


def handler_of(actor: Actor[Any], message_type: type[Any]) -> Handler | None:
    """Return the handler of a message type, or that of its nearest base, or None."""
    table = actor.handler_table
    return next((table[base] for base in message_type.__mro__ if base in table), None)
