"""Reading LMDB at one commit: values are checked as they are read."""

from collections.abc import Iterator, Mapping
from pathlib import Path
from types import TracebackType
from typing import Any, Final, cast

import lmdb

from opscore.runtime.errors import StoreError
from opscore.runtime.storage import lmdb_failures, sealing
from opscore.runtime.store import KEY_BYTES_MAX, Stored

_OVER: Final = "a snapshot was read after the block that it was opened for"
META_TABLE: Final = "meta"
SEQUENCE_KEY: Final = b"sequence"


class Reading:
    """Reads at one commit, for as long as its block lasts.

    LMDB has a fixed number of slots for readers, and its binding gives one free only once nothing refers to the
    transaction any more. The traceback of an error that came out of the block may be kept for long, and with it
    whatever its frames hold: so the snapshot lets go of everything at the end.

    Raises:
        StoreDamaged: a page, or a value that is read, is not what was written.
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
        transaction: what it reads in.
        tables: LMDB's handles by name. One that an older release did not make reads as empty.
    """

    def __init__(self, transaction: lmdb.Transaction, tables: Mapping[str, Any]) -> None:
        self._transaction: lmdb.Transaction | None = transaction
        self._tables = tables
        self._walks: set[_Walk] = set()

    def close(self) -> None:
        """End the transaction, and every scan that was not walked to its end; reading any further is an error."""
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
        return cast("bytes | None", self._open().get(key, db=database))

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
        """How many keys a table has."""
        database = self._tables[table]
        return 0 if database is None else int(self._open().stat(database)["entries"])


class _Walk:
    """Holds a scan's cursor where it can be taken away, whoever still holds the scan."""

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
        # The bound is longer than any key, and this one begins it.
        return True
    return bool(cursor.prev()) if found else bool(cursor.last())


def _past(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with the prefix; nothing, when there can be none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None
