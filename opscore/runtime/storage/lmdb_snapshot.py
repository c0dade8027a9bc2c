"""Reading LMDB at one commit: values are checked as they are read."""

from collections.abc import Iterator, Mapping
from typing import Any, Final, cast

import lmdb

from opscore.runtime.storage import sealing
from opscore.runtime.store import KEY_BYTES_MAX, Stored

META_TABLE: Final = "meta"
SEQUENCE_KEY: Final = b"sequence"


class LmdbSnapshot:
    """A transaction's view of the tables and indexes.

    Args:
        transaction: what it reads in.
        tables: LMDB's handles by name. One that an older release did not make reads as empty.
    """

    def __init__(self, transaction: lmdb.Transaction, tables: Mapping[str, Any]) -> None:
        self._transaction = transaction
        self._tables = tables

    def last_sequence(self) -> int:
        """The sequence number of the newest commit."""
        noted = self.get(META_TABLE, SEQUENCE_KEY)
        return 0 if noted is None else noted.version

    def get(self, table: str, key: bytes) -> Stored | None:
        """Read one value, or nothing."""
        value = self.raw(table, key)
        return None if value is None else sealing.opened(table, key, value)

    def raw(self, table: str, key: bytes) -> bytes | None:
        """Read the bytes of a value as they lie there, unchecked."""
        database = self._tables[table]
        if database is None or not 0 < len(key) <= KEY_BYTES_MAX:
            return None
        return cast("bytes | None", self._transaction.get(key, db=database))

    def scan(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, Stored]]:
        """Walk the keys with a prefix in order, from just past `after` (before it, when reversed)."""
        for key, value in self.scan_raw(table, prefix=prefix, after=after, reverse=reverse):
            yield key, sealing.opened(table, key, value)

    def scan_raw(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """As `scan`, with the bytes of each value as they lie there, unchecked."""
        database = self._tables[table]
        if database is None:
            return
        after = after[:KEY_BYTES_MAX] if after is not None else None
        with self._transaction.cursor(db=database) as cursor:
            found = _seek_back(cursor, prefix, after) if reverse else _seek(cursor, prefix, after)
            advance = cursor.prev if reverse else cursor.next
            while found:
                key, value = cast("tuple[bytes, bytes]", cursor.item())
                if not key.startswith(prefix):
                    return
                yield key, value
                found = advance()

    def count(self, table: str) -> int:
        """How many keys a table has."""
        database = self._tables[table]
        return 0 if database is None else int(self._transaction.stat(database)["entries"])


def _seek(cursor: lmdb.Cursor, prefix: bytes, after: bytes | None) -> bool:
    if after is None or after < prefix:
        return bool(cursor.set_range(prefix))
    found = bool(cursor.set_range(after))
    return bool(cursor.next()) if found and cursor.key() == after else found


def _seek_back(cursor: lmdb.Cursor, prefix: bytes, after: bytes | None) -> bool:
    end = _past(prefix)
    bound = after if after is not None and (end is None or after < end) else end
    found = bound is not None and bool(cursor.set_range(bound))
    return bool(cursor.prev()) if found else bool(cursor.last())


def _past(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with the prefix; nothing, when there can be none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
