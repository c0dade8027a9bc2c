"""One write transaction: preconditions are checked, values written, and their entries in indexes with them."""

from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from typing import Any, Final

import lmdb

from opscore.runtime.errors import StoreDamaged, Superseded
from opscore.runtime.storage import sealing
from opscore.runtime.storage.lmdb_snapshot import META_TABLE, SEQUENCE_KEY, LmdbSnapshot
from opscore.runtime.store import (
    ABSENT,
    JOURNAL_TABLE,
    Delete,
    Entry,
    Expect,
    Put,
    Submission,
)

_SEQUENCE_SCHEMA: Final = 1
_INDEX_SCHEMA: Final = 1
_NO_ENTRIES: Final[tuple[Entry, ...]] = ()

_Place = tuple[str, bytes]


class WriteTransaction:
    """Applies submissions within one transaction of LMDB.

    Args:
        transaction: the transaction.
        tables: LMDB's handles by name.
        indexed: the tables whose values may have entries.
    """

    def __init__(self, transaction: lmdb.Transaction, tables: Mapping[str, Any], indexed: AbstractSet[str]) -> None:
        self.transaction = transaction
        self._tables = tables
        self._indexed = indexed
        self._view = LmdbSnapshot(transaction, tables)

    def apply(self, submission: Submission, sequence: int) -> int | Superseded | StoreDamaged:
        """Check and apply one submission; answers its version, or why it was refused and nothing of it applied."""
        try:
            refused = self._refusal(submission)
            if refused is not None:
                return refused
            replaced = self._replaced(submission)
        except StoreDamaged as error:
            # What else is in the batch knows nothing of this value.
            return error
        version = sequence + max(1, len(submission.records))
        for write, before in zip(submission.writes, replaced, strict=True):
            if isinstance(write, Put):
                self._put(write, version, before)
            else:
                self._delete(write, before)
        for offset, record in enumerate(submission.records, start=1):
            self._append(record, sequence + offset)
        return version

    def put(self, write: Put, version: int) -> None:
        """Write a value under a given version."""
        self._put(write, version, self._entries_at((write.table, write.key)))

    def note_sequence(self, sequence: int) -> None:
        """Note the sequence number that this transaction leads to."""
        sealed = sealing.sealed(META_TABLE, SEQUENCE_KEY, b"", schema=_SEQUENCE_SCHEMA, version=sequence)
        self.transaction.put(SEQUENCE_KEY, sealed, db=self._tables[META_TABLE])

    def _refusal(self, submission: Submission) -> Superseded | None:
        for expect in submission.expects:
            if isinstance(expect, Expect):
                stored = self._view.get(expect.table, expect.key)
                if (ABSENT if stored is None else stored.version) != expect.version:
                    return Superseded(expect.table, expect.key.decode(errors="replace"))
            elif next(self._view.scan_raw(expect.table, prefix=expect.prefix), None) is not None:
                return Superseded(expect.table, expect.prefix.decode(errors="replace"))
        return None

    def _replaced(self, submission: Submission) -> list[tuple[Entry, ...]]:
        """The entries that the value before each write has, counting the writes of this submission before it."""
        written: dict[_Place, tuple[Entry, ...]] = {}
        replaced = []
        for write in submission.writes:
            if write.table not in self._indexed:
                replaced.append(_NO_ENTRIES)
                continue
            place = (write.table, write.key)
            replaced.append(written[place] if place in written else self._entries_at(place))
            written[place] = write.entries if isinstance(write, Put) else _NO_ENTRIES
        return replaced

    def _entries_at(self, place: _Place) -> tuple[Entry, ...]:
        if place[0] not in self._indexed:
            return _NO_ENTRIES
        value = self._view.raw(*place)
        return _NO_ENTRIES if value is None else sealing.entries_of(*place, value)

    def _put(self, write: Put, version: int, before: tuple[Entry, ...]) -> None:
        table, key, entries = write.table, write.key, write.entries
        value = sealing.sealed(table, key, write.body, schema=write.schema, version=version, entries=entries)
        self.transaction.put(key, value, db=self._tables[table])
        if entries == before:
            return
        assert not entries or table in self._indexed, f"{table} was opened without indexes"
        for entry in before:
            if entry not in entries:
                self._remove(entry, key)
        for entry in entries:
            if entry not in before:
                line = entry.place + key
                sealed = sealing.sealed(entry.index, line, key, schema=_INDEX_SCHEMA, version=version)
                self.transaction.put(line, sealed, db=self._tables[entry.index])

    def _delete(self, write: Delete, before: tuple[Entry, ...]) -> None:
        self.transaction.delete(write.key, db=self._tables[write.table])
        for entry in before:
            self._remove(entry, write.key)

    def _remove(self, entry: Entry, key: bytes) -> None:
        self.transaction.delete(entry.place + key, db=self._tables[entry.index])

    def _append(self, record: Put, sequence: int) -> None:
        key = sequence.to_bytes(8, "big")
        value = sealing.sealed(JOURNAL_TABLE, key, record.body, schema=record.schema, version=sequence)
        self.transaction.put(key, value, db=self._tables[JOURNAL_TABLE], append=True)
