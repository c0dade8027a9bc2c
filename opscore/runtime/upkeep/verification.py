"""Verification of a store: every value, every index entry, and the references between rows.

It reads one snapshot of a directory that may be in use. The memory that it needs does not grow with the store, except
for the entities of a bounded number of the newest records. A damaged page may end the process, because LMDB maps the
file and trusts it, so a command should run this in a process of its own.
"""

from collections.abc import Callable, Iterator
from typing import Any, Final, TypeVar

import attrs

from opscore.runtime.errors import StoreError
from opscore.runtime.journal.tables import (
    AGENTS,
    ALL_TABLES,
    DEFINITIONS,
    IDEMPOTENCY,
    JOURNAL_TRIMMED,
    LEASES,
    MARKS,
    OPEN_SESSIONS,
    RECORDS,
    REVISIONS,
    SESSIONS,
    SLOTS,
    TASKS,
)
from opscore.runtime.journal.typed_tables import Index, Table
from opscore.runtime.lease import Lease, Slot
from opscore.runtime.models import SESSION_ENDED, TASK_OPEN, Record, SavedDefinition, Session, Task, TaskStatus
from opscore.runtime.runs.lifecycle import KIND_DEAD, KIND_DISCARDED
from opscore.runtime.storage import sealing
from opscore.runtime.storage.lmdb_snapshot import LmdbSnapshot
from opscore.runtime.store import JOURNAL_TABLE, Stored

RowT = TypeVar("RowT")

RECORDS_COMPARED_MAX: Final = 100_000
"""How many of the newest records are compared with their rows."""
PROGRESS_EVERY: Final = 10_000


@attrs.frozen(kw_only=True)
class Finding:
    """One thing that is wrong."""

    where: str
    """Its place, such as `tasks 'ses_1.0'`."""
    what: str


class Verification:
    """One pass over a snapshot.

    Args:
        view: the snapshot.
        indexed: whether its format has indexes.
        on_progress: is called with the name of a table and how many of its rows were checked so far.
    """

    def __init__(self, view: LmdbSnapshot, *, indexed: bool, on_progress: Callable[[str, int], None]) -> None:
        self._view = view
        self._indexed = indexed
        self._on_progress = on_progress
        self._checks: dict[str, Callable[[Any], Iterator[str]]] = {
            LEASES.name: self._lease,
            SLOTS.name: self._slot,
            SESSIONS.name: self._session,
            TASKS.name: self._task,
            OPEN_SESSIONS.name: lambda row: self._unfinished(row.session_id),
            IDEMPOTENCY.name: lambda row: self._leads_to(SESSIONS, row.trigger.session_id),
            DEFINITIONS.name: self._definition,
        }
        self.rows = 0
        """How many values were checked."""

    def findings(self) -> Iterator[Finding]:
        """Yield everything that is wrong, in the order of the tables."""
        sequence = self._view.last_sequence()
        for table in ALL_TABLES:
            yield from self._table(table, sequence)
            if self._indexed:
                for index in table.indexes:
                    yield from self._index(table, index)
        yield from self._journal(sequence)
        yield from self._newest_records()

    # --- values -------------------------------------------------------------------------------------------

    def _table(self, table: Table[Any], sequence: int) -> Iterator[Finding]:
        for key, value in self._walk(table.name):
            where = f"{table.name} {key.decode(errors='replace')!r}"
            try:
                stored = sealing.opened(table.name, key, value)
                row = table.decode(key, stored)
            except StoreError as error:
                yield Finding(where=where, what=str(error))
                continue
            faults = [*self._value(table, key, value, stored, row)]
            if stored.version > sequence:
                faults.append(f"its version is {stored.version}, but the newest commit is {sequence}")
            if table.name in self._checks:
                faults += self._checks[table.name](row)
            yield from (Finding(where=where, what=fault) for fault in faults)

    def _value(self, table: Table[Any], key: bytes, value: bytes, stored: Stored, row: Any) -> Iterator[str]:
        if table.key(row).encode() != key:
            yield f"it is the row of {table.key(row)!r}"
        if not self._indexed or not table.indexes:
            return
        expected = set(table.kept(key, stored).entries)
        if expected != set(sealing.entries_of(table.name, key, value)):
            yield "the index entries stored with it are not those of its row"
        for entry in expected:
            if self._view.raw(entry.index, entry.place + key) is None:
                yield f"index {entry.index} has no entry for it"

    def _index(self, table: Table[Any], index: Index[Any]) -> Iterator[Finding]:
        for line, value in self._walk(index.name):
            fault = self._line(table, index, line, value)
            if fault is not None:
                yield Finding(where=f"index {index.name} {line!r}", what=fault)

    def _line(self, table: Table[Any], index: Index[Any], line: bytes, value: bytes) -> str | None:
        try:
            key = sealing.opened(index.name, line, value).body
            row = self._view.raw(table.name, key)
            if row is None:
                return f"it refers to {table.name} {key.decode(errors='replace')!r}, which does not exist"
            entries = sealing.entries_of(table.name, key, row)
        except StoreError as error:
            return str(error)
        if not any(entry.index == index.name and entry.place + key == line for entry in entries):
            return f"it refers to {table.name} {key.decode(errors='replace')!r}, whose place is another one"
        return None

    def _walk(self, name: str) -> Iterator[tuple[bytes, bytes]]:
        self._on_progress(name, 0)
        for count, pair in enumerate(self._view.scan_raw(name), start=1):
            self.rows += 1
            if count % PROGRESS_EVERY == 0:
                self._on_progress(name, count)
            yield pair

    # --- references between rows --------------------------------------------------------------------------

    def _row(self, table: Table[RowT], key: str) -> RowT | None:
        """Read a row that another one names; a damaged row is reported under its own table, and None here."""
        try:
            return table.read(self._view, key).row
        except StoreError:
            return None

    def _leads_to(self, table: Table[Any], key: str) -> Iterator[str]:
        if self._view.raw(table.name, key.encode()) is None:
            yield f"{table.name} {key!r}, to which it refers, does not exist"

    def _lease(self, lease: Lease) -> Iterator[str]:
        yield from self._leads_to(AGENTS, lease.agent_id)
        if not lease.revoked:
            # The task of a revoked lease may be removed, with its run, before the agent is done with it.
            yield from self._leads_to(TASKS, lease.task_id)
        task = self._row(TASKS, lease.task_id)
        held = (lease.attempt, lease.agent_id)
        # An agent may be busy with an attempt for a while after that was taken back.
        stands_so = task is not None and task.is_out and (task.attempt, task.agent_id) == held
        if task is not None and not stands_so and not lease.revoked:
            stands = f"{task.status} at attempt {task.attempt} of agent {task.agent_id!r}"
            yield f"it holds attempt {lease.attempt} of {lease.task_id}, which is {stands}"

        for slot in lease.slots:
            yield from self._leads_to(SLOTS, slot)

    def _slot(self, slot: Slot) -> Iterator[str]:
        lease = self._row(LEASES, slot.agent_id)
        if lease is None or slot.name not in lease.slots:
            yield f"agent {slot.agent_id!r} holds no lease with this slot"

    def _task(self, task: Task) -> Iterator[str]:
        yield from self._leads_to(SESSIONS, task.session_id)
        if task.is_out:
            lease = None if task.agent_id is None else self._row(LEASES, task.agent_id)
            if lease is None or (lease.task_id, lease.attempt) != (task.task_id, task.attempt):
                yield f"attempt {task.attempt} is open with agent {task.agent_id!r}, which holds no lease on it"
        session = self._row(SESSIONS, task.session_id)
        ended = session is not None and session.ended_at is not None
        if ended and task.status in {*TASK_OPEN, TaskStatus.READY, TaskStatus.PENDING_RETRY}:
            yield f"it is {task.status}, but its session has ended"

    def _session(self, session: Session) -> Iterator[str]:
        yield from self._leads_to(REVISIONS, session.definition_key)
        ended = session.ended_at is not None
        if ended != (session.status in SESSION_ENDED):
            yield f"it is {session.status}, but its end is {session.ended_at}"
        listed = self._view.raw(OPEN_SESSIONS.name, session.session_id.encode()) is not None
        if listed == ended:
            yield f"it is {session.status}, but is {'' if listed else 'not '}listed as unfinished"
        revision = self._row(REVISIONS, session.definition_key)
        if revision is not None:
            yield from self._tasks_of(session, len(revision.document.get("tasks", ())))

    def _tasks_of(self, session: Session, wanted: int) -> Iterator[str]:
        """Check that a run has every task of its definition, and the items of each list without a gap."""
        prefix = f"{session.session_id}."
        tasks: set[str] = set()
        items: dict[str, list[int]] = {}
        for key, _ in self._view.scan_raw(TASKS.name, prefix=prefix.encode()):
            task, _, item = key.decode(errors="replace").removeprefix(prefix).partition(".")
            if item:
                # The places of a list's items all have as many digits as the last one.
                items.setdefault(task, []).append(int(item) if item.isdecimal() else -1)
            else:
                tasks.add(task)
        if len(tasks) != wanted:
            yield f"it has {len(tasks)} tasks, but its definition has {wanted}"
        for task, found in items.items():
            if task not in tasks:
                yield f"it has items of task {task}, which does not exist"
            missing = next((place for place, item in enumerate(sorted(found)) if item != place), None)
            if missing is not None:
                yield f"it has {len(found)} items of task {task}, but item {missing} is missing"

    def _unfinished(self, session_id: str) -> Iterator[str]:
        yield from self._leads_to(SESSIONS, session_id)
        session = self._row(SESSIONS, session_id)
        if session is not None and session.ended_at is not None:
            yield f"the session is {session.status}"

    def _definition(self, saved: SavedDefinition) -> Iterator[str]:
        yield from self._leads_to(REVISIONS, saved.definition_key)

    # --- the journal --------------------------------------------------------------------------------------

    def _journal(self, sequence: int) -> Iterator[Finding]:
        mark = self._row(MARKS, JOURNAL_TRIMMED)
        trimmed = 0 if mark is None else mark.sequence
        for key, value in self._walk(JOURNAL_TABLE):
            number = int.from_bytes(key, "big")
            where = f"record {number}"
            try:
                stored = sealing.opened(JOURNAL_TABLE, key, value)
                RECORDS.decode(key, stored)
            except StoreError as error:
                yield Finding(where=where, what=str(error))
                continue
            if stored.version != number:
                yield Finding(where=where, what=f"its version is {stored.version}")
            if number > sequence:
                yield Finding(where=where, what=f"the newest commit is {sequence}")
            if number <= trimmed:
                yield Finding(where=where, what=f"records up to {trimmed} were removed")

    def _newest_records(self) -> Iterator[Finding]:
        """Compare the newest record of each task and session with its row; a row that retention removed is no fault."""
        self._on_progress("records against rows", 0)
        tables: dict[str, Table[Any]] = {"task": TASKS, "session": SESSIONS}
        seen: set[str] = set()
        for looked, (key, value) in enumerate(self._view.scan_raw(JOURNAL_TABLE, reverse=True)):
            if looked == RECORDS_COMPARED_MAX:
                return
            try:
                record = RECORDS.decode(key, sealing.opened(JOURNAL_TABLE, key, value))
            except StoreError:
                continue
            table = tables.get(record.entity)
            if table is None or record.entity_id in seen:
                continue
            seen.add(record.entity_id)
            row = self._row(table, record.entity_id)
            if row is not None and _status_told(record) != row.status:
                told = f"it is {row.status}, but its newest record {int.from_bytes(key, 'big')} says {record.kind}"
                yield Finding(where=f"{table.name} {record.entity_id!r}", what=told)


def _status_told(record: Record) -> str:
    """Return the status of a task or session according to a record."""
    if record.kind in (KIND_DEAD, KIND_DISCARDED):
        return TaskStatus.FAILED
    return record.kind.removeprefix(f"{record.entity}.")
