"""A mirror of a simulated store's rows as values, updated with every commit, and the changes of each commit."""

import functools
import math
from collections import deque
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from opscore.runtime.definitions.definition import Definition, TaskDefinition, restore
from opscore.runtime.journal.tables import (
    AGENTS,
    DEFINITIONS,
    IDEMPOTENCY,
    LEASES,
    MARKS,
    OPEN_SESSIONS,
    RECORDS,
    REVISIONS,
    SCHEDULES,
    SESSIONS,
    SIGNALS,
    SLOTS,
    TASKS,
    IdempotencyRow,
    Mark,
    OpenSession,
    Revision,
)
from opscore.runtime.journal.typed_tables import Table
from opscore.runtime.lease import Lease, Slot
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.models import (
    Agent,
    AgentSource,
    Record,
    SavedDefinition,
    Schedule,
    Session,
    Signal,
    Task,
    TaskStatus,
)
from opscore.runtime.simulation.disk import SimulatedSnapshot
from opscore.runtime.simulation.faults import IN_THE_NODE
from opscore.runtime.simulation.history import Ledger
from opscore.runtime.simulation.marks import Marks
from opscore.runtime.store import JOURNAL_TABLE, Delete, Put, Stored, Submission

_MIRRORED: Final[tuple[Table[Any], ...]] = (
    AGENTS, LEASES, SLOTS, SESSIONS, OPEN_SESSIONS, TASKS, SIGNALS, DEFINITIONS, REVISIONS, IDEMPOTENCY, SCHEDULES,
    MARKS,
)  # fmt: skip
_ONE_AT_ONCE: Final = DispatchLimit(at_once=1)
_BY_NAME: Final = {table.name: table for table in _MIRRORED}


@attrs.frozen
class Change:
    """A row before and after a commit; None if it did not exist."""

    table: str
    """The name of its table, such as `tasks`."""
    key: str
    """The row's id."""
    before: Any
    """The row before the commit, such as a `Task`."""
    after: Any
    """The row after the commit."""


@attrs.frozen
class Commit:
    """One submission, as it was applied."""

    version: int
    """Its sequence number."""
    at: float
    """Wall time, in Unix seconds."""
    changes: tuple[Change, ...]
    """The rows that it changed."""
    records: tuple[Record, ...]
    """The records of the journal that it adds."""
    removed_records: tuple[int, ...] = ()
    """The sequence numbers of the records that it removes."""

    def of(self, table: str) -> list[Change]:
        """Return the changes to one table.

        Args:
            table: the table's name, such as `tasks`.
        """
        return self._by_table.get(table, [])

    @functools.cached_property
    def moved_tasks(self) -> list[tuple[Task, Task]]:
        """The tasks whose status changed, before and after the commit."""
        return [
            (change.before, change.after)
            for change in self.of(TASKS.name)
            if change.before is not None and change.after is not None and change.before.status != change.after.status
        ]

    @functools.cached_property
    def _by_table(self) -> dict[str, list[Change]]:
        found: dict[str, list[Change]] = {}
        for change in self.changes:
            found.setdefault(change.table, []).append(change)
        return found


def _heard_at(agent: Agent) -> tuple[float | None, float]:
    return agent.received_at, agent.registered_at


def _attempt(lease: Lease | None) -> tuple[str, int] | None:
    return None if lease is None else (lease.task_id, lease.attempt)


class Rows(Marks):
    """All rows as of the newest commit, for invariants to read.

    `agents`, `leases`, `slots`, `sessions`, `tasks`, `signals`, `schedules` and `saved` hold the rows by their ids; a
    lease by its agent's. `limits` are those of the node, `faults` the names of those that may happen, and `now()` is
    the wall time.

    Args:
        limits: the limits of the node.
        ledger: what the node told the outside.
        faults: the names of the faults that may happen in this world.
        now: returns the wall time.
    """

    def __init__(self, *, limits: Limits, ledger: Ledger, faults: frozenset[str], now: Callable[[], float]) -> None:
        super().__init__(now)
        self.limits = limits
        self.ledger = ledger
        self.faults = faults
        self._rows: dict[str, dict[str, Any]] = {table.name: {} for table in _MIRRORED}
        self.agents: Mapping[str, Agent] = self._rows[AGENTS.name]
        self.leases: Mapping[str, Lease] = self._rows[LEASES.name]
        self.slots: Mapping[str, Slot] = self._rows[SLOTS.name]
        self.sessions: Mapping[str, Session] = self._rows[SESSIONS.name]
        self.unfinished: Mapping[str, OpenSession] = self._rows[OPEN_SESSIONS.name]
        self.tasks: Mapping[str, Task] = self._rows[TASKS.name]
        self.signals: Mapping[str, Signal] = self._rows[SIGNALS.name]
        self.saved: Mapping[str, SavedDefinition] = self._rows[DEFINITIONS.name]
        self.revisions: Mapping[str, Revision] = self._rows[REVISIONS.name]
        self.schedules: Mapping[str, Schedule] = self._rows[SCHEDULES.name]
        self.idempotency: Mapping[str, IdempotencyRow] = self._rows[IDEMPOTENCY.name]
        self.marks: Mapping[str, Mark] = self._rows[MARKS.name]
        self.ends: dict[tuple[str, int], list[TaskStatus]] = {}
        """The statuses that each ended attempt's task changed to when it ended: one, unless a promise is broken."""
        self.reachable: set[str] = set()
        """The agents that a delivery reaches at the moment, if nothing goes wrong."""
        self.passed_over: list[tuple[float, Task, str]] = []
        """Tasks that had to wait although they came first: when, which, and the message for that."""
        self.not_preferred: list[tuple[float, str, str]] = []
        """Agents that did not get a task although its run prefers them: when, which, and the message for that."""
        self.contended_at = -math.inf
        """When several clients last asked for a run under one key."""
        self.behind: dict[str, dict[str, None]] = {}
        """The agents that hold a lease behind each gate, by the gate's name."""
        self.newest: dict[str, int] = {}
        """The newest commit that wrote about each session."""
        self.gone: dict[str, Session] = {}
        """The sessions that retention has removed, in their last state."""
        self.gone_tasks: dict[str, Task] = {}
        """The tasks of those sessions, in their last state."""
        self.journal: deque[tuple[int, float]] = deque()
        """The sequence number and the time of each record that has not been removed."""
        self._definitions: dict[str, Definition] = {}
        self._tasks_of: dict[str, dict[str, None]] = {}
        self._in_status: dict[TaskStatus, dict[str, None]] = {status: {} for status in TaskStatus}

    @functools.cached_property
    def node_may_fail(self) -> bool:
        """Whether there are faults that happen in the node itself."""
        return any(name.startswith(IN_THE_NODE) for name in self.faults)

    def definition(self, session: Session) -> Definition:
        """Return the definition that a session runs.

        Args:
            session: the run.
        """
        found = self._definitions.get(session.definition_key)
        if found is None:
            # It was validated at its admission, and is not validated again, here as in the node.
            document = self.revisions[session.definition_key].document
            found = self._definitions[session.definition_key] = restore(document, self.limits)
        return found

    def definitions(self) -> list[Definition]:
        """Return the definitions that all sessions run."""
        return [self.definition(session) for session in self.sessions.values()]

    def task(self, task_id: str) -> Task:
        """Return a task as it is, or was when it was removed.

        Args:
            task_id: the task.
        """
        return self.tasks.get(task_id) or self.gone_tasks[task_id]

    def session(self, session_id: str) -> Session | None:
        """Return a session as it is, or was when it was removed; None if there never was one.

        Args:
            session_id: the run.
        """
        return self.sessions.get(session_id) or self.gone.get(session_id)

    def _session_of(self, task: Task) -> Session:
        return self.sessions.get(task.session_id) or self.gone[task.session_id]

    def is_functions(self, lease: Lease) -> bool:
        """Whether a local function has an attempt, or will get it if its agent, as it now is, has not got it yet."""
        agent, attempt = self.agents.get(lease.agent_id), (lease.task_id, lease.attempt)
        if attempt in self.ledger.by_functions or attempt in self.ledger.handed or lease.claim_ticket is not None:
            return attempt in self.ledger.by_functions
        return agent is not None and agent.source is AgentSource.LOCAL

    def task_definition(self, task: Task) -> TaskDefinition:
        """Return the definition of a task.

        Args:
            task: the task.
        """
        return self.definition(self._session_of(task)).tasks[task.ordinal]

    def bounds_of(self, task: Task) -> dict[str, DispatchLimit]:
        """Return the limits on the dispatch of a task, by the names of their gates."""
        found = {} if task.concurrency_key is None else {f"key/{task.concurrency_key}": _ONE_AT_ONCE}
        if self.limits.capability_limits or self.limits.workflow_limits:
            capability = self.task_definition(task).capability or ""
            workflow_id = self._session_of(task).workflow_id
            if capability in self.limits.capability_limits:
                found[f"capability/{capability}"] = self.limits.capability_limits[capability]
            if workflow_id in self.limits.workflow_limits:
                found[f"workflow/{workflow_id}"] = self.limits.workflow_limits[workflow_id]
        return found

    def tasks_of(self, session_id: str) -> list[Task]:
        """Return the tasks of a session in the order of its definition, without `forEach` items.

        Args:
            session_id: the run.
        """
        return [task for task in self.every_task_of(session_id) if task.item is None]

    def every_task_of(self, session_id: str) -> list[Task]:
        """Return the tasks of a session, with each task's `forEach` items after it.

        Args:
            session_id: the run.
        """
        found = [self.tasks[task_id] for task_id in self._tasks_of.get(session_id, ())]
        return sorted(found, key=lambda task: (task.ordinal, -1 if task.item is None else task.item))

    def waiting(self) -> Iterator[Task]:
        """Return the tasks that wait for an agent."""
        return (self.tasks[task_id] for task_id in self._in_status[TaskStatus.READY])

    def running(self) -> Iterator[Task]:
        """Return the tasks whose agent has shown life, and those that wait for something else than an agent."""
        return (self.tasks[task_id] for task_id in self._in_status[TaskStatus.RUNNING])

    def timed(self) -> Iterator[Task]:
        """Return the tasks that have a due time."""
        statuses = (TaskStatus.READY, TaskStatus.PENDING_RETRY, TaskStatus.RUNNING)
        found = (self.tasks[task_id] for status in statuses for task_id in self._in_status[status])
        return (task for task in found if task.due_at is not None)

    def count(self) -> int:
        """Return the number of rows."""
        return sum(len(rows) for rows in self._rows.values())

    def follow(self, submission: Submission, version: int) -> Commit:
        """Update the rows with a submission that was applied, and return what it changed."""
        changes = tuple(
            change for change in (self._change(write, version) for write in submission.writes) if change is not None
        )
        records = tuple(
            RECORDS.decode(b"", Stored(record.body, record.schema, version)) for record in submission.records
        )
        first = version - len(records) + 1
        self.journal += [(first + place, record.at) for place, record in enumerate(records)]
        if len(self.unfinished) >= self.limits.sessions_open_max:
            self.full_until = self.now()
        for record in records:
            if record.kind == "agent.claimed":
                self.claimed_at[record.entity_id] = self.now()
            elif record.kind in ("agent.started", "agent.renewed"):
                self.renewed[record.entity_id] = record.at
        removed = tuple(
            int.from_bytes(write.key, "big")
            for write in submission.writes
            if write.table == JOURNAL_TABLE and isinstance(write, Delete)
        )
        return Commit(version, self.now(), changes, records, removed)

    def clock_moved(self, seconds: float) -> None:
        """Note that the wall clock was set forward, or back by negative seconds."""
        self.shift(seconds)
        self.passed_over.clear()
        self.not_preferred.clear()
        wishes = self.ledger.wishes
        wishes.update({attempt: at + seconds for attempt, at in wishes.items()})

    def differences(self, view: SimulatedSnapshot) -> list[str]:
        """Return how the disk differs from the rows that were committed."""
        found = []
        for table in _MIRRORED:
            stored = {table.key(row): row for row, _ in table.scan(view)}
            if stored != self._rows[table.name]:
                found.append(f"{table.name} on the disk are not those that were committed")
        return found

    def _change(self, write: Put | Delete, version: int) -> Change | None:
        table = _BY_NAME.get(write.table)
        if table is None:
            return None
        rows, key = self._rows[table.name], write.key.decode()
        before = rows.get(key)
        if isinstance(write, Delete):
            rows.pop(key, None)
            after = None
        else:
            after = rows[key] = table.decode(write.key, Stored(write.body, write.schema, version))
        if table is AGENTS and after is not None and (before is None or _heard_at(before) != _heard_at(after)):
            self.heard[key] = self.now()
        if table is TASKS:
            if after is None and before is not None:
                self.gone_tasks[key] = before
            self._note_task(key, before, after)
        elif table in (AGENTS, LEASES, SESSIONS):
            self.touched[key] = self.now()
        if table is SESSIONS and after is None and before is not None:
            self.gone[key] = before
        if table is LEASES and _attempt(before) != _attempt(after):
            if after is not None:
                self.granted[key], self.renewed[key] = self.now(), after.granted_at
            for lease in (before, after):
                if lease is not None:
                    self._note_lease(lease, is_over=lease is before)
        return Change(table.name, key, before, after)

    def _note_lease(self, lease: Lease, *, is_over: bool) -> None:
        for name in self.bounds_of(self.task(lease.task_id)):
            self.gates_moved[name] = self.now()
            if is_over:
                self.behind.get(name, {}).pop(lease.agent_id, None)
            else:
                self.behind.setdefault(name, {})[lease.agent_id] = None

    def _note_task(self, key: str, before: Task | None, after: Task | None) -> None:
        session_id = key.partition(".")[0]
        if before is not None:
            del self._in_status[before.status][key]
            over = after is None or not after.is_out or after.attempt != before.attempt
            if before.is_out and over and after is not None:
                self.ends.setdefault((key, before.attempt), []).append(after.status)
        if after is None:
            self._tasks_of.get(session_id, {}).pop(key, None)
            return
        self._in_status[after.status][key] = None
        if before is None:
            self._tasks_of.setdefault(session_id, {})[key] = None
