"""A store in memory, small enough to be seen to be right: as good as a file to whoever only knows the protocol."""

import contextlib
import threading
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Self

import attrs

from opscore.runtime.errors import StoreError, Superseded
from opscore.runtime.store import (
    ABSENT,
    JOURNAL_TABLE,
    KEY_BYTES_MAX,
    Expect,
    Outcomes,
    Put,
    Stored,
    Submission,
    Vacant,
)


@attrs.frozen
class Row:
    """A value as it was written, and its version."""

    put: Put
    version: int


@attrs.frozen
class State:
    """Everything at one commit. It never changes: the next commit has a state of its own."""

    rows: Mapping[str, Mapping[bytes, Row]]
    """By table and key."""
    sequence: int = 0


class MemorySnapshot:
    """One state, for as long as the snapshot is open and the store too."""

    def __init__(self, state: State, indexes: frozenset[str], ended: Callable[[], bool]) -> None:
        self._state = state
        self._indexes = indexes
        self._ended = ended

    def last_sequence(self) -> int:
        self._check()
        return self._state.sequence

    def get(self, table: str, key: bytes) -> Stored | None:
        return self._lines(table).get(key)

    def scan(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, Stored]]:
        lines = self._lines(table)
        for key in sorted(lines, reverse=reverse):
            self._check()
            passed = after is None or (key < after if reverse else key > after)
            if passed and key.startswith(prefix):
                yield key, lines[key]

    def count(self, table: str) -> int:
        return len(self._lines(table))

    def _lines(self, name: str) -> dict[bytes, Stored]:
        """A table as it is; an index by looking at every row there is."""
        self._check()
        if name not in self._indexes:
            rows = self._state.rows[name]
            return {key: Stored(row.put.body, row.put.schema, row.version) for key, row in rows.items()}
        return {
            entry.place + key: Stored(key, 1, row.version)
            for rows in self._state.rows.values()
            for key, row in rows.items()
            for entry in row.put.entries
            if entry.index == name
        }

    def _check(self) -> None:
        if self._ended():
            raise StoreError("the snapshot is over")


class MemoryStore:
    """Tables that live as long as whoever holds them; `reopen` stands for a process that ended and came back.

    Args:
        tables: the names of the tables.
        indexes: the names of the indexes that the values of a table may have entries in, by table.
        state: what it begins with.
    """

    def __init__(
        self,
        *,
        tables: Sequence[str],
        indexes: Mapping[str, Sequence[str]] | None = None,
        state: State | None = None,
    ) -> None:
        self._tables = tuple(tables)
        self._indexes = {table: tuple(names) for table, names in (indexes or {}).items()}
        self._index_names = frozenset(name for names in self._indexes.values() for name in names)
        self._state = state or State({name: {} for name in (JOURNAL_TABLE, *tables)})
        self._applying = threading.Lock()
        self._closed = False

    def reopen(self) -> "MemoryStore":
        """Close it, and give a store that holds everything applied."""
        self.close()
        return MemoryStore(tables=self._tables, indexes=self._indexes, state=self._state)

    def upkeep(self) -> None:
        """Nothing has to be done now and then."""

    def close(self) -> None:
        self._closed = True

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exception: object) -> None:
        self.close()

    @contextlib.contextmanager
    def snapshot(self) -> Iterator[MemorySnapshot]:
        over = threading.Event()
        self._check_open()
        try:
            yield self._view(self._state, lambda: self._closed or over.is_set())
        finally:
            over.set()

    def apply(self, batch: Sequence[Submission]) -> Outcomes:
        with self._applying:
            self._check_open()
            state = self._state
            outcomes: Outcomes = []
            for submission in batch:
                refused = self._refusal(submission, self._view(state, lambda: False))
                if refused is None:
                    state = self._applied(submission, state)
                outcomes.append(refused or state.sequence)
            self._state = state
            return outcomes

    def _refusal(self, submission: Submission, view: MemorySnapshot) -> Superseded | None:
        for expect in submission.expects:
            match expect:
                case Expect(table, key, version):
                    stored = view.get(table, key)
                    if version != (ABSENT if stored is None else stored.version):
                        return Superseded(table, key.decode(errors="replace"))
                case Vacant(table, prefix):
                    if any(True for _ in view.scan(table, prefix=prefix)):
                        return Superseded(table, prefix.decode(errors="replace"))
        return None

    def _applied(self, submission: Submission, before: State) -> State:
        rows = {name: dict(table) for name, table in before.rows.items()}
        numbers = range(before.sequence + 1, before.sequence + 1 + max(1, len(submission.records)))
        for write in submission.writes:
            if isinstance(write, Put):
                self._check(write)
                rows[write.table][write.key] = Row(write, numbers[-1])
            else:
                rows[write.table].pop(write.key, None)
        for number, record in zip(numbers, submission.records, strict=False):
            key = number.to_bytes(8, "big")
            rows[JOURNAL_TABLE][key] = Row(Put(JOURNAL_TABLE, key, record.body, record.schema), number)
        return State(rows, numbers[-1])

    def _check(self, put: Put) -> None:
        for length in (len(put.key), *(len(entry.place) + len(put.key) for entry in put.entries)):
            if not 0 < length <= KEY_BYTES_MAX:
                raise StoreError(f"a key of {put.table} has {length} bytes, it may have 1 to {KEY_BYTES_MAX}")
        for entry in put.entries:
            assert entry.index in self._indexes.get(put.table, ()), f"{put.table} was opened without {entry.index}"

    def _view(self, state: State, ended: Callable[[], bool]) -> MemorySnapshot:
        return MemorySnapshot(state, self._index_names, ended)

    def _check_open(self) -> None:
        if self._closed:
            raise StoreError("the store is closed")
