"""Well-known names of the actors of one system."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from opscore.actors.errors import ActorStopped, NameTaken

if TYPE_CHECKING:
    from collections.abc import Callable

    from opscore.actors.ref import Ref

ProtocolT = TypeVar("ProtocolT")


@attrs.frozen
class Name(Generic[ProtocolT]):
    """A name, typed by the protocol of the actor that has it: `LEDGER: Name[Ledger] = Name("ledger")`."""

    value: str = attrs.field(validator=attrs.validators.min_len(1))
    """The name; not empty."""


class Registry:
    """The names of one system's actors.

    A name survives restarts of its actor and is free again once the actor is gone. Independently of names, every actor
    has a path, by which `System.ref` finds it.
    """

    def __init__(self) -> None:
        self._refs: dict[str, Ref[Any]] = {}
        self._unwatch: dict[str, Callable[[], None]] = {}

    def register(self, name: Name[ProtocolT], ref: Ref[ProtocolT]) -> None:
        """Give an actor a name; repeating it changes nothing.

        Raises:
            NameTaken: Another live actor has the name.
            ActorStopped: The actor is gone or is stopping.
        """
        taken_by = self._refs.get(name.value)
        if taken_by is ref:
            return
        if taken_by is not None and taken_by.alive:
            raise NameTaken(name.value, taken_by.name)
        if not ref.alive:
            raise ActorStopped(ref.name)
        self.unregister(name)
        self._refs[name.value] = ref
        self._unwatch[name.value] = ref.mailbox.watch(lambda: self.unregister(name))

    def unregister(self, name: Name[Any]) -> None:
        """Free a name; a name that no actor has is ignored."""
        self._refs.pop(name.value, None)
        unwatch = self._unwatch.pop(name.value, None)
        if unwatch is not None:
            unwatch()

    def find(self, name: Name[ProtocolT]) -> Ref[ProtocolT] | None:
        """Return the address of the actor that has a name, or None."""
        ref = self._refs.get(name.value)
        # An actor that is draining keeps its name but takes no new messages.
        return ref if ref is not None and ref.alive else None

    def names(self) -> tuple[str, ...]:
        """Return all names in use, in the order in which they were registered."""
        return tuple(self._refs)
