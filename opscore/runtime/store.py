"""The store's transactional protocol: what the runtime asks of whatever keeps its rows.

It knows bytes, versions and batches, and nothing of agents, of trio or of files. A `Submission` is preconditions
plus writes; `Store.apply` checks and applies a batch of them in order and durably, each of them whole, and one that
can't be applied is refused alone. Every applied submission advances the sequence number, also one that writes nothing,
and the values it writes carry that number as their version: versions are never reused, not even by a value that was
deleted and written again, nor after a reopen, so a stale writer is always told apart.

A value may name entries in indexes. The store writes and removes them together with the value, so an index is
right at every commit without any writer having to know what stood there before.

Keys are bytes, 1 to `KEY_BYTES_MAX` of them, and their order is that of the bytes as unsigned numbers, a key before
those that it begins; no locale and no encoding has a say in it. The tables and indexes of a store are given when it is
opened, and to name another one is a bug of the caller's, as is a schema above `SCHEMA_MAX`.

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
"""The version of a key that is not there."""
KEY_BYTES_MAX: Final = 511
"""The longest key; an entry of an index counts with the key of its value."""
SCHEMA_MAX: Final = 2**14 - 1
"""The highest schema that a value may be written with; the lowest is 0."""
JOURNAL_TABLE: Final = "journal"
"""Where records go. It is read as any other table, and its rows may be deleted; only records are added to it."""


if TYPE_CHECKING:
    from attrs import frozen as _value
else:
    # Frozen to the type checker alone: at run time a frozen class sets each field through `object.__setattr__`, which
    # takes three times as long, and every commit makes half a dozen of these.
    _value = functools.partial(attrs.define, unsafe_hash=True)


@_value
class Expect:
    """A precondition: the key is at this version (`ABSENT` when it must not be there). The table is no index."""

    table: str
    key: bytes
    version: int


@_value
class Vacant:
    """A precondition: no key of the table, which may be an index, begins so; with an empty prefix, there is none."""

    table: str
    prefix: bytes


@_value
class Entry:
    """A line in an index, which leads to the value that names it. An index belongs to one table."""

    index: str
    place: bytes
    """Where it stands among the index's lines; the key of its value follows it, so places need not be unique.

    No place of an index may begin another of it: places have one length, or an end that is found nowhere else in
    them. Otherwise two values could share a line, and the first to go would take it from the other.
    """


@_value
class Put:
    """Write a value, whatever was there. Its entries take the place of those of the value before.

    An entry that is named twice is there once. Of several writes of a key in one submission the last one stands.
    """

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
    """What belongs together: it is applied whole, or refused whole.

    Its preconditions look at what the submissions before it left, its own writes not counted.
    """

    expects: tuple[Expect | Vacant, ...] = ()
    writes: tuple[Put | Delete, ...] = ()
    records: tuple[Put, ...] = ()
    """Journal records. Each gets the next sequence number as version, and as key in 8 bytes, the highest first.

    Of each only the body and the schema count. What the submission writes carries the number of its last record.
    """
    new_work: bool = False
    """Takes on what was not there before: refused while only the reserve is left, which is for finishing.

    A store that does not know how much room it has takes it as any other.
    """

    def __add__(self, other: "Submission") -> "Submission":
        """Both together, as one submission."""
        return Submission(
            self.expects + other.expects,
            self.writes + other.writes,
            self.records + other.records,
            self.new_work or other.new_work,
        )


Outcomes: TypeAlias = list[int | Superseded | StoreError]
"""For each submission of a batch its version, or why it alone was refused: the first precondition that failed."""


@attrs.frozen
class Stored:
    """A value as it was read: its body, the schema it was written with, and its version."""

    body: bytes
    schema: int
    version: int


class Snapshot(Protocol):
    """A consistent view of every table and index at one commit.

    An index reads as a table: under the place and the key of a value, the value's key as body. What version and
    schema such a line has is the store's own business.

    A key that is longer than any, or empty, is nowhere. Reads may be nested, such as a `get` between two lines of a
    `scan`, or two scans at once. One snapshot belongs to one thread. Once it is over, or the store is closed, reading
    is an error.
    """

    def last_sequence(self) -> int:
        """The sequence number of that commit."""

    def get(self, table: str, key: bytes) -> Stored | None:
        """Read one value, or nothing."""

    def scan(
        self, table: str, *, prefix: bytes = b"", after: bytes | None = None, reverse: bool = False
    ) -> Iterator[tuple[bytes, Stored]]:
        """Walk the keys that begin with `prefix`, in order, from just past `after`; from just before it in reverse.

        Neither has to be a key that is there, or as short as one. Lines are fetched as the walk goes on, and what is
        read and left is not paid for.
        """

    def count(self, table: str) -> int:
        """How many keys a table has, without walking it."""


class Store(Protocol):
    """Tables of versioned values. Written by one thread, read by any, and readers never wait for the writer.

    A place has one open store at most: a second one is refused when it is opened.
    """

    def snapshot(self) -> AbstractContextManager[Snapshot]:
        """Read at one commit, which is the newest: it shows all that was applied before.

        Several may be open at once, of different commits, and end in any order. It is taken and read where the caller
        stands, the event loop included, so it has to be cheap; and what it may keep the store from using again is
        why it has to be short.

        Raises:
            StoreError: the store can't be read, or is closed.
            StoreDamaged: a value that is read is not what was written.
        """

    def apply(self, batch: Sequence[Submission]) -> Outcomes:
        """Apply a batch durably: once this returns, no crash and no loss of power takes it back.

        It is one commit as a rule. Where there is too little room for the whole it may become several, in order, so
        that what fits is applied; then a snapshot may show a part of the batch, but never a part of a submission.

        Returns:
            for each submission its version (its last sequence number), or why it was refused: a precondition that
            failed or whose value is damaged, or too little room.

        Raises:
            CommitUncertain: the sync failed; the store must not be written again before it is reopened.
            StoreError: it can't be written at all, such as with a key of the wrong length; nothing was applied.
        """

    def upkeep(self) -> None:
        """Do what the store needs done now and then; called about once a minute, and quick."""

    def close(self) -> None:
        """Give back what it holds; closing twice is fine."""


def sound(
    view: Snapshot, name: str, *, after: bytes | None = None, on_damaged: Callable[[bytes], None] = lambda _: None
) -> Iterator[tuple[bytes, Stored]]:
    """Walk a table or an index, and pass over what is damaged, which is logged: it must not stop everything else."""
    while True:
        try:
            for key, stored in view.scan(name, after=after):
                yield key, stored
                after = key
            return
        except StoreDamaged as error:
            if error.key is None or (after is not None and error.key <= after):
                raise
            _log.error("%s; it is passed over", error)
            on_damaged(error.key)
            after = error.key
