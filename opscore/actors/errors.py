"""The errors of the actor library.

ActorError
├── MailboxFull      the mailbox is full; the error carries the message
├── StashFull        the actor's stash is full; the error carries the message
├── AskTimeout       no reply came before the deadline
├── AskCycle         the actor that was asked is itself waiting for the asker
├── ActorFailed      the handler raised an error that its message does not declare
├── ActorRestarted   the actor was restarted before it answered
├── ActorStopped     the actor stopped before it answered, or was gone already
├── StartFailed      an actor's factory or `on_start` raised
├── NurseryLeftOpen  a nursery or cancel scope that an actor left open between messages was cancelled
├── NameTaken        another live actor is registered under the name
└── SystemFailed     the root supervisor gave up
"""

from __future__ import annotations


def text_of(error: BaseException) -> str:
    """Return `str(error)`, or a substitute if that raises."""
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 (an error's `__str__` may raise anything)
        return f"its text raised {type(failure).__name__}"


class ActorError(Exception):
    """Base class of the errors that this library raises on purpose."""


class MailboxFull(ActorError):
    """The mailbox is full and its overflow policy refuses the message.

    Attributes:
        actor: Path of the actor that the message was sent to.
        message: The undelivered message.
    """

    def __init__(self, actor: str, message: object) -> None:
        super().__init__(
            f"the mailbox of {actor} is full and refused {type(message).__name__}; "
            "use `await ref.send(...)` to wait for room, or give the actor a larger MailboxSpec.capacity"
        )
        self.actor = actor
        self.message = message


class StashFull(ActorError):
    """The actor has stashed as many messages as its `MailboxSpec.stash_max` allows.

    Attributes:
        actor: Path of the actor.
        message: The message that was to be stashed; unless its handler catches this error, the actor crashes.
    """

    def __init__(self, actor: str, message: object) -> None:
        super().__init__(
            f"the stash of {actor} is full and has no room for {type(message).__name__}; "
            "unstash sooner, refuse the message, or give the actor a larger MailboxSpec.stash_max"
        )
        self.actor = actor
        self.message = message


class AskTimeout(ActorError):
    """No reply came before the deadline; the message may still be handled later.

    Attributes:
        actor: Path of the actor that was asked.
        message: The unanswered message.
        timeout_s: Seconds that the asker waited.
    """

    def __init__(self, actor: str, message: object, timeout_s: float) -> None:
        super().__init__(
            f"{actor} did not answer {type(message).__name__} within {timeout_s:g} s; "
            "it may still handle it, so ask again only if the message is safe to repeat"
        )
        self.actor = actor
        self.message = message
        self.timeout_s = timeout_s


class AskCycle(ActorError):
    """The ask would make actors wait for each other in a circle.

    Attributes:
        cycle: Paths of the actors, each waiting for the next. It begins and ends with the actor that was asked; the
            one before the end is the asker.
    """

    def __init__(self, cycle: tuple[str, ...]) -> None:
        super().__init__(
            f"the actors would wait for each other: {' → '.join(cycle)}; "
            "make one of the asks a tell, or answer it later through `context.defer()`"
        )
        self.cycle = cycle


class ActorFailed(ActorError):
    """The handler raised an error that its message does not declare.

    Attributes:
        actor: Path of the actor that failed.
        cause: The error that the handler raised.
    """

    def __init__(self, actor: str, cause: BaseException) -> None:
        super().__init__(
            f"{actor} failed with {type(cause).__name__}: {text_of(cause)}; "
            "its supervisor decides what follows, and the message became a dead letter"
        )
        self.__cause__ = cause
        self.actor = actor
        self.cause = cause


class ActorRestarted(ActorError):
    """The incarnation that had the message was replaced before it answered.

    Attributes:
        actor: Path of the actor that was restarted.
    """

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} was restarted before it answered; ask again if the message is safe to repeat")
        self.actor = actor


class ActorStopped(ActorError):
    """The actor is gone or is stopping, and will not handle the message.

    Attributes:
        actor: Path of the actor.
    """

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} is stopped; look its reference up again, or start it under its supervisor")
        self.actor = actor


class StartFailed(ActorError):
    """An actor's factory or its `on_start` raised.

    Attributes:
        actor: Path of the actor that could not start.
        cause: The error that was raised.
    """

    def __init__(self, actor: str, cause: BaseException) -> None:
        super().__init__(f"{actor} could not start: {type(cause).__name__}: {text_of(cause)}")
        self.__cause__ = cause
        self.actor = actor
        self.cause = cause


class NurseryLeftOpen(ActorError):
    """A nursery or a cancel scope that an actor left open between messages was cancelled.

    Most likely a task of the nursery failed, or the scope's deadline passed.

    Attributes:
        actor: Path of the actor, which crashes with this error.
    """

    def __init__(self, actor: str, cause: BaseException) -> None:
        super().__init__(
            f"{actor} left a nursery or a cancel scope open between messages, and it was cancelled, "
            "most likely because one of its tasks failed or its deadline passed; "
            "use `context.start_soon` for what has to run as long as the actor"
        )
        self.__cause__ = cause
        self.actor = actor


class NameTaken(ActorError):
    """Another live actor is registered under the name.

    Attributes:
        name: The name.
        actor: Path of the actor that has it.
    """

    def __init__(self, name: str, actor: str) -> None:
        super().__init__(f"{name!r} is registered for {actor}; unregister it first, or choose another name")
        self.name = name
        self.actor = actor


class SystemFailed(ActorError):
    """The root supervisor exceeded its restart intensity; the whole system has stopped.

    Attributes:
        cause: The error of the failure that exceeded the intensity.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"the root supervisor gave up after {type(cause).__name__}: {text_of(cause)}")
        self.cause = cause
