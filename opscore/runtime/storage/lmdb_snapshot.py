"""Snapshots: reading LMDB at one commit. Each value's checksum is verified as it is read."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

import lmdb

from opscore.runtime.errors import StoreError
from opscore.runtime.storage import lmdb_failures, sealing
from opscore.runtime.store import KEY_BYTES_MAX, Stored

_OVER: Final = "a snapshot was read after its block had ended"
META_TABLE: Final = "meta"
SEQUENCE_KEY: Final = b"sequence"


class Reading:
    """The context manager of a snapshot, which is valid within the block.

    LMDB has a fixed number of reader slots, and its Python binding releases one only when nothing refers to the
    transaction any more. The traceback of an error that left the block may be kept for long, and keeps alive what its
    frames refer to. So the snapshot drops all its references when the block ends.

    Raises:
        StoreDamaged: a page or a value that is read is damaged.
    """

    __slots__ = ("_environment", "_path", "_tables", "_view")

    def __init__(self, environment: lmdb.Environment, tables: Mapping[str, Any], path: Path) -> None:
        self._environment = environment
        self._tables = tables
        self._path = path

    def __enter__(self) -> "LmdbSnapshot":
        """Return the snapshot."""
        try:
            self._view = LmdbSnapshot(self._environment.begin(), self._tables)
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self._path) from error
        return self._view

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """End the snapshot."""
        self._view.close()
        if isinstance(error, lmdb.Error):
            raise lmdb_failures.translated(error, self._path) from error


class LmdbSnapshot:
    """A transaction's view of the tables and indexes.

    Args:
        transaction: the transaction to read in.
        tables: LMDB's handles by table name. A table that an older release did not create has None, and reads as empty.
    """

    def __init__(self, transaction: lmdb.Transaction, tables: Mapping[str, Any]) -> None:
        self._transaction: lmdb.Transaction | None = transaction
        self._tables = tables
        self._walks: set[_Walk] = set()

    def close(self) -> None:
        """End the transaction and every unfinished scan; any further read raises `StoreError`."""
        while self._walks:
            self._walks.pop().close()
        if self._transaction is not None:
            self._transaction.abort()
            self._transaction = None

    def _open(self) -> lmdb.Transaction:
        if self._transaction is None:
            raise StoreError(_OVER)
        return self._transaction

    def last_sequence(self) -> int:
        """Return the sequence number of the snapshot's commit."""
        noted = self.get(META_TABLE, SEQUENCE_KEY)
        return 0 if noted is None else noted.version

    def get(self, table: str, key: bytes) -> Stored | None:
        """Return one value, or None."""
        value = self.raw(table, key)
        return None if value is None else sealing.opened(table, key, value)

    def raw(self, table: str, key: bytes) -> bytes | None:
        """Return the stored bytes of a value without verifying them, or None."""
        database = self._tables[table]
        if database is None or not 0 < len(key) <= KEY_BYTES_MAX:
            return None
        return cast("bytes | None", self._open().get(key, db=database))

    def scan(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, Stored]]:
        """Yield the keys with a prefix and their values in order, beginning after `after` (before it, if reversed)."""
        for key, value in self.scan_raw(table, prefix=prefix, after=after, reverse=reverse):
            yield key, sealing.opened(table, key, value)

    def scan_raw(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, bytes]]:
        """Scan as `scan` does, but yield the stored bytes of each value without verifying them."""
        database = self._tables[table]
        if database is None:
            return
        walk = _Walk(self._open().cursor(db=database))
        self._walks.add(walk)
        try:
            found = _seek_back(walk.cursor(), prefix, after) if reverse else _seek(walk.cursor(), prefix, after)
            while found:
                key, value = cast("tuple[bytes, bytes]", walk.cursor().item())
                if not key.startswith(prefix):
                    return
                yield key, value
                found = walk.cursor().prev() if reverse else walk.cursor().next()
        finally:
            walk.close()
            self._walks.discard(walk)

    def count(self, table: str) -> int:
        """Return the number of keys in a table."""
        database = self._tables[table]
        return 0 if database is None else int(self._open().stat(database)["entries"])


class _Walk:
    """Holds a scan's cursor, so that it can be closed while the scan's generator is still referred to."""

    def __init__(self, cursor: lmdb.Cursor) -> None:
        self._cursor: lmdb.Cursor | None = cursor

    def cursor(self) -> lmdb.Cursor:
        if self._cursor is None:
            raise StoreError(_OVER)
        return self._cursor

    def close(self) -> None:
        cursor, self._cursor = self._cursor, None
        if cursor is not None:
            cursor.close()


def _seek(cursor: lmdb.Cursor, prefix: bytes, after: bytes | None) -> bool:
    if after is None or after < prefix:
        return bool(cursor.set_range(prefix))
    after = after[:KEY_BYTES_MAX]
    found = bool(cursor.set_range(after))
    return bool(cursor.next()) if found and cursor.key() == after else found


def _seek_back(cursor: lmdb.Cursor, prefix: bytes, after: bytes | None) -> bool:
    end = _past(prefix)
    bound = after if after is not None and (end is None or after < end) else end
    found = bound is not None and bool(cursor.set_range(bound[:KEY_BYTES_MAX]))
    if found and bound is not None and bytes(cursor.key()) < bound:
        # The bound was cut to the length of the longest key, and this key is before the whole bound.
        return True
    return bool(cursor.prev()) if found else bool(cursor.last())


def _past(prefix: bytes) -> bytes | None:
    """Return the first key after all those with the prefix, or None if there can be none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
