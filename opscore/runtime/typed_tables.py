"""Typed views of the store's tables and indexes, and how names and times become places in an index.

Every read returns the row with its version; a writer names that version as precondition.
"""

import hashlib
import logging
import struct
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Any, Final, Generic, TypeAlias, TypeVar

import attrs

from opscore.runtime import codec
from opscore.runtime.errors import LimitExceeded, StoreDamaged, StoreIncompatible
from opscore.runtime.store import ABSENT, KEY_BYTES_MAX, Delete, Entry, Expect, Put, Snapshot, Stored, sound

RowT = TypeVar("RowT")

_log = logging.getLogger("opscore.store")

Document: TypeAlias = dict[str, Any]
Upcaster: TypeAlias = Callable[[Document], Document]
"""Brings a row's document from one schema to the next."""


@attrs.frozen
class Versioned(Generic[RowT]):
    """A row, or its absence, at a version."""

    row: RowT | None
    version: int


@attrs.frozen(kw_only=True)
class Index(Generic[RowT]):
    """An order in which some rows of a table can be walked without reading the others."""

    name: str
    places: Callable[[RowT], Iterable[bytes]]
    """Where a row stands in it; nowhere, once, or several times."""

    def sound_lines(self, view: Snapshot, *, after: bytes | None = None) -> Iterator[tuple[bytes, str]]:
        """Walk the whole index; a damaged line is logged and passed over."""
        for line, stored in sound(view, self.name, after=after):
            yield line, stored.body.decode()

    def lines(
        self, view: Snapshot, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, str]]:
        """Walk the index; each line with the key of its row."""
        for line, stored in view.scan(self.name, prefix=prefix, after=after, reverse=reverse):
            yield line, stored.body.decode()


@attrs.frozen(kw_only=True)
class Table(Generic[RowT]):
    """A typed view of one of the store's tables."""

    name: str
    kind: type[RowT]
    schema: int
    key: Callable[[RowT], str]
    indexes: tuple[Index[RowT], ...] = ()
    upcasters: Mapping[int, Upcaster] = attrs.field(factory=dict)
    """For each earlier schema how its rows become rows of the next."""

    def put(self, row: RowT) -> Put:
        """Write this row under its own key, and its entries in the indexes."""
        key = _packed(self.key(row))
        return Put(self.name, key, codec.encode_row(row), self.schema, self._entries(row, key))

    def kept(self, key: bytes, stored: Stored) -> Put:
        """Write a row as it is stored, with the entries that it has by the indexes of now."""
        entries = self._entries(self.decode(key, stored), key) if self.indexes else ()
        return Put(self.name, key, stored.body, stored.schema, entries)

    def _entries(self, row: RowT, key: bytes) -> tuple[Entry, ...]:
        entries: list[Entry] = []
        for index in self.indexes:
            for place in index.places(row):
                _check_length(len(place) + len(key))
                entries.append(Entry(index.name, place))
        return tuple(entries)

    def delete(self, key: str) -> Delete:
        """Remove the row."""
        return Delete(self.name, _packed(key))

    def expect(self, key: str, version: int) -> Expect:
        """Require the row to be at this version."""
        return Expect(self.name, _packed(key), version)

    def read(self, view: Snapshot, key: str) -> Versioned[RowT]:
        """Read one row."""
        packed = _packed(key)
        stored = view.get(self.name, packed)
        return Versioned(None, ABSENT) if stored is None else Versioned(self.decode(packed, stored), stored.version)

    def scan(
        self, view: Snapshot, *, prefix: str = "", after: str | None = None, reverse: bool = False
    ) -> Iterator[tuple[RowT, int]]:
        """Walk the rows in key order, each with its version."""
        bound = None if after is None else after.encode()
        for key, stored in view.scan(self.name, prefix=prefix.encode(), after=bound, reverse=reverse):
            yield self.decode(key, stored), stored.version

    def sound_rows(self, view: Snapshot, *, after: str | None = None) -> Iterator[tuple[RowT, int]]:
        """Walk the rows in key order; a damaged one is logged and passed over."""
        bound = None if after is None else after.encode()
        for key, stored in sound(view, self.name, after=bound):
            try:
                yield self.decode(key, stored), stored.version
            except StoreDamaged as error:
                _log.error("%s; it is passed over", error)

    def decode(self, key: bytes, stored: Stored) -> RowT:
        """Turn what was read under this key into a row.

        Raises:
            StoreIncompatible: a newer release wrote it.
            StoreDamaged: it is as it was written, but no such row.
        """
        if stored.schema > self.schema:
            raise StoreIncompatible(
                self.name, f"a row has schema {stored.schema}, this release reads up to {self.schema}"
            )
        try:
            if stored.schema == self.schema:
                return codec.decode_row(stored.body, self.kind)
            document = codec.decode_json(stored.body)
            for schema in range(stored.schema, self.schema):
                document = self.upcasters[schema](document)
            return codec.structure_row(document, self.kind)
        except (ExceptionGroup, LookupError, TypeError, ValueError) as error:
            raise StoreDamaged(f"{self.name} {key!r}", f"it is no {self.kind.__name__}", key=key) from error


def _packed(key: str) -> bytes:
    """The bytes of a key; one too long would fail the whole batch that its submission shares.

    Raises:
        LimitExceeded, TypeError: it is too long, or no text.
    """
    if not isinstance(key, str):
        raise TypeError(f"expected a string as an id, found {key!r}")
    packed = key.encode()
    _check_length(len(packed))
    return packed


def _check_length(length: int) -> None:
    if length > KEY_BYTES_MAX:
        raise LimitExceeded("key_bytes_max", KEY_BYTES_MAX, length)


# --- places in an index -------------------------------------------------------------------------------------

PLACE_BYTES_MAX: Final = 64
"""A name that is longer stands in an index by its digest."""

_TIME = struct.Struct(">d")


def at(time: float) -> bytes:
    """A time as a place in an index; the order of the bytes is the order of the times (they are positive)."""
    return _TIME.pack(max(time, 0.0))


def time_at(line: bytes) -> float:
    """The time at which a line of an index stands."""
    return float(_TIME.unpack_from(line)[0])


def named(name: str) -> bytes:
    """A name as a place in an index: no other name's lines begin with it."""
    packed = name.encode()
    if len(packed) > PLACE_BYTES_MAX or b"\0" in packed:
        packed = hashlib.sha256(packed).hexdigest().encode()
    return packed + b"\0"
