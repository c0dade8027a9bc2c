"""Actors: typed handlers, hooks, and the context that an actor runs in."""

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
    """Tells a watcher that an actor is gone."""

    actor: str
    """Path of the actor that is gone."""
    cause: BaseException | None = None
    """The error that its last incarnation failed with; None if it ended normally or was stopped."""


class Handles(Generic[MessageT_co]):
    """The decorator that `handles` returns."""

    def __init__(self, message_type: type[MessageT_co]) -> None:
        self._message_type = message_type

    # The explicit `self` lets a type checker derive the type of the reply from that of the message.
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
    """Make a method the handler of a message type and its subclasses.

    A plain method can't wait, and costs less: an idle actor that is asked runs it in the asker's task, without a task
    switch. An async method may wait. Either takes the message and returns the reply, or the `Reply` that
    `context.defer()` or `context.stash()` returned; type checkers check it against the message's reply type. An
    error that the message declares is an answer; any other error crashes the actor.

    Args:
        message_type: Type of the messages; the handler of a subclass takes precedence over that of its base.

    Raises:
        TypeError: Two methods handle one type; raised when the class is created.
    """
    return Handles(message_type)


class Context(ABC, Generic[ProtocolT]):
    """An actor's access to the system that it runs in; each incarnation has its own."""

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
    """Number of this incarnation, from 1."""

    @property
    @abstractmethod
    def log(self) -> logging.LoggerAdapter[logging.Logger]:
        """The logger `opscore.actors`, bound to the actor's name and incarnation."""

    @abstractmethod
    def defer(self) -> Reply[Any]:
        """Return the reply of the message being handled, to be given later; the handler returns it.

        If the message was told, the reply goes nowhere.

        Raises:
            RuntimeError: No message is being handled.
        """

    @abstractmethod
    def stash(self) -> Reply[Any]:
        """Stash the message being handled; the handler returns what this returns.

        The message comes back with `unstash`, or first of all in the next incarnation. Its asker goes on waiting.

        Raises:
            RuntimeError: No message is being handled.
            StashFull: The stash holds `MailboxSpec.stash_max` messages already.
        """

    @abstractmethod
    def unstash(self) -> None:
        """Put the stashed messages before those that wait, in order of arrival, unless the incarnation has ended."""

    @abstractmethod
    def start_soon(self, async_fn: Callable[..., Awaitable[object]], *args: object) -> None:
        """Run a function as a background task, until the incarnation ends.

        An exception that it raises crashes the actor. When the incarnation ends, the task is cancelled and awaited
        before `on_stop` is called.

        Args:
            async_fn: The function to run.
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
        """Ask another actor without waiting, and pass the outcome to a function. Unlike `start_soon` it needs no task.

        The function is called in the middle of whatever runs at that moment, perhaps another handler of this actor,
        so it should only tell the actor a message. An exception that it raises crashes the actor. It is not called
        once the incarnation has ended.

        Args:
            ref: The other actor.
            message: What to ask.
            then: Called once, with the reply or with the error that `ask` would raise.
            timeout_s: Maximum seconds to wait; finite.

        Raises:
            ValueError: `timeout_s` is not positive and finite.
        """

    @abstractmethod
    def tell_after(self, delay_s: float, message: Message[ProtocolT, Any]) -> Timer:
        """Tell this actor a message after a delay, unless the incarnation ends before.

        If the mailbox is then full and its policy is to reject, the message becomes a dead letter.

        Args:
            delay_s: Minimum delay in seconds. Infinity means never, as for `trio.sleep`; 0 or less means at once.
            message: What to tell.

        Returns:
            The timer, which can be cancelled.

        Raises:
            ValueError: The delay is NaN.
        """

    @abstractmethod
    def tell_every(self, interval_s: float, message: Message[ProtocolT, Any]) -> Timer:
        """Tell this actor a message at every interval, until the timer is cancelled or the incarnation ends.

        A tick is left out while the one before it still waits, so that a timer can't bury a slow actor.

        Args:
            interval_s: Seconds between ticks, and before the first.
            message: What to tell.

        Returns:
            The timer, which can be cancelled.

        Raises:
            ValueError: The interval is not positive.
        """

    @abstractmethod
    def watch(self, ref: Ref[Any]) -> None:
        """Deliver `Terminated` to this actor once another actor is gone, at once if it is gone already.

        `Terminated` goes before all messages that wait. Watching an actor twice has no further effect. The watch ends
        with the incarnation.

        Args:
            ref: The other actor.
        """

    @abstractmethod
    def unwatch(self, ref: Ref[Any]) -> None:
        """End a watch, if there is one; a `Terminated` that was delivered already may still wait in the mailbox."""

    @abstractmethod
    def stop(self) -> None:
        """End the incarnation normally after the current message.

        A permanent actor is restarted and keeps its mailbox. Any other actor is gone: its name is free at once, unless
        it is significant, and the messages that wait become dead letters, unless its `ChildSpec` says `drain`.
        """

    @abstractmethod
    def stop_if_quiet(self) -> bool:
        """Stop as `stop` does, but only if no message waits or is stashed; return whether it stopped."""


class Routes(dict[type[Any], Handler | None]):
    """Maps a message type to its handler, or to that of its nearest base, and caches it; None if there is none."""

    def __init__(self, handlers: Mapping[type[Any], Handler | None] = MappingProxyType({})) -> None:
        super().__init__(handlers)
        self._plain: dict[type[Any], bool] = {}

    def __missing__(self, message_type: type[Any]) -> Handler | None:
        found = next((self[base] for base in message_type.__mro__[1:] if self.get(base) is not None), None)
        self[message_type] = found
        return found

    def is_plain(self, message_type: type[Any]) -> bool:
        """Return whether there is a handler and it is a plain function, which never waits.

        A decorated handler is judged by the function that its decorators say they wrap.
        """
        plain = self._plain.get(message_type)
        if plain is None:
            handler = self[message_type]
            plain = self._plain[message_type] = handler is not None and not _is_async(handler)
        return plain


class Actor(Generic[ProtocolT]):
    """Base class of all actors: subclass it, keep state in attributes, and mark handlers with `handles`.

    A restart creates a new instance with the factory of the actor's `ChildSpec`.
    """

    handler_table: ClassVar[Mapping[type[Any], Handler]] = MappingProxyType({})
    """The handler of each message type, inherited ones included."""
    routes: Routes = Routes()
    """The handler of each message type that has arrived, subclasses included.

    Setting it on an instance overrides it for that instance alone, which lets a test kit intercept messages.
    """

    context: Context[ProtocolT]
    """Set before `on_start` is called."""

    def __init_subclass__(cls, **arguments: Any) -> None:
        super().__init_subclass__(**arguments)
        handlers = _handlers(cls)
        cls.handler_table = MappingProxyType(handlers)
        cls.routes = Routes(handlers)

    async def on_start(self) -> None:
        """Prepare to handle messages. If it raises, the start has failed, and `on_stop` is not called."""

    async def on_stop(self) -> None:
        """Release resources; called whenever `on_start` has completed, also after a crash.

        It is shielded from cancellation for the `shutdown_s` of the actor's `ChildSpec`.
        """


def _is_async(handler: Handler) -> bool:
    return inspect.iscoroutinefunction(inspect.unwrap(handler, stop=inspect.iscoroutinefunction))


def _handlers(cls: type[Any]) -> dict[type[Any], Handler]:
    """Find the handlers of a class; an override without the decorator handles the type of the method it overrides."""
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
