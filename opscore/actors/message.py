"""The messages that actors send each other."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

ProtocolT_contra = TypeVar("ProtocolT_contra", contravariant=True)
ReplyT_co = TypeVar("ReplyT_co", covariant=True)


class Message(Generic[ProtocolT_contra, ReplyT_co]):
    """Base class of all messages: `class GetCount(Message["Counter", int])`.

    The first type parameter is the protocol that takes the message, an actor class or a marker class; the second is
    the type of the reply. Make subclasses frozen values: `@attrs.frozen(kw_only=True)`.
    """

    __slots__ = ()

    declared_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors, subclasses included, that a handler may raise as its answer; any other error crashes the actor."""
