"""What actors send one another."""

from __future__ import annotations

from typing import ClassVar, Generic, TypeVar

ProtocolT_contra = TypeVar("ProtocolT_contra", contravariant=True)
ReplyT_co = TypeVar("ReplyT_co", covariant=True)


class Message(Generic[ProtocolT_contra, ReplyT_co]):
    """Base of every message: `class GetCount(Message["Counter", int])`.

    The first parameter is the protocol that takes it, an actor class or a marker class; the second is the
    type of its reply. Subclasses are frozen values: `@attrs.frozen(kw_only=True)`.
    """

    __slots__ = ()

    declared_errors: ClassVar[tuple[type[Exception], ...]] = ()
    """Errors a handler may raise as an answer, subclasses included; any other crashes the actor."""
