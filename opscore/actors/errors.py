"""What can go wrong between actors.

ActorError
├── MailboxFull      the mailbox has no room; the undelivered message rides back
├── StashFull        the actor has put aside as many messages as it may; the message rides back
├── AskTimeout       no reply before the deadline
├── AskCycle         the asked actor is itself waiting for the asker
├── ActorFailed      the handler raised an error that its message does not declare
├── ActorRestarted   the actor was restarted before it answered
├── ActorStopped     the actor was gone, or went, before it answered
├── StartFailed      an actor's factory or `on_start` raised
├── NurseryLeftOpen  a nursery that an actor left open between messages was cancelled
├── NameTaken        another live actor is registered under the name
└── SystemFailed     the root supervisor gave up
"""

from __future__ import annotations


def text_of(error: BaseException) -> str:
    """Return the text of an error, for messages that must not fail because of it."""
    try:
        return str(error)
    except Exception as failure:  # noqa: BLE001 (an error may fail at its own text)
        return f"its text raised {type(failure).__name__}"


class ActorError(Exception):
    """Base of every error this library raises on purpose."""


class MailboxFull(ActorError):
    """The mailbox is at its capacity and its policy refuses this message.

    Attributes:
        actor: Path of the actor that was addressed.
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
    """The actor has put aside as many messages as its `MailboxSpec.stash_max` allows.

    Attributes:
        actor: Path of the actor.
        message: The message that was to be put aside; unless its handler catches this, it fails.
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
        timeout_s: How long the asker waited, in seconds.
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
    """The ask would wait for an actor that is waiting for the asker.

    Attributes:
        cycle: Paths of the actors in asking order; the last is the one asked, who asked first.
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
        cause: The error as the handler raised it.
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
    """The incarnation that took the message was replaced before it answered.

    Attributes:
        actor: Path of the actor that was restarted.
    """

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} was restarted before it answered; ask again if the message is safe to repeat")
        self.actor = actor


class ActorStopped(ActorError):
    """The actor is gone for good, and with it the message.

    Attributes:
        actor: Path of the actor that is gone.
    """

    def __init__(self, actor: str) -> None:
        super().__init__(f"{actor} is stopped; look its reference up again, or start it under its supervisor")
        self.actor = actor


class StartFailed(ActorError):
    """An actor's factory or its `on_start` raised.

    Attributes:
        actor: Path of the actor that could not start.
        cause: The error as it was raised.
    """

    def __init__(self, actor: str, cause: BaseException) -> None:
        super().__init__(f"{actor} could not start: {type(cause).__name__}: {text_of(cause)}")
        self.__cause__ = cause
        self.actor = actor
        self.cause = cause


class NurseryLeftOpen(ActorError):
    """A nursery or a cancel scope that an actor left open between messages was cancelled.

    Most likely a task of the nursery failed, or the time of the scope was over.

    Attributes:
        actor: Path of the actor, which fails with this.
    """

    def __init__(self, actor: str, cause: BaseException) -> None:
        super().__init__(
            f"{actor} left a nursery or a cancel scope open between messages, and it was cancelled, "
            "most likely because one of its tasks failed or its time was over; "
            "let `context.start_soon` run what has to live as long as the actor"
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
    """The root supervisor exceeded its restart intensity; nothing of the system runs any more.

    Attributes:
        cause: The error of the last failure, the one that exceeded the intensity.
    """

    def __init__(self, cause: BaseException) -> None:
        super().__init__(f"the root supervisor gave up after {type(cause).__name__}: {text_of(cause)}")
        self.cause = cause
