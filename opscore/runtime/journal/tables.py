"""The tables of the domain: for each kind of row, its table, key, schema version and indexes."""

from typing import Any, Final

import attrs

from opscore.runtime import codec
from opscore.runtime.journal.typed_tables import Document, Index, Table, at, named
from opscore.runtime.lease import Lease, Slot
from opscore.runtime.models import (
    Agent,
    AgentSource,
    IdempotentTrigger,
    Record,
    SavedDefinition,
    Schedule,
    Session,
    Signal,
    Task,
    TaskStatus,
)
from opscore.runtime.store import JOURNAL_TABLE, Put, Snapshot
from opscore.runtime.vitals import Vitals


@attrs.frozen(kw_only=True)
class OpenSession:
    """An entry in the index of unfinished sessions."""

    session_id: str


@attrs.frozen(kw_only=True)
class Revision:
    """A definition's content, kept for as long as a run needs it."""

    definition_key: str
    document: dict[str, Any]


@attrs.frozen(kw_only=True)
class SeenSignature:
    """The signature of a webhook that was accepted before."""

    signature: str
    seen_at: float


@attrs.frozen(kw_only=True)
class IdempotencyRow:
    """An idempotency key, in the scope of its path, and the trigger that it was used for."""

    scope: str
    trigger: IdempotentTrigger


@attrs.frozen(kw_only=True)
class Mark:
    """The point up to which some continued work, such as retention, has come."""

    name: str
    sequence: int


JOURNAL_TRIMMED: Final = "journal_trimmed"
"""Marks the newest record that retention has removed."""


# --- indexes ------------------------------------------------------------------------------------------------


def labelled(name: str, value: str) -> bytes:
    """Return the place of a label in an index; it is a prefix of no other label's entries."""
    return named(name) + named(value)


def in_line(line: str, rank: float) -> bytes:
    """Return the index place of a rank in a line; the line's name in it is a prefix of no other line's entries."""
    return named(line) + at(rank)


def line_begins(place: bytes, task_id: str) -> bytes:
    """Return the prefix of all entries of a line, taken from the key of one of them."""
    return place[: -len(task_id.encode()) - len(at(0.0))]


AGENTS_BY_CAPABILITY: Final[Index[Agent]] = Index(
    name="agents_by_capability", places=lambda agent: [named(capability) for capability in agent.capabilities]
)
AGENTS_BY_SUSPICION: Final[Index[Agent]] = Index(
    name="agents_by_suspicion", places=lambda agent: [at(agent.suspected_until)] if agent.suspected_until else ()
)
"""By the end of their suspicion."""
LEASES_BY_DUE: Final[Index[Lease]] = Index(name="leases_by_due", places=lambda lease: [at(lease.due_at)])
SESSIONS_BY_STATUS: Final[Index[Session]] = Index(
    name="sessions_by_status", places=lambda session: [named(session.status)]
)
SESSIONS_BY_DEFINITION: Final[Index[Session]] = Index(
    name="sessions_by_definition", places=lambda session: [named(session.definition_key)]
)
SESSIONS_ENDED: Final[Index[Session]] = Index(
    name="sessions_ended", places=lambda session: [at(session.ended_at)] if session.ended_at is not None else ()
)
"""Ended sessions, by the time of their end."""
SESSIONS_BY_DUE: Final[Index[Session]] = Index(
    name="sessions_by_due", places=lambda session: [at(session.due_at)] if session.due_at is not None else ()
)
"""By the time at which their own time is over."""
SESSIONS_BELOW: Final[Index[Session]] = Index(
    name="sessions_below",
    places=lambda session: [named(session.parent_task_id)] if session.parent_task_id and not session.ended_at else (),
)
"""Unfinished child runs, by the task that began them."""
SESSIONS_BY_LABEL: Final[Index[Session]] = Index(
    name="sessions_by_label", places=lambda session: [labelled(*label) for label in session.labels.items()]
)
SESSIONS_BY_BUSINESS_KEY: Final[Index[Session]] = Index(
    name="sessions_by_business_key",
    places=lambda session: [named(session.business_key)] if session.business_key is not None else (),
)
TASKS_READY: Final[Index[Task]] = Index(
    name="tasks_ready",
    places=lambda task: [at(task.ready_at or 0.0)] if task.status is TaskStatus.READY and task.line is None else (),
)
"""Ready tasks without a line, which an earlier release wrote, by the time since which they wait."""
TASKS_IN_LINE: Final[Index[Task]] = Index(
    name="tasks_in_line",
    places=lambda task: (
        [in_line(task.line, task.rank or 0.0)] if task.status is TaskStatus.READY and task.line is not None else ()
    ),
)
"""Tasks that wait for an agent, by their line and their place in it."""
TASKS_BY_DUE: Final[Index[Task]] = Index(
    name="tasks_by_due", places=lambda task: [at(task.due_at)] if task.due_at is not None else ()
)
"""By the time at which they have to be checked."""
TASKS_ABOVE: Final[Index[Task]] = Index(
    name="tasks_above", places=lambda task: [b"\0"] if task.awaits and task.child_session_id else ()
)
"""Tasks that wait for a child run."""
TASKS_DEAD: Final[Index[Task]] = Index(
    name="tasks_dead", places=lambda task: [at(task.ended_at or 0.0)] if task.dead else ()
)
"""The dead letters, by the time at which they failed for good."""
DEFINITIONS_BY_REVISION: Final[Index[SavedDefinition]] = Index(
    name="definitions_by_revision", places=lambda saved: [named(saved.definition_key)]
)

IDEMPOTENCY_BY_SESSION: Final[Index[IdempotencyRow]] = Index(
    name="idempotency_by_session", places=lambda row: [named(row.trigger.session_id)]
)
SCHEDULES_BY_DUE: Final[Index[Schedule]] = Index(
    name="schedules_by_due", places=lambda row: [at(row.next_due_at)] if row.next_due_at is not None else ()
)
SIGNATURES_BY_TIME: Final[Index[SeenSignature]] = Index(name="signatures_by_time", places=lambda row: [at(row.seen_at)])

# --- tables -------------------------------------------------------------------------------------------------


def _with_new_fields(document: Document) -> Document:
    """Upcast a row to a schema that only adds fields: they get their defaults."""
    return document


def _with_introduced(document: Document) -> Document:
    """Upcast from schema 1, without `introduced`: an agent of which only the id is known may have only reported."""
    named = document["name"] != document["agent_id"]
    described = any(document.get(field) for field in ("version", "capabilities", "contact_endpoint", "metadata"))
    other_source = document.get("source", AgentSource.API) != AgentSource.API
    return {**document, "introduced": named or described or other_source}


AGENTS: Final = Table(
    name="agents",
    kind=Agent,
    schema=2,
    key=lambda row: row.agent_id,
    indexes=(AGENTS_BY_CAPABILITY, AGENTS_BY_SUSPICION),
    upcasters={1: _with_introduced},
)
LEASES: Final = Table(
    name="leases",
    kind=Lease,
    schema=4,
    key=lambda row: row.agent_id,
    indexes=(LEASES_BY_DUE,),
    upcasters={1: _with_new_fields, 2: _with_new_fields, 3: _with_new_fields},
)
SLOTS: Final = Table(name="slots", kind=Slot, schema=1, key=lambda row: row.name)
SESSIONS: Final = Table(
    name="sessions",
    kind=Session,
    schema=2,
    key=lambda row: row.session_id,
    indexes=(
        *(SESSIONS_BY_STATUS, SESSIONS_BY_DEFINITION, SESSIONS_ENDED, SESSIONS_BY_DUE, SESSIONS_BELOW),
        *(SESSIONS_BY_LABEL, SESSIONS_BY_BUSINESS_KEY),
    ),
    upcasters={1: _with_new_fields},
)
OPEN_SESSIONS: Final = Table(name="open_sessions", kind=OpenSession, schema=1, key=lambda row: row.session_id)
TASKS: Final = Table(
    name="tasks",
    kind=Task,
    schema=3,
    key=lambda row: row.task_id,
    indexes=(TASKS_READY, TASKS_IN_LINE, TASKS_BY_DUE, TASKS_ABOVE, TASKS_DEAD),
    upcasters={1: _with_new_fields, 2: _with_new_fields},
)
SIGNALS: Final = Table(name="signals", kind=Signal, schema=1, key=lambda row: f"{row.session_id}.{row.signal_id}")
DEFINITIONS: Final = Table(
    name="definitions",
    kind=SavedDefinition,
    schema=1,
    key=lambda row: row.workflow_id,
    indexes=(DEFINITIONS_BY_REVISION,),
)
REVISIONS: Final = Table(name="revisions", kind=Revision, schema=1, key=lambda row: row.definition_key)
SIGNATURES: Final = Table(
    name="signatures",
    kind=SeenSignature,
    schema=1,
    key=lambda row: row.signature,
    indexes=(SIGNATURES_BY_TIME,),
)
IDEMPOTENCY: Final = Table(
    name="idempotency", kind=IdempotencyRow, schema=1, key=lambda row: row.scope, indexes=(IDEMPOTENCY_BY_SESSION,)
)
SCHEDULES: Final = Table(
    name="schedules", kind=Schedule, schema=1, key=lambda row: row.schedule_id, indexes=(SCHEDULES_BY_DUE,)
)
MARKS: Final = Table(name="marks", kind=Mark, schema=1, key=lambda row: row.name)
VITALS: Final = Table(name="vitals", kind=Vitals, schema=1, key=lambda row: row.name)

ALL_TABLES: Final[tuple[Table[Any], ...]] = (
    AGENTS, LEASES, SLOTS, SESSIONS, OPEN_SESSIONS, TASKS, SIGNALS, DEFINITIONS, REVISIONS, SIGNATURES, IDEMPOTENCY,
    SCHEDULES, MARKS, VITALS,
)  # fmt: skip

INDEX_NAMES: Final = {table.name: tuple(index.name for index in table.indexes) for table in ALL_TABLES if table.indexes}

RECORDS: Final = Table(name=JOURNAL_TABLE, kind=Record, schema=1, key=lambda _: "")
"""The journal. The store gives each record its key, which is its sequence number."""


def record(line: Record) -> Put:
    """Return the write of a journal record."""
    return Put(JOURNAL_TABLE, b"", codec.encode_row(line), RECORDS.schema)


def sequence_key(sequence: int) -> bytes:
    """Return the key of the record with this sequence number."""
    return sequence.to_bytes(8, "big")


def session_of(task_id: str) -> str:
    """Return the id of the session that a task belongs to."""
    return task_id.partition(".")[0]


def tasks_of(view: Snapshot, session_id: str) -> list[tuple[Task, int]]:
    """Read the tasks of a session in the order of its definition; the items of a list follow their task."""
    found = TASKS.scan(view, prefix=f"{session_id}.")
    return sorted(found, key=lambda pair: (pair[0].ordinal, -1 if pair[0].item is None else pair[0].item))


def is_waited_for(view: Snapshot, session: Session) -> bool:
    """Whether the parent's task waits for a run; false for a run without a parent."""
    task = None if session.parent_task_id is None else TASKS.read(view, session.parent_task_id).row
    return task is not None and task.awaits and task.child_session_id == session.session_id
