"""The tables of the domain: which row lives where, under which key, in which schema version.

Every read returns the row with its version; a writer names that version as precondition.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, Generic, TypeVar

import attrs

from opscore.runtime import codec
from opscore.runtime.errors import LimitExceeded, StoreDamaged, StoreIncompatible
from opscore.runtime.models import (
    Agent,
    IdempotentTrigger,
    Lease,
    Record,
    SavedDefinition,
    Session,
    Task,
)
from opscore.runtime.store import ABSENT, JOURNAL_TABLE, Delete, Expect, Put, Snapshot, Stored

RowT = TypeVar("RowT")

KEY_BYTES_MAX: Final = 511
"""What LMDB takes as a key."""


@attrs.frozen
class Versioned(Generic[RowT]):
    """A row, or its absence, at a version."""

    row: RowT | None
    version: int


@attrs.frozen(kw_only=True)
class Table(Generic[RowT]):
    """A typed view of one of the store's tables."""

    name: str
    kind: type[RowT]
    schema: int
    key: Callable[[RowT], str]

    def put(self, row: RowT) -> Put:
        """Write this row under its own key."""
        return Put(self.name, _packed(self.key(row)), codec.encode_row(row), self.schema)

    def delete(self, key: str) -> Delete:
        """Remove the row."""
        return Delete(self.name, _packed(key))

    def expect(self, key: str, version: int) -> Expect:
        """Require the row to be at this version."""
        return Expect(self.name, _packed(key), version)

    def read(self, view: Snapshot, key: str) -> Versioned[RowT]:
        """Read one row."""
        packed = _packed(key)
        stored = view.get(self.name, packed)
        return Versioned(None, ABSENT) if stored is None else Versioned(self.decode(packed, stored), stored.version)

    def scan(
        self, view: Snapshot, *, prefix: str = "", after: str | None = None, reverse: bool = False
    ) -> Iterator[tuple[RowT, int]]:
        """Walk the rows in key order, each with its version."""
        bound = None if after is None else after.encode()
        for key, stored in view.scan(self.name, prefix=prefix.encode(), after=bound, reverse=reverse):
            yield self.decode(key, stored), stored.version

    def decode(self, key: bytes, stored: Stored) -> RowT:
        """Turn what was read under this key into a row.

        Raises:
            StoreIncompatible: a newer release wrote it.
            StoreDamaged: it is as it was written, but no such row.
        """
        if stored.schema > self.schema:
            raise StoreIncompatible(
                self.name, f"a row has schema {stored.schema}, this release reads up to {self.schema}"
            )
        try:
            return codec.decode_row(stored.body, self.kind)
        except (ExceptionGroup, LookupError, TypeError, ValueError) as error:
            raise StoreDamaged(f"{self.name} {key!r}", f"it is no {self.kind.__name__}") from error


def _packed(key: str) -> bytes:
    """The bytes of a key; one too long would fail the whole batch that its submission shares."""
    packed = key.encode()
    if len(packed) > KEY_BYTES_MAX:
        raise LimitExceeded("key_bytes_max", KEY_BYTES_MAX, len(packed))
    return packed


@attrs.frozen(kw_only=True)
class OpenSession:
    """A line in the index of unfinished sessions."""

    session_id: str


@attrs.frozen(kw_only=True)
class Revision:
    """A definition's content, kept for as long as a run needs it."""

    definition_key: str
    document: dict[str, Any]


@attrs.frozen(kw_only=True)
class SeenSignature:
    """A webhook that was answered before."""

    signature: str
    seen_at: float


AGENTS: Final = Table(name="agents", kind=Agent, schema=1, key=lambda row: row.agent_id)
LEASES: Final = Table(name="leases", kind=Lease, schema=1, key=lambda row: row.agent_id)
SESSIONS: Final = Table(name="sessions", kind=Session, schema=1, key=lambda row: row.session_id)
OPEN_SESSIONS: Final = Table(name="open_sessions", kind=OpenSession, schema=1, key=lambda row: row.session_id)
TASKS: Final = Table(name="tasks", kind=Task, schema=1, key=lambda row: row.task_id)
DEFINITIONS: Final = Table(name="definitions", kind=SavedDefinition, schema=1, key=lambda row: row.workflow_id)
REVISIONS: Final = Table(name="revisions", kind=Revision, schema=1, key=lambda row: row.definition_key)
SIGNATURES: Final = Table(name="signatures", kind=SeenSignature, schema=1, key=lambda row: row.signature)


@attrs.frozen(kw_only=True)
class IdempotencyRow:
    """An idempotency key within the path that it was sent to."""

    scope: str
    trigger: IdempotentTrigger


IDEMPOTENCY: Final = Table(name="idempotency", kind=IdempotencyRow, schema=1, key=lambda row: row.scope)

ALL_TABLES: Final = (
    AGENTS, LEASES, SESSIONS, OPEN_SESSIONS, TASKS, DEFINITIONS, REVISIONS, SIGNATURES, IDEMPOTENCY,
)  # fmt: skip

RECORD_SCHEMA: Final = 1


def record(line: Record) -> Put:
    """Make a journal record of this line; the store gives it its sequence number."""
    return Put(JOURNAL_TABLE, b"", codec.encode_row(line), RECORD_SCHEMA)


def tasks_of(view: Snapshot, session_id: str) -> list[tuple[Task, int]]:
    """Read the tasks of a session in the order of its definition."""
    return sorted(TASKS.scan(view, prefix=f"{session_id}."), key=lambda pair: pair[0].ordinal)
