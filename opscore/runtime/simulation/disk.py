"""A disk in memory, with exactly the guarantees of the real store.

A submission is applied as a whole, and durable as soon as it is applied. After a crash, all finished batches are there,
and of the batch in progress a prefix of its submissions, which `SimulatedWriter` chooses. It passes the conformance
suite of the store.
"""

import bisect
import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Final

from opscore.runtime.errors import StoreError, Superseded
from opscore.runtime.store import (
    ABSENT,
    JOURNAL_TABLE,
    KEY_BYTES_MAX,
    Delete,
    Entry,
    Expect,
    Outcomes,
    Put,
    Stored,
    Submission,
    Vacant,
)

_INDEX_SCHEMA: Final = 1

OnApplied = Callable[[Submission, int], None]
"""Called with each submission that was applied, and its version."""


class _Table:
    """Rows in the order of their keys."""

    __slots__ = ("entries", "keys", "rows")

    def __init__(self) -> None:
        self.rows: dict[bytes, Stored] = {}
        self.keys: list[bytes] = []
        self.entries: dict[bytes, tuple[Entry, ...]] = {}
        """The index entries of each row that has any."""

    def copy(self) -> "_Table":
        other = _Table()
        other.rows, other.keys, other.entries = dict(self.rows), list(self.keys), dict(self.entries)
        return other

    def put(self, key: bytes, stored: Stored) -> None:
        if key not in self.rows:
            if self.keys and key < self.keys[-1]:
                bisect.insort(self.keys, key)
            else:
                self.keys.append(key)
        self.rows[key] = stored

    def delete(self, key: bytes) -> None:
        if self.rows.pop(key, None) is not None:
            del self.keys[bisect.bisect_left(self.keys, key)]


_Tables = dict[str, _Table]


class SimulatedSnapshot:
    """One commit of a simulated disk."""

    def __init__(self, tables: _Tables, sequence: int, is_open: Callable[[], bool]) -> None:
        self._tables = tables
        self._sequence = sequence
        self._is_open = is_open

    def last_sequence(self) -> int:
        """The sequence number of that commit."""
        self._check()
        return self._sequence

    def get(self, table: str, key: bytes) -> Stored | None:
        """Return one value; None if there is none."""
        self._check()
        return self._tables[table].rows.get(key)

    def scan(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, Stored]]:
        """Yield the rows whose keys begin with `prefix`, from just after `after`, or in reverse from just before it."""
        self._check()
        found = self._tables[table]
        keys, rows = found.keys, found.rows
        low = bisect.bisect_left(keys, prefix)
        past = _past(prefix)
        high = bisect.bisect_left(keys, past) if past else len(keys)
        if after is not None:
            if reverse:
                high = min(high, bisect.bisect_left(keys, after))
            else:
                low = max(low, bisect.bisect_right(keys, after))
        for place in range(high - 1, low - 1, -1) if reverse else range(low, high):
            self._check()
            yield keys[place], rows[keys[place]]

    def count(self, table: str) -> int:
        """Return the number of keys of a table."""
        self._check()
        return len(self._tables[table].keys)

    def _check(self) -> None:
        if not self._is_open():
            raise StoreError("the snapshot is over")


def _past(prefix: bytes) -> bytes:
    """Return the first key after all keys that begin with a prefix; empty if there is none."""
    stem = prefix.rstrip(b"\xff")
    return stem[:-1] + bytes([stem[-1] + 1]) if stem else b""


class Disk:
    """The data that survives the process.

    Args:
        tables: the names of the tables.
        indexes: the names of the indexes of each table, by table.
    """

    def __init__(self, *, tables: Sequence[str], indexes: Mapping[str, Sequence[str]] | None = None) -> None:
        self.indexes = {table: frozenset(names) for table, names in (indexes or {}).items()}
        names = [JOURNAL_TABLE, *tables, *(name for each in self.indexes.values() for name in each)]
        self.tables: _Tables = {name: _Table() for name in names}
        self.sequence = 0
        self.in_use = False

    def view(self) -> SimulatedSnapshot:
        """Return a view of the current data, which is valid until that changes."""
        return SimulatedSnapshot(self.tables, self.sequence, lambda: True)


class SimulatedStore:
    """A `Store` that has opened a disk.

    Args:
        disk: holds the data.
        on_applied: called with each submission that was applied, and its version.
    """

    def __init__(self, disk: Disk, *, on_applied: OnApplied | None = None) -> None:
        if disk.in_use:
            raise StoreError("the disk is open already")
        disk.in_use = True
        self._disk = disk
        self._on_applied = on_applied
        self._closed = False
        self._readers = 0
        # A simulation uses no threads, but a store has to be readable by any thread, and so is this one.
        self._turn = threading.Lock()

    def upkeep(self) -> None:
        """Do nothing: this store needs no upkeep."""

    def close(self) -> None:
        """Release the disk."""
        if not self._closed:
            self._closed, self._disk.in_use = True, False

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[SimulatedSnapshot]:
        """Read at the newest commit."""
        over = False
        with self._turn:
            self._check_open()
            self._readers += 1
            view = SimulatedSnapshot(self._disk.tables, self._disk.sequence, lambda: not over and not self._closed)
        try:
            yield view
        finally:
            over = True
            with self._turn:
                self._readers -= 1

    def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch in order, each submission whole or not at all."""
        with self._turn:
            self._check_open()
            for submission in batch:
                self._check(submission)
            if self._readers:
                # Open snapshots keep the old tables.
                self._disk.tables = {name: table.copy() for name, table in self._disk.tables.items()}
            return [self._apply(submission) for submission in batch]

    def _apply(self, submission: Submission) -> int | Superseded:
        for expect in submission.expects:
            if not self._holds(expect):
                key = expect.key if isinstance(expect, Expect) else expect.prefix
                return Superseded(expect.table, key.decode(errors="replace"))
        tables, sequence = self._disk.tables, self._disk.sequence
        version = sequence + (len(submission.records) or 1)
        for write in submission.writes:
            self._write(tables, write, version)
        for number, record in enumerate(submission.records, start=sequence + 1):
            tables[JOURNAL_TABLE].put(number.to_bytes(8, "big"), Stored(record.body, record.schema, number))
        self._disk.sequence = version
        if self._on_applied is not None:
            self._on_applied(submission, version)
        return version

    def _holds(self, expect: Expect | Vacant) -> bool:
        found = self._disk.tables[expect.table]
        if isinstance(expect, Expect):
            stored = found.rows.get(expect.key)
            return expect.version == (ABSENT if stored is None else stored.version)
        place = bisect.bisect_left(found.keys, expect.prefix)
        return place == len(found.keys) or not found.keys[place].startswith(expect.prefix)

    def _write(self, tables: _Tables, write: Put | Delete, version: int) -> None:
        table, key = tables[write.table], write.key
        before = table.entries.pop(key, ())
        for entry in before:
            tables[entry.index].delete(entry.place + key)
        if isinstance(write, Delete):
            table.delete(key)
            return
        table.put(key, Stored(write.body, write.schema, version))
        if write.entries:
            table.entries[key] = write.entries
            for entry in write.entries:
                tables[entry.index].put(entry.place + key, Stored(key, _INDEX_SCHEMA, version))

    def _check(self, submission: Submission) -> None:
        for write in submission.writes:
            lengths = [len(write.key)]
            if isinstance(write, Put):
                lengths += [len(entry.place) + len(write.key) for entry in write.entries]
                known = self._disk.indexes.get(write.table, frozenset())
                assert all(entry.index in known for entry in write.entries), f"{write.table} has no such index"
            for length in lengths:
                if not 0 < length <= KEY_BYTES_MAX:
                    raise StoreError(f"a key of {write.table} has {length} bytes, it may have 1 to {KEY_BYTES_MAX}")

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")
