"""What the store should hold after each commit, kept in a plain dictionary; only this module knows its internals.

A digest of everything stands for a state: the sum of the hashes of its values, so that a commit costs what it changes.
"""

import functools
import hashlib
import struct
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Final
from unittest import mock

import lmdb

from opscore.runtime.journal.tables import ALL_TABLES
from opscore.runtime.storage.files import DATA_FILE
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import ABSENT, JOURNAL_TABLE, Expect, Outcomes, Put, Snapshot, Submission
from tests.powerloss.recording import Marker

TABLES: Final = {"store": ("left", "right"), "node": tuple(table.name for table in ALL_TABLES)}
"""The tables of each workload's store."""
MEANINGLESS: Final = frozenset({"lock.mdb"})
"""What LMDB's readers share in memory; it does not outlive a restart of the machine."""
DATA: Final = DATA_FILE
MAP_BYTES: Final = 64 * 1024**2

_KEY = struct.Struct(">Q")


def open_store(path: Path, workload: str) -> LmdbStore:
    """Open the store that a workload wrote."""
    return LmdbStore(path, tables=TABLES[workload], map_bytes=MAP_BYTES)


def careless(*, sync: bool = True, metasync: bool = True) -> AbstractContextManager[object]:
    """Have LMDB opened so that it leaves out its syncs, or only those that make a commit the newest."""
    return mock.patch("lmdb.open", functools.partial(lmdb.open, sync=sync, metasync=metasync))


class Contents:
    """Every value of the tables, by its version and the hash of all that it is."""

    def __init__(self) -> None:
        self.sequence = 0
        self._values: dict[tuple[str, bytes], tuple[int, int]] = {}
        self._sum = 0

    @classmethod
    def read(cls, view: Snapshot, workload: str) -> "Contents":
        """Read everything that a store holds."""
        contents = cls()
        contents.sequence = view.last_sequence()
        for table in (JOURNAL_TABLE, *TABLES[workload]):
            for key, stored in view.scan(table):
                contents.put(table, key, stored.body, stored.schema, stored.version)
        return contents

    def digest(self) -> str:
        """Return the digest of the whole state."""
        return f"{self._sum % 2**128:032x}"

    def keys(self, table: str) -> list[bytes]:
        """The keys of a table."""
        return [key for of, key in self._values if of == table]

    def version(self, table: str, key: bytes) -> int:
        """The version of a value, or of its absence."""
        return self._values.get((table, key), (ABSENT, 0))[0]

    def put(self, table: str, key: bytes, body: bytes, schema: int, version: int) -> None:
        """Write a value."""
        self.delete(table, key)
        whole = hashlib.blake2b(f"{table}\0{schema}\0{version}\0{len(key)}\0".encode() + key + body, digest_size=16)
        number = int.from_bytes(whole.digest())
        self._values[table, key] = (version, number)
        self._sum += number

    def delete(self, table: str, key: bytes) -> None:
        """Remove a value."""
        self._sum -= self._values.pop((table, key), (ABSENT, 0))[1]

    def apply(self, batch: Sequence[Submission]) -> list[int | None]:
        """Apply a batch as the store should; return each submission's version, None if it is refused."""
        return [self._apply(submission) for submission in batch]

    def _apply(self, submission: Submission) -> int | None:
        expects = [each for each in submission.expects if isinstance(each, Expect)]
        assert len(expects) == len(submission.expects), (
            "retention, which has other preconditions, has nothing to do here"
        )
        if any(self.version(expect.table, expect.key) != expect.version for expect in expects):
            return None
        first = self.sequence + 1
        self.sequence += max(1, len(submission.records))
        for write in submission.writes:
            if isinstance(write, Put):
                self.put(write.table, write.key, write.body, write.schema, self.sequence)
            else:
                self.delete(write.table, write.key)
        for number, record in enumerate(submission.records, start=first):
            self.put(JOURNAL_TABLE, _KEY.pack(number), record.body, record.schema, number)
        return self.sequence


class Ledger:
    """Marks in the recording where each commit begins, with the state that it leads to, and where it is acknowledged.

    Args:
        early: Acknowledge each commit when it begins, which is wrong.
    """

    def __init__(self, *, early: bool = False) -> None:
        self.contents = Contents()
        self.marker = Marker()
        self._early = early

    @contextmanager
    def commit(self, batch: Sequence[Submission]) -> Iterator[Outcomes]:
        """Put this around the store's work, and what it answered into the list."""
        expected = self.contents.apply(batch)
        self.marker.mark(begun=self.contents.sequence, digest=self.contents.digest())
        if self._early:
            self.marker.mark(safe=self.contents.sequence)
        outcomes: Outcomes = []
        yield outcomes
        assert [each if isinstance(each, int) else None for each in outcomes] == expected, "the store does as it should"
        self.marker.mark(safe=self.contents.sequence)
