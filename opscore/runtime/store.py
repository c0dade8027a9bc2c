"""The store's transactional protocol: what the runtime asks of whatever keeps its rows.

It knows bytes, versions and batches, and nothing of agents, of trio or of files. A `Submission` is preconditions
plus writes; `Store.apply` checks and applies a batch of them in order, durably and all at once, and one that can't be
applied is refused alone. Every applied submission advances the sequence number, and the values it writes carry that
number as their version: versions are never reused, not even by a value that was deleted and written again, so a stale
writer is always told apart.

A value may name entries in indexes. The store writes and removes them together with the value, so an index is
right at every commit without any writer having to know what stood there before.

Nothing here may assume LMDB: `tests/runtime/storage/store_conformance.py` says what every adapter has to do.
"""

import functools
from collections.abc import Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs

from opscore.runtime.errors import StoreDamaged, StoreFull, Superseded

ABSENT: Final = 0
"""The version of a key that is not there."""
KEY_BYTES_MAX: Final = 511
"""The longest key; an entry of an index counts with the key of its value."""
SCHEMA_MAX: Final = 2**14 - 1
JOURNAL_TABLE: Final = "journal"


if TYPE_CHECKING:
    from attrs import frozen as _value
else:
    # Frozen to the type checker alone: at run time a frozen class sets each field through `object.__setattr__`, which
    # takes three times as long, and every commit makes half a dozen of these.
    _value = functools.partial(attrs.define, unsafe_hash=True)


@_value
class Expect:
    """A precondition: the key is at this version (`ABSENT` when it must not be there)."""

    table: str
    key: bytes
    version: int


@_value
class Vacant:
    """A precondition: no key of the table, which may be an index, begins so."""

    table: str
    prefix: bytes


@_value
class Entry:
    """A line in an index, which leads to the value that names it."""

    index: str
    place: bytes
    """Where it stands among the index's lines; the key of its value follows it, so places need not be unique."""


@_value
class Put:
    """Write a value, whatever was there. Its entries take the place of those of the value before."""

    table: str
    key: bytes
    body: bytes
    schema: int
    entries: tuple[Entry, ...] = ()


@_value
class Delete:
    """Remove a key and its entries; one that is not there is fine."""

    table: str
    key: bytes


@_value
class Submission:
    """What belongs together: it is applied whole, or refused whole."""

    expects: tuple[Expect | Vacant, ...] = ()
    writes: tuple[Put | Delete, ...] = ()
    records: tuple[Put, ...] = ()
    """Journal records; their keys are assigned at the commit."""
    new_work: bool = False
    """Takes on what was not there before: refused while only the reserve is left, which is for finishing."""

    def __add__(self, other: "Submission") -> "Submission":
        """Both together, as one submission."""
        return Submission(
            self.expects + other.expects,
            self.writes + other.writes,
            self.records + other.records,
            self.new_work or other.new_work,
        )


Outcomes: TypeAlias = list[int | Superseded | StoreDamaged | StoreFull]
"""For each submission of a batch its version, or why it alone was refused."""


@attrs.frozen
class Stored:
    """A value as it was read: its body, the schema it was written with, and its version."""

    body: bytes
    schema: int
    version: int


class Snapshot(Protocol):
    """A consistent view of every table and index at one commit.

    An index reads as a table: under the place and the key of a value, the value's key as body.
    """

    def last_sequence(self) -> int:
        """The sequence number of that commit."""

    def get(self, table: str, key: bytes) -> Stored | None:
        """Read one value, or nothing."""

    def scan(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, Stored]]:
        """Walk a table in key order, from just past `after`."""

    def count(self, table: str) -> int:
        """How many keys a table has, without walking it."""


class Store(Protocol):
    """Tables of versioned values. Written by one thread, read by any, and readers never wait for the writer."""

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Read at one commit.

        Raises:
            StoreDamaged: a value that is read is not what was written.
        """

    def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch durably: once this returns, no crash and no loss of power takes it back.

        Returns:
            for each submission its version (its last sequence number), or why it was refused: a precondition that
            failed or whose value is damaged, or too little room.

        Raises:
            CommitUncertain: the sync failed; the store must not be written again before it is reopened.
            StoreError: it can't be written at all; nothing was applied.
        """

    def upkeep(self) -> None:
        """Do what the store needs done now and then; called about once a minute, and quick."""

    def close(self) -> None:
        """Give back what it holds; closing twice is fine."""
