"""The layout of a value on disk: a header, its index entries and its body, all of them covered by a checksum.

The checksum also covers the table and the key, so a value that ended up under another key or table is detected.
"""

import functools
import struct
from typing import Final
from zlib import crc32

from opscore.runtime.errors import StoreDamaged, StoreError
from opscore.runtime.store import SCHEMA_MAX, Entry, Stored

_HEADER = struct.Struct(">HQI")
"""Schema and flags, version, checksum."""
_HEAD = struct.Struct(">HQ")
_INDEXED: Final = 0x8000
"""Flag of a value that has index entries."""
_CHAINED: Final = 0x4000
"""Flag of a checksum of format 2, chained over table, key, head and body. Format 1 formatted these as one text."""
_FLAGS: Final = _INDEXED | _CHAINED
_COUNT = struct.Struct(">H")
ENTRIES_MAX: Final = 2**16 - 1
"""Maximum number of index entries of a value."""
_ENTRY = struct.Struct(">BH")
"""Lengths of an entry's index name and place, in bytes."""


def sealed(table: str, key: bytes, body: bytes, *, schema: int, version: int, entries: tuple[Entry, ...] = ()) -> bytes:
    """Return the bytes to store for a value."""
    assert 0 <= schema <= SCHEMA_MAX, f"{schema} is no schema"
    schema |= _CHAINED
    if entries:
        schema |= _INDEXED
        body = _packed(entries) + body
    head = _HEAD.pack(schema, version)
    return _HEADER.pack(schema, version, crc32(body, crc32(head, crc32(key, _seed(table))))) + body


def opened(table: str, key: bytes, value: bytes) -> Stored:
    """Check the stored bytes of a value and decode them.

    Raises:
        StoreDamaged: they are not what was written there.
    """
    schema, version, body = _checked(table, key, value)
    if schema & _INDEXED:
        body = body[_unpacked(body)[1] :]
    return Stored(body, schema & ~_FLAGS, version)


def version_of(table: str, key: bytes, value: bytes) -> int:
    """Read the version of a value without verifying the checksum.

    A damaged version fails every precondition; whoever then reads the value finds the damage.

    Raises:
        StoreDamaged: the value is shorter than its header.
    """
    if len(value) < _HEADER.size:
        raise StoreDamaged(_named(table, key), "it is shorter than its header", key=key)
    version: int = _HEADER.unpack_from(value)[1]
    return version


def entries_of(table: str, key: bytes, value: bytes) -> tuple[Entry, ...]:
    """Read the index entries of a value.

    Raises:
        StoreDamaged: the bytes are not what was written there.
    """
    schema, _, body = _checked(table, key, value)
    return _unpacked(body)[0] if schema & _INDEXED else ()


def _checked(table: str, key: bytes, value: bytes) -> tuple[int, int, bytes]:
    if len(value) < _HEADER.size:
        raise StoreDamaged(_named(table, key), "it is shorter than its header", key=key)
    schema, version, digest = _HEADER.unpack_from(value)
    body = value[_HEADER.size :]
    if schema & _CHAINED:
        expected = crc32(body, crc32(value[: _HEAD.size], crc32(key, _seed(table))))
    else:
        expected = crc32(body, crc32(b"%s\0%s\0%d\0%d\0" % (table.encode(), key, schema, version)))
    if digest != expected:
        raise StoreDamaged(_named(table, key), "its checksum does not match", key=key)
    return schema, version, body


@functools.cache
def _seed(table: str) -> int:
    """Return the checksum that those of a table's values start from."""
    return crc32(b"%s\0" % table.encode())


def _named(table: str, key: bytes) -> str:
    return f"{table} {key!r}"


def _packed(entries: tuple[Entry, ...]) -> bytes:
    if len(entries) > ENTRIES_MAX:
        raise StoreError(f"a value has {len(entries):,} entries, and {ENTRIES_MAX:,} are allowed")
    parts = [_COUNT.pack(len(entries))]
    for entry in entries:
        name = entry.index.encode()
        parts += (_ENTRY.pack(len(name), len(entry.place)), name, entry.place)
    return b"".join(parts)


def _unpacked(body: bytes) -> tuple[tuple[Entry, ...], int]:
    """Return the index entries before a verified body, and the offset at which the body begins."""
    entries = []
    (count,) = _COUNT.unpack_from(body)
    at = _COUNT.size
    for _ in range(count):
        name_bytes, place_bytes = _ENTRY.unpack_from(body, at)
        name_at = at + _ENTRY.size
        place_at = name_at + name_bytes
        at = place_at + place_bytes
        entries.append(Entry(body[name_at:place_at].decode(), body[place_at:at]))
    return tuple(entries), at
