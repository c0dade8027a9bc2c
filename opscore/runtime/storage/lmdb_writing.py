"""One write transaction: it checks preconditions, and writes values together with their index entries."""

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
_FEW: Final = 16
"""Up to this many index entries are compared one by one, more as sets."""
_NO_ENTRIES: Final[tuple[Entry, ...]] = ()


class WriteTransaction:
    """Applies submissions within one LMDB transaction.

    Args:
        transaction: the transaction.
        tables: LMDB's handles by table name.
        indexed: names of the tables whose values may have index entries.
    """

    def __init__(self, transaction: lmdb.Transaction, tables: Mapping[str, Any], indexed: AbstractSet[str]) -> None:
        self.transaction = transaction
        self._tables = tables
        self._indexed = indexed
        self._view = LmdbSnapshot(transaction, tables)
        self._read: dict[tuple[str, bytes], bytes | None] = {}
        """Values read for the current submission: the value of a precondition is usually the one that is replaced."""
        self._lines: list[tuple[bytes, bytes]] = []
        """Journal records that are not written yet. They are written together, at the end or before they are read."""

    def apply(self, submission: Submission, sequence: int) -> int | Superseded | StoreDamaged:
        """Check and apply one submission.

        Returns:
            its version, or the reason why it was refused, in which case nothing of it was applied.
        """
        self._read.clear()
        if self._lines and any(each.table == JOURNAL_TABLE for each in (*submission.expects, *submission.writes)):
            self._write_lines()
        try:
            refused = self._refusal(submission)
            if refused is not None:
                return refused
            replaced = [self._entries_at(write.table, write.key) for write in submission.writes]
        except StoreDamaged as error:
            # Only this submission is refused: the others of the batch do not depend on the damaged value.
            return error
        version = sequence + (len(submission.records) or 1)
        if len(replaced) > 1:
            replaced = self._in_order(submission.writes, replaced)
        for write, before in zip(submission.writes, replaced, strict=True):
            if isinstance(write, Put):
                self._put(write, version, before)
            else:
                self._delete(write, before)
        for record in submission.records:
            sequence += 1
            key = sequence.to_bytes(8, "big")
            value = sealing.sealed(JOURNAL_TABLE, key, record.body, schema=record.schema, version=sequence)
            self._lines.append((key, value))
        return version

    def put(self, write: Put, version: int) -> None:
        """Write a value with a given version."""
        self._read.clear()
        self._put(write, version, self._entries_at(write.table, write.key))

    def finish(self, sequence: int) -> None:
        """Write the journal records and the sequence number that this transaction ends with."""
        self._write_lines()
        sealed = sealing.sealed(META_TABLE, SEQUENCE_KEY, b"", schema=_SEQUENCE_SCHEMA, version=sequence)
        self.transaction.put(SEQUENCE_KEY, sealed, db=self._tables[META_TABLE])

    def _write_lines(self) -> None:
        with self.transaction.cursor(db=self._tables[JOURNAL_TABLE]) as cursor:
            _, added = cursor.putmulti(self._lines, append=True)
        if added != len(self._lines):
            raise StoreDamaged(JOURNAL_TABLE, "it holds records above the sequence number")
        self._lines.clear()

    def _refusal(self, submission: Submission) -> Superseded | None:
        for expect in submission.expects:
            table = expect.table
            if isinstance(expect, Expect):
                key = expect.key
                value = self._read[table, key] = self._view.raw(table, key)
                if (ABSENT if value is None else sealing.version_of(table, key, value)) != expect.version:
                    return Superseded(table, key.decode(errors="replace"))
            elif next(self._view.scan_raw(table, prefix=expect.prefix), None) is not None:
                return Superseded(table, expect.prefix.decode(errors="replace"))
        return None

    def _entries_at(self, table: str, key: bytes) -> tuple[Entry, ...]:
        if table not in self._indexed:
            return _NO_ENTRIES
        place = (table, key)
        value = self._read[place] if place in self._read else self._view.raw(table, key)
        return _NO_ENTRIES if value is None else sealing.entries_of(table, key, value)

    def _in_order(self, writes: tuple[Put | Delete, ...], stored: list[tuple[Entry, ...]]) -> list[tuple[Entry, ...]]:
        """Return the index entries that each write replaces: an earlier write to the same key goes before the store."""
        written: dict[tuple[str, bytes], tuple[Entry, ...]] = {}
        replaced = []
        for write, before in zip(writes, stored, strict=True):
            place = (write.table, write.key)
            replaced.append(written.get(place, before))
            written[place] = write.entries if isinstance(write, Put) else _NO_ENTRIES
        return replaced

    def _put(self, write: Put, version: int, before: tuple[Entry, ...]) -> None:
        table, key, entries = write.table, write.key, write.entries
        value = sealing.sealed(table, key, write.body, schema=write.schema, version=version, entries=entries)
        self.transaction.put(key, value, db=self._tables[table])
        if entries == before:
            return
        assert not entries or table in self._indexed, f"{table} was opened without indexes"
        gone, come = (before, entries) if len(before) + len(entries) <= _FEW else (set(before), set(entries))
        for entry in gone:
            if entry not in come:
                self._remove(entry, key)
        for entry in come:
            if entry not in gone:
                line = entry.place + key
                sealed = sealing.sealed(entry.index, line, key, schema=_INDEX_SCHEMA, version=version)
                self.transaction.put(line, sealed, db=self._tables[entry.index])

    def _delete(self, write: Delete, before: tuple[Entry, ...]) -> None:
        self.transaction.delete(write.key, db=self._tables[write.table])
        for entry in before:
            self._remove(entry, write.key)

    def _remove(self, entry: Entry, key: bytes) -> None:
        self.transaction.delete(entry.place + key, db=self._tables[entry.index])
