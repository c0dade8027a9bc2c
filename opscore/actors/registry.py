"""Well-known names of one system's actors."""

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
    """A name, typed by the protocol of who answers to it: `LEDGER: Name[Ledger] = Name("ledger")`."""

    value: str = attrs.field(validator=attrs.validators.min_len(1))
    """The name itself; not empty."""


class Registry:
    """Who answers to which name, within one system; a name is free again once its actor is gone for good.

    It survives restarts, as references do. Every actor has a path beside it, which `System.ref` finds.
    """

    def __init__(self) -> None:
        self._refs: dict[str, Ref[Any]] = {}
        self._unwatch: dict[str, Callable[[], None]] = {}

    def register(self, name: Name[ProtocolT], ref: Ref[ProtocolT]) -> None:
        """Have an actor answer to a name; repeating it is harmless.

        Raises:
            NameTaken: Another live actor has the name.
            ActorStopped: The actor is gone for good.
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
        """Free a name; harmless when nobody has it."""
        self._refs.pop(name.value, None)
        unwatch = self._unwatch.pop(name.value, None)
        if unwatch is not None:
            unwatch()

    def find(self, name: Name[ProtocolT]) -> Ref[ProtocolT] | None:
        """Return the address of the actor that answers to a name, or None."""
        ref = self._refs.get(name.value)
        # One that is still handling its last messages takes no new ones.
        return ref if ref is not None and ref.alive else None

    def names(self) -> tuple[str, ...]:
        """Return every name in use, in the order they were registered."""
        return tuple(self._refs)
