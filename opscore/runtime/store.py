"""The synchronous store: named tables of checksummed values in LMDB, written in atomic batches.

It knows bytes, versions and batches, and nothing of agents or trio. A `Submission` is preconditions plus
writes; `Store.apply` checks and applies a batch of them in order inside one transaction and one sync, and a
submission whose precondition fails is refused alone. Every applied submission advances the sequence number,
and the values it writes carry that number as their version: versions are never reused, not even by a value
that was deleted and written again, so a stale writer is always told apart.
"""

import contextlib
import logging
import struct
import threading
import zlib
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final, Protocol, Self, TypeAlias

import attrs
import lmdb

from opscore.runtime import extent, lmdb_failures
from opscore.runtime.directory_lock import DirectoryLock
from opscore.runtime.errors import (
    CommitUncertain,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreIncompatible,
    Superseded,
)

FORMAT: Final = 1
"""The layout of the files; a release refuses a higher one."""
ABSENT: Final = 0
"""The version of a key that is not there."""
KEY_BYTES_MAX: Final = 511
"""What LMDB takes as a key; nothing is stored under a longer one."""
MAP_BYTES: Final = 8 * 1024**3
JOURNAL_TABLE: Final = "journal"
META_TABLE: Final = "meta"

_HEADER = struct.Struct(">HQI")
_SEQUENCE = struct.Struct(">Q")
_SEQUENCE_KEY: Final = b"sequence"
_SEQUENCE_SCHEMA: Final = 1

_log = logging.getLogger("opscore.store")


@attrs.frozen
class Expect:
    """A precondition: the key is at this version (`ABSENT` when it must not be there)."""

    table: str
    key: bytes
    version: int


@attrs.frozen
class Put:
    """Write a value, whatever was there."""

    table: str
    key: bytes
    body: bytes
    schema: int


@attrs.frozen
class Delete:
    """Remove a key; one that is not there is fine."""

    table: str
    key: bytes


@attrs.frozen
class Submission:
    """What belongs together: it is applied whole, or refused whole."""

    expects: tuple[Expect, ...] = ()
    writes: tuple[Put | Delete, ...] = ()
    records: tuple[Put, ...] = ()
    """Journal records; their keys are assigned at the commit."""

    def __add__(self, other: "Submission") -> "Submission":
        """Both together, as one submission."""
        return Submission(self.expects + other.expects, self.writes + other.writes, self.records + other.records)


Outcomes: TypeAlias = list[int | Superseded | StoreDamaged]
"""For each submission of a batch its version, or why it alone was refused."""


@attrs.frozen
class Stored:
    """A value as it was read: its body, the schema it was written with, and its version."""

    body: bytes
    schema: int
    version: int


class Snapshot(Protocol):
    """A consistent view of every table at one commit."""

    def last_sequence(self) -> int:
        """The sequence number of that commit."""

    def get(self, table: str, key: bytes) -> Stored | None:
        """Read one value, or nothing."""

    def scan(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, Stored]]:
        """Walk a table in key order, from just past `after`."""


class LmdbStore:
    """The tables of one data directory. Opened once in a process; written by one thread.

    Args:
        path: the data directory; made if it is not there.
        tables: the names of the tables.
        map_bytes: the most the file may grow to, reserved sparsely at open.

    Raises:
        StoreLocked: another process writes here.
        StoreIncompatible: a newer release wrote it, or it is not a store.
        StoreDamaged: its file lost its end.
        StoreError: the directory can't be made or written.
    """

    def __init__(self, path: Path, *, tables: Sequence[str], map_bytes: int = MAP_BYTES) -> None:
        self.path = path
        self._applying = threading.Lock()
        try:
            path.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise StoreError(f"{path} can't be used as data directory: {error.strerror or error}") from error
        self._lock = DirectoryLock.acquire(path)
        try:
            self._open(tables, map_bytes)
        except BaseException:
            self._lock.release()
            raise

    def _open(self, tables: Sequence[str], map_bytes: int) -> None:
        try:
            extent.refuse_truncated(self.path / extent.DATA_FILE)
        except OSError as error:
            raise StoreError(f"{self.path / extent.DATA_FILE} can't be read: {error.strerror or error}") from error
        try:
            self._env = lmdb.open(str(self.path), map_size=map_bytes, max_dbs=len(tables) + 8, max_readers=512)
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self.path) from error
        try:
            # Nothing is made in a file that is not ours, or that a newer release wrote.
            self._tables = {META_TABLE: self._open_meta()}
            self._check_format()
            self._tables |= {name: self._env.open_db(name.encode()) for name in (JOURNAL_TABLE, *tables)}
            with self.snapshot() as view:
                self._sequence = view.last_sequence()
        except lmdb.Error as error:
            self._env.close()
            raise lmdb_failures.translated(error, self.path) from error
        except BaseException:
            self._env.close()
            raise

    def _open_meta(self) -> Any:
        try:
            return self._env.open_db(META_TABLE.encode(), create=not self._env.stat()["entries"])
        except lmdb.NotFoundError as error:
            raise StoreIncompatible(str(self.path), "another program keeps its data there") from error

    def _check_format(self) -> None:
        with self._env.begin(write=True) as transaction:
            meta = self._tables[META_TABLE]
            found = transaction.get(b"format", db=meta)
            if found is None:
                transaction.put(b"format", str(FORMAT).encode(), db=meta)
                return
        if not found.isdigit() or not 0 < int(found) <= FORMAT:
            raise StoreIncompatible(
                str(self.path),
                f"it has format {found.decode(errors='replace')}, this release reads up to {FORMAT}",
            )

    def close(self) -> None:
        """Close the files and give the directory free; closing twice is fine.

        A batch that is still under way keeps both: to take the files from under it would crash the process, and
        another writer must not be let in while it may still reach the disk.
        """
        if not self._applying.acquire(blocking=False):
            _log.critical("%s stays open until the process ends: the disk does not answer", self.path)
            return
        try:
            self._env.close()
            self._lock.release()
        finally:
            self._applying.release()

    def __enter__(self) -> Self:
        """Return the open store."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator["LmdbSnapshot"]:
        """Read at one commit; never waits for the writer.

        Raises:
            StoreDamaged: a page, or a value that is read, is not what was written.
        """
        try:
            with self._env.begin() as transaction:
                yield LmdbSnapshot(transaction, self._tables)
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self.path) from error

    def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch in one transaction and one sync.

        Returns:
            for each submission its version (its last sequence number), or why it was refused: a precondition that
            failed, or whose value is damaged.

        Raises:
            StoreFull: nothing of the batch was applied; the store goes on.
            CommitUncertain: the sync failed; the store must not be written again before it is reopened.
        """
        with self._applying:
            return self._apply(batch)

    def _apply(self, batch: Sequence[Submission]) -> Outcomes:
        sequence = self._sequence
        outcomes: Outcomes = []
        try:
            transaction = self._env.begin(write=True)
        except lmdb.PanicError as error:
            # A commit before this one failed while it was made visible, and LMDB itself takes no more.
            raise CommitUncertain(str(self.path), str(error)) from error
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self.path) from error
        try:
            view = LmdbSnapshot(transaction, self._tables)
            for submission in batch:
                refused = _refusal(submission, view)
                if refused is not None:
                    outcomes.append(refused)
                    continue
                sequence = self._write(transaction, submission, sequence)
                outcomes.append(sequence)
            self._note_sequence(transaction, sequence)
        except BaseException as error:
            transaction.abort()
            if isinstance(error, lmdb.Error):
                raise lmdb_failures.translated(error, self.path) from error
            raise
        try:
            transaction.commit()
        except lmdb.Error as error:
            raise self._commit_failure(error) from error
        self._sequence = sequence
        return outcomes

    def _commit_failure(self, error: lmdb.Error) -> StoreFull | CommitUncertain:
        try:
            self._env.begin().abort()
        except lmdb.PanicError:
            # The pages were safe and the last step, which makes them visible, failed: even a full disk is no answer.
            return CommitUncertain(str(self.path), str(error))
        return lmdb_failures.full(error, self.path) or CommitUncertain(str(self.path), str(error))

    def _note_sequence(self, transaction: lmdb.Transaction, sequence: int) -> None:
        note = Put(META_TABLE, _SEQUENCE_KEY, b"", _SEQUENCE_SCHEMA)
        transaction.put(_SEQUENCE_KEY, _sealed(META_TABLE, _SEQUENCE_KEY, note, sequence), db=self._tables[META_TABLE])

    def _write(self, transaction: lmdb.Transaction, submission: Submission, sequence: int) -> int:
        version = sequence + max(1, len(submission.records))
        for write in submission.writes:
            if isinstance(write, Put):
                value = _sealed(write.table, write.key, write, version)
                transaction.put(write.key, value, db=self._tables[write.table])
            else:
                transaction.delete(write.key, db=self._tables[write.table])
        journal = self._tables[JOURNAL_TABLE]
        for offset, record in enumerate(submission.records, start=1):
            key = _SEQUENCE.pack(sequence + offset)
            transaction.put(key, _sealed(JOURNAL_TABLE, key, record, sequence + offset), db=journal, append=True)
        return version


class LmdbSnapshot:
    """A read transaction; values are checked as they are read."""

    def __init__(self, transaction: lmdb.Transaction, tables: dict[str, Any]) -> None:
        self._transaction = transaction
        self._tables = tables

    def last_sequence(self) -> int:
        """The sequence number of the newest commit."""
        noted = self.get(META_TABLE, _SEQUENCE_KEY)
        return 0 if noted is None else noted.version

    def get(self, table: str, key: bytes) -> Stored | None:
        """Read one value, or nothing."""
        if not 0 < len(key) <= KEY_BYTES_MAX:
            return None
        value = self._transaction.get(key, db=self._tables[table])
        return None if value is None else _opened(table, key, bytes(value))

    def scan(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, Stored]]:
        """Walk the keys with a prefix in order, from just past `after` (before it, when reversed)."""
        after = after[:KEY_BYTES_MAX] if after is not None else None
        with self._transaction.cursor(db=self._tables[table]) as cursor:
            found = _seek_back(cursor, prefix, after) if reverse else _seek(cursor, prefix, after)
            advance = cursor.prev if reverse else cursor.next
            while found:
                key = bytes(cursor.key())
                if not key.startswith(prefix):
                    return
                yield key, _opened(table, key, bytes(cursor.value()))
                found = advance()


def _seek(cursor: lmdb.Cursor, prefix: bytes, after: bytes | None) -> bool:
    if after is None or after < prefix:
        return bool(cursor.set_range(prefix))
    found = bool(cursor.set_range(after))
    return bool(cursor.next()) if found and bytes(cursor.key()) == after else found


def _seek_back(cursor: lmdb.Cursor, prefix: bytes, after: bytes | None) -> bool:
    end = _past(prefix)
    bound = after if after is not None and (end is None or after < end) else end
    found = bound is not None and bool(cursor.set_range(bound))
    return bool(cursor.prev()) if found else bool(cursor.last())


def _past(prefix: bytes) -> bytes | None:
    """The first key behind all that begin with the prefix; nothing, when there can be none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else None


def _refusal(submission: Submission, view: LmdbSnapshot) -> Superseded | StoreDamaged | None:
    for expect in submission.expects:
        try:
            stored = view.get(expect.table, expect.key)
        except StoreDamaged as error:
            # What else is in the batch knows nothing of this value.
            return error
        if (ABSENT if stored is None else stored.version) != expect.version:
            return Superseded(expect.table, expect.key.decode(errors="replace"))
    return None


def _sealed(table: str, key: bytes, write: Put, version: int) -> bytes:
    digest = _checksum(table, key, write.schema, version, write.body)
    return _HEADER.pack(write.schema, version, digest) + write.body


def _opened(table: str, key: bytes, value: bytes) -> Stored:
    name = f"{table} {key!r}"
    if len(value) < _HEADER.size:
        raise StoreDamaged(name, "it is shorter than its header")
    schema, version, digest = _HEADER.unpack_from(value)
    body = value[_HEADER.size :]
    if _checksum(table, key, schema, version, body) != digest:
        raise StoreDamaged(name, "its checksum does not match")
    return Stored(body, schema, version)


def _checksum(table: str, key: bytes, schema: int, version: int, body: bytes) -> int:
    """Cover the place as well as the value, so that one that strayed to another key is found."""
    place = b"%s\0%s\0%d\0%d\0" % (table.encode(), key, schema, version)
    return zlib.crc32(body, zlib.crc32(place))
