"""Typed access to the store's tables and indexes, and the encoding of names and times as places in an index.

Every read returns the row with its version; a writer names that version as a precondition.
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
    """Returns the places of a row in the index: none, one or several."""

    def sound_lines(self, view: Snapshot, *, after: bytes | None = None) -> Iterator[tuple[bytes, str]]:
        """Walk the whole index, as `lines` does; a damaged entry is logged and skipped."""
        for line, stored in sound(view, self.name, after=after):
            yield line, stored.body.decode()

    def lines(
        self, view: Snapshot, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, str]]:
        """Walk the index; yield the key of each entry with the key of its row."""
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
    """For each earlier schema, the function that brings its rows to the next one."""

    def put(self, row: RowT) -> Put:
        """Return the write of a row under its own key, with its index entries."""
        key = _packed(self.key(row))
        return Put(self.name, key, codec.encode_row(row), self.schema, self._entries(row, key))

    def kept(self, key: bytes, stored: Stored) -> Put:
        """Return the write of a row exactly as it is stored, with the entries that the present indexes give it."""
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
        """Return the removal of a row."""
        return Delete(self.name, _packed(key))

    def expect(self, key: str, version: int) -> Expect:
        """Return the precondition that a row is at this version."""
        return Expect(self.name, _packed(key), version)

    def read(self, view: Snapshot, key: str) -> Versioned[RowT]:
        """Read one row, or its absence."""
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
        """Walk the rows in key order; a damaged row is logged and skipped."""
        bound = None if after is None else after.encode()
        for key, stored in sound(view, self.name, after=bound):
            try:
                yield self.decode(key, stored), stored.version
            except StoreDamaged as error:
                _log.error("%s; it is skipped", error)

    def decode(self, key: bytes, stored: Stored) -> RowT:
        """Turn the value that was read under this key into a row.

        Raises:
            StoreIncompatible: a newer release wrote it.
            StoreDamaged: its checksum is right, but it is not such a row.
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
            raise StoreDamaged(f"{self.name} {key!r}", f"it can't be read as {self.kind.__name__}", key=key) from error


def _packed(key: str) -> bytes:
    """Return the bytes of a key. One that is too long is refused here, because it would fail the whole batch.

    Raises:
        LimitExceeded, TypeError: it is too long, or not a string.
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
"""A longer name is represented in an index by its digest."""

_TIME = struct.Struct(">d")


def at(time: float) -> bytes:
    """Return a time as a place in an index; bytes sort like times, because these are not negative."""
    return _TIME.pack(max(time, 0.0))


def time_at(line: bytes) -> float:
    """Return the time at the beginning of an index entry's key."""
    return float(_TIME.unpack_from(line)[0])


def named(name: str) -> bytes:
    """Return a name as a place in an index; it is a prefix of no other name's entries."""
    packed = name.encode()
    if len(packed) > PLACE_BYTES_MAX or b"\0" in packed:
        packed = hashlib.sha256(packed).hexdigest().encode()
    return packed + b"\0"
