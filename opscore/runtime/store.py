"""The store's transactional protocol: what the runtime requires of the storage of its rows.

It deals in bytes, versions and batches, and knows nothing of agents, trio or files. A `Submission` is a set of
preconditions and a set of writes. `Store.apply` applies a batch of submissions in order and durably, each as a whole; a
submission that can't be applied is refused alone. Every applied submission advances the sequence number, even if it
writes nothing, and the values it writes have that number as their version. Versions are never reused, not even when a
value is deleted and written again, nor after a reopen, so a stale writer is always detected.

A value may name entries in indexes. The store writes and removes them together with the value, so an index is
right at every commit without any writer having to know the value before.

Keys have 1 to `KEY_BYTES_MAX` bytes, and are ordered by their bytes as unsigned numbers, a key before those that it is
a prefix of; locale and encoding play no part. The tables and indexes of a store are given when it is opened. Naming
another one is a bug of the caller, as is a schema above `SCHEMA_MAX`.

Nothing here may assume LMDB: `tests/runtime/storage/store_conformance.py` says what every adapter has to do.
"""

import functools
import logging
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager
from typing import TYPE_CHECKING, Final, Protocol, TypeAlias

import attrs

from opscore.runtime.errors import StoreDamaged, StoreError, Superseded

_log = logging.getLogger("opscore.store")

ABSENT: Final = 0
"""The version of a key that does not exist."""
KEY_BYTES_MAX: Final = 511
"""The longest key; for an index entry, its place and the key of its value count together."""
SCHEMA_MAX: Final = 2**14 - 1
"""The highest schema that a value may be written with; the lowest is 0."""
JOURNAL_TABLE: Final = "journal"
"""The table of records. It is read like any other, and its rows may be deleted, but only records can be added."""


if TYPE_CHECKING:
    from attrs import frozen as _value
else:
    # Frozen only for the type checker: at run time a frozen class sets each field through `object.__setattr__`, which
    # takes three times as long, and every commit makes half a dozen of these.
    _value = functools.partial(attrs.define, unsafe_hash=True)


@_value
class Expect:
    """A precondition: the key is at this version (`ABSENT` if it must not exist). The table is not an index."""

    table: str
    key: bytes
    version: int


@_value
class Vacant:
    """A precondition: no key of the table, which may be an index, has this prefix; an empty one matches every key."""

    table: str
    prefix: bytes


@_value
class Entry:
    """An entry in an index, which refers to the value that names it. An index belongs to one table."""

    index: str
    place: bytes
    """Its place in the order of the index. The key of its value is appended, so places need not be unique.

    No place may be a prefix of another in the same index: places have a fixed length, or a terminator that occurs
    nowhere else in them. Otherwise two values could share an entry, and deleting one would remove it from the other.
    """


@_value
class Put:
    """Write a value, whatever was there before. Its index entries replace those of the value before.

    An entry that is named twice exists once. Of several writes of a key in one submission, the last one counts.
    """

    table: str
    key: bytes
    body: bytes
    schema: int
    entries: tuple[Entry, ...] = ()


@_value
class Delete:
    """Remove a key and its index entries; a key that does not exist is fine."""

    table: str
    key: bytes


@_value
class Submission:
    """Changes that belong together: a submission is applied as a whole, or refused as a whole.

    Its preconditions are checked after the submissions before it, and before its own writes.
    """

    expects: tuple[Expect | Vacant, ...] = ()
    writes: tuple[Put | Delete, ...] = ()
    records: tuple[Put, ...] = ()
    """Journal records. Each gets the next sequence number as its version, and, in 8 big-endian bytes, as its key.

    Only their bodies and schemas count. The version of the submission's writes is the number of its last record.
    """
    new_work: bool = False
    """Whether it adds new work. If so, it is refused while only the reserve is left, which is for finishing work.

    A store that does not know how much room it has treats it like any other.
    """

    def __add__(self, other: "Submission") -> "Submission":
        """Combine both into one submission."""
        return Submission(
            self.expects + other.expects,
            self.writes + other.writes,
            self.records + other.records,
            self.new_work or other.new_work,
        )


Outcomes: TypeAlias = list[int | Superseded | StoreError]
"""For each submission of a batch, its version or the error by which it alone was refused."""


@attrs.frozen
class Stored:
    """A value as it was read: its body, the schema that it was written with, and its version."""

    body: bytes
    schema: int
    version: int


class Snapshot(Protocol):
    """A consistent view of every table and index at one commit.

    An index is read like a table: the key of an entry is its place followed by the key of the value, and its body is
    the key of the value. The version and schema of an entry are up to the store.

    A key that is empty or too long does not exist. Reads may be nested, such as a `get` between two steps of a `scan`,
    or two scans at once. A snapshot belongs to one thread. Reading is an error once it is over, or the store is closed.
    """

    def last_sequence(self) -> int:
        """Return the sequence number of that commit."""

    def get(self, table: str, key: bytes) -> Stored | None:
        """Read one value, or None if the key does not exist."""

    def scan(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, Stored]]:
        """Walk the keys that begin with `prefix`, in order, from just after `after`; in reverse, from just before it.

        Neither has to be an existing key, nor as short as a key may be. Values are fetched as the walk goes on, so
        those that are not reached cost nothing.
        """

    def count(self, table: str) -> int:
        """Return how many keys a table has, without walking it."""


class Store(Protocol):
    """Tables of versioned values. One thread writes, any thread may read, and readers never wait for the writer.

    A location can be opened once at a time: opening it again is refused.
    """

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Open a snapshot of the newest commit, which shows everything that was applied before.

        Several snapshots may be open at once, of different commits, and end in any order. Taking and reading one
        happens in the caller's thread, which may run the event loop, so it has to be cheap. It has to be short, because
        the store can't reuse the space of what it shows.

        Raises:
            StoreError: the store can't be read, or is closed.
            StoreDamaged: a value that is read is not what was written.
        """

    def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch durably: once this returns, no crash and no loss of power can undo it.

        The batch is one commit as a rule. If there is too little room for all of it, it may become several commits, in
        order, so that what fits is applied. A snapshot may then show part of the batch, but never part of a submission.

        Returns:
            for each submission its version (its last sequence number), or why it was refused: the first precondition
            that failed or whose value is damaged, or too little room.

        Raises:
            CommitUncertain: the sync failed; the store must not be written again before it is reopened.
            StoreError: the batch can't be written at all, such as for a key of the wrong length; nothing was applied.
        """

    def upkeep(self) -> None:
        """Do the store's periodic maintenance; called about once a minute, and quick."""

    def close(self) -> None:
        """Release what the store holds; closing twice is fine."""


def sound(
    view: Snapshot, name: str, *, after: bytes | None = None, on_damaged: Callable[[bytes], None] = lambda _: None
) -> Iterator[tuple[bytes, Stored]]:
    """Walk a table or an index; skip and log damaged values, so that they don't stop everything else."""
    while True:
        try:
            for key, stored in view.scan(name, after=after):
                yield key, stored
                after = key
            return
        except StoreDamaged as error:
            if error.key is None or (after is not None and error.key <= after):
                raise
            _log.error("%s; it is skipped", error)
            on_damaged(error.key)
            after = error.key
