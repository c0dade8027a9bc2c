"""Reading for callers: pages of listings, and single sessions and tasks with their progress."""

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final, Generic, TypeAlias, TypeVar

import attrs

from opscore.runtime.definitions.scopes import standing_of
from opscore.runtime.errors import Fault, InvalidDocument, LimitExceeded, StoreDamaged
from opscore.runtime.evolving import evolve
from opscore.runtime.journal.tables import (
    AGENTS,
    AGENTS_BY_CAPABILITY,
    DEFINITIONS,
    LEASES,
    SCHEDULES,
    SESSIONS,
    SESSIONS_BY_BUSINESS_KEY,
    SESSIONS_BY_LABEL,
    SESSIONS_BY_STATUS,
    TASKS,
    TASKS_DEAD,
    labelled,
    session_of,
    tasks_of,
)
from opscore.runtime.journal.typed_tables import Index, Table, named
from opscore.runtime.library import Library
from opscore.runtime.models import Agent, SavedDefinition, Schedule, Session, SessionStatus, Task
from opscore.runtime.store import Snapshot

RowT = TypeVar("RowT")

PAGE_MAX: Final = 500
SCANNED_MAX: Final = 2_000
"""Rows that are read for one page, so that a filter that few rows pass gives short pages and never blocks for long."""
READ_BYTES_MAX: Final = 8 * 1024 * 1024
"""Bytes of rows that are read for one page: a megabyte can take more than ten milliseconds, and rows may be large."""

Sized: TypeAlias = tuple[RowT, int]
"""A row, and its size in bytes as it is stored."""


@attrs.frozen(kw_only=True)
class Page(Generic[RowT]):
    """Some rows, and the cursor of the next page."""

    items: tuple[RowT, ...]
    """The rows, in the order of the list."""
    next_cursor: str | None = None
    """What the call for the next page takes as `cursor`; None on the last page."""


@attrs.frozen(kw_only=True)
class SessionView:
    """A session with its tasks, in the order of the definition."""

    session: Session
    """The run."""
    tasks: tuple[Task, ...]
    """Its tasks; the items of a list follow their task."""
    progress: Mapping[str, Any] = attrs.field(factory=dict)
    """The progress of open attempts that reported any, by the task's id."""


@attrs.frozen(kw_only=True)
class TaskView:
    """A task, and the newest progress of its open attempt."""

    task: Task
    """The task."""
    progress: Any = None
    """The progress, in JSON; None if no attempt is open, or it has reported none."""


@attrs.frozen(kw_only=True)
class DeadLetter:
    """A task that failed for good, with its run."""

    task: Task
    """The task; its `error` says why."""
    session: Session
    """Its run, which failed with it."""


def session_view(
    view: Snapshot, session_id: str, library: Library, *, tasks_bytes_max: int | None = None
) -> SessionView | None:
    """Read a session with its tasks.

    Args:
        view: the rows.
        session_id: the session.
        library: the definitions that runs follow.
        tasks_bytes_max: how many bytes the rows of its tasks may have. If it is 0, they are not read: the view has no
            tasks, and no result that the session's row has no room for.

    Raises:
        LimitExceeded: they have more.
    """
    session = SESSIONS.read(view, session_id).row
    if session is None or tasks_bytes_max == 0:
        return None if session is None else SessionView(session=session, tasks=())
    if tasks_bytes_max is not None:
        _check_size(view, session_id, tasks_bytes_max)
    tasks = tuple(task for task, _ in tasks_of(view, session_id))
    said = {task.task_id: progress for task in tasks if (progress := _progress(view, task)) is not None}
    return SessionView(session=_with_result(view, session, tasks, library), tasks=tasks, progress=said)


def _check_size(view: Snapshot, session_id: str, bytes_max: int) -> None:
    read_bytes = 0
    for _, stored in view.scan(TASKS.name, prefix=f"{session_id}.".encode()):
        read_bytes += len(stored.body)
        if read_bytes > bytes_max:
            raise LimitExceeded("tasks_bytes_max", bytes_max, read_bytes)


def session_tasks(view: Snapshot, session_id: str, *, limit: int, cursor: str | None) -> Page[TaskView] | None:
    """List the tasks of a session in the order of its definition; the items of a list follow their task.

    Raises:
        InvalidDocument: the cursor is invalid, or the limit is out of range.
    """
    if SESSIONS.read(view, session_id).row is None:
        return None
    if cursor and session_of(cursor) != session_id:
        raise InvalidDocument("query", (Fault(path="cursor", message="expected the cursor of a page of its tasks"),))
    found = _rows(view, TASKS, cursor, prefix=f"{session_id}.".encode())
    rows = ((TaskView(task=task, progress=_progress(view, task)), size) for task, size in found)
    return _page(rows, lambda row: row.task.task_id, lambda _: True, limit)


def task_view(view: Snapshot, task_id: str) -> TaskView | None:
    """Read a task with its progress."""
    task = TASKS.read(view, task_id).row
    return None if task is None else TaskView(task=task, progress=_progress(view, task))


def _progress(view: Snapshot, task: Task) -> Any:
    """Return the progress in the lease of a task's open attempt. A task without one costs no read."""
    if not task.is_out or task.agent_id is None:
        return None
    lease = LEASES.read(view, task.agent_id).row
    if lease is None or (lease.task_id, lease.attempt) != (task.task_id, task.attempt):
        return None
    return lease.progress


def whole_session(view: Snapshot, session_id: str, library: Library) -> Session | None:
    """Read a session, including a result that its row has no room for."""
    session = SESSIONS.read(view, session_id).row
    if session is None or session.status is not SessionStatus.COMPLETED or session.result is not None:
        return session
    return _with_result(view, session, [task for task, _ in tasks_of(view, session_id)], library)


def _with_result(view: Snapshot, session: Session, tasks: Sequence[Task], library: Library) -> Session:
    """Gather a result that is too large for the session's row from the rows of its tasks."""
    if session.status is not SessionStatus.COMPLETED or session.result is not None:
        return session
    definition = library.find(view, session.definition_key)
    if definition.outputs is not None:
        return session
    return evolve(session, result=standing_of(session, definition, tasks).gathered())


@attrs.frozen(kw_only=True)
class WantedSessions:
    """The filter of a list of sessions; None means any."""

    status: str | None = None
    workflow_id: str | None = None
    agent_id: str | None = None
    labels: Mapping[str, str] = attrs.field(factory=dict)
    business_key: str | None = None

    def __contains__(self, session: Session) -> bool:
        """Whether a session passes the filter."""
        return (
            self.status in (None, session.status)
            and self.workflow_id in (None, session.workflow_id)
            and self.agent_id in (None, session.agent_id)
            and self.labels.items() <= session.labels.items()
            and self.business_key in (None, session.business_key)
        )

    def place(self) -> tuple[Index[Session], bytes] | None:
        """Return the index, and the place in it, that hold all these sessions and probably the fewest others."""
        if self.business_key is not None:
            return SESSIONS_BY_BUSINESS_KEY, named(self.business_key)
        for label in self.labels.items():
            return SESSIONS_BY_LABEL, labelled(*label)
        return None if self.status is None else (SESSIONS_BY_STATUS, named(self.status))


def limit_faults(limit: Any) -> Iterator[Fault]:
    """Yield a fault if this can't be the number of items of a page."""
    if not isinstance(limit, int) or isinstance(limit, bool) or not 1 <= limit <= PAGE_MAX:
        yield Fault(path="limit", message=f"expected a whole number from 1 to {PAGE_MAX}, found {limit!r}")


def check_limit(limit: Any) -> None:
    """Check that this can be the number of items of a page.

    Raises:
        InvalidDocument: it can't.
    """
    faults = tuple(limit_faults(limit))
    if faults:
        raise InvalidDocument("query", faults)


def session_query_faults(status: str | None, cursor: str | None) -> Iterator[Fault]:
    """Yield the faults in a query for a list of sessions."""
    if status is not None and status not in SessionStatus.__members__.values():
        yield Fault(path="status", message=f"expected one of {', '.join(SessionStatus)}, found {status!r}")
    if cursor and not cursor.startswith("ses_"):
        yield Fault(path="cursor", message="expected the cursor of a page of sessions")


def sessions(view: Snapshot, wanted: WantedSessions, *, limit: int, cursor: str | None) -> Page[Session]:
    """List sessions, newest first.

    Raises:
        InvalidDocument: there is no such status, the cursor is invalid, or the limit is out of range.
    """
    faults = (*limit_faults(limit), *session_query_faults(wanted.status, cursor))
    if faults:
        raise InvalidDocument("query", faults)
    place = wanted.place()
    if place is None:
        rows = _rows(view, SESSIONS, cursor, reverse=True)
    else:
        rows = _indexed_rows(view, SESSIONS, *place, cursor, reverse=True)
    return _page(rows, SESSIONS.key, wanted.__contains__, limit)


def agents(
    view: Snapshot, *, limit: int, cursor: str | None, state: str | None = None, capability: str | None = None
) -> Page[Agent]:
    """List agents by id."""

    def wanted(agent: Agent) -> bool:
        return (state is None or agent.state == state) and (capability is None or capability in agent.capabilities)

    if capability is None:
        rows = _rows(view, AGENTS, cursor)
    else:
        rows = _indexed_rows(view, AGENTS, AGENTS_BY_CAPABILITY, named(capability), cursor)
    return _page(rows, AGENTS.key, wanted, limit)


def saved_definitions(view: Snapshot, *, limit: int, cursor: str | None) -> Page[SavedDefinition]:
    """List the saved workflow definitions by id."""
    return _page(_rows(view, DEFINITIONS, cursor), DEFINITIONS.key, lambda _: True, limit)


def schedules(view: Snapshot, *, limit: int, cursor: str | None, workflow_id: str | None = None) -> Page[Schedule]:
    """List schedules by id."""

    def wanted(schedule: Schedule) -> bool:
        return workflow_id is None or schedule.workflow_id == workflow_id

    return _page(_rows(view, SCHEDULES, cursor), SCHEDULES.key, wanted, limit)


def dead_letters(
    view: Snapshot, *, limit: int, cursor: str | None, workflow_id: str | None = None, code: str | None = None
) -> Page[DeadLetter]:
    """List the dead letters, the newest first.

    Raises:
        InvalidDocument: the cursor is invalid, or the limit is out of range.
    """

    def wanted(letter: DeadLetter) -> bool:
        failed_with = letter.task.error and letter.task.error.code
        return (workflow_id is None or letter.session.workflow_id == workflow_id) and code in (None, failed_with)

    return _page(_dead_letters(view, _dead_line(cursor) if cursor else None), _dead_cursor, wanted, limit)


def dead_letter(view: Snapshot, task_id: str) -> DeadLetter | None:
    """Read one dead letter; return None if the task is not one."""
    task = TASKS.read(view, task_id).row
    session = None if task is None or not task.dead else SESSIONS.read(view, task.session_id).row
    return None if task is None or session is None else DeadLetter(task=task, session=session)


def _dead_letters(view: Snapshot, after: bytes | None) -> Iterator[Sized[DeadLetter]]:
    for _, key in TASKS_DEAD.lines(view, after=after, reverse=True):
        task, task_bytes = _sized(view, TASKS, key, TASKS_DEAD.name)
        session, session_bytes = _sized(view, SESSIONS, task.session_id, TASKS_DEAD.name)
        yield DeadLetter(task=task, session=session), task_bytes + session_bytes


def _dead_cursor(letter: DeadLetter) -> str:
    """Return a place in the index as a cursor, which remains valid when the letter is gone."""
    (place,) = TASKS_DEAD.places(letter.task)
    return f"{place.hex()}.{letter.task.task_id}"


def _dead_line(cursor: str) -> bytes:
    place, _, task_id = cursor.partition(".")
    try:
        return bytes.fromhex(place) + task_id.encode()
    except ValueError as error:
        fault = Fault(path="cursor", message="expected the cursor of a page of dead letters")
        raise InvalidDocument("query", (fault,)) from error


def _rows(
    view: Snapshot, table: Table[RowT], cursor: str | None, *, prefix: bytes = b"", reverse: bool = False
) -> Iterator[Sized[RowT]]:
    after = cursor.encode() if cursor else None
    for key, stored in view.scan(table.name, prefix=prefix, after=after, reverse=reverse):
        yield table.decode(key, stored), len(stored.body)


def _indexed_rows(
    view: Snapshot, table: Table[RowT], index: Index[RowT], place: bytes, cursor: str | None, *, reverse: bool = False
) -> Iterator[Sized[RowT]]:
    """Yield the rows at one place of an index, in the order of their keys."""
    after = place + cursor.encode() if cursor else None
    for _, key in index.lines(view, prefix=place, after=after, reverse=reverse):
        yield _sized(view, table, key, index.name)


def _sized(view: Snapshot, table: Table[RowT], key: str, index: str) -> Sized[RowT]:
    """Read a row that an index entry refers to.

    Raises:
        StoreDamaged: the row does not exist.
    """
    packed = key.encode()
    stored = view.get(table.name, packed)
    if stored is None:
        raise StoreDamaged(f"{index} at {key!r}", f"it refers to a row of {table.name} that does not exist")
    return table.decode(packed, stored), len(stored.body)


def _page(
    rows: Iterator[Sized[RowT]], key: Callable[[RowT], str], wanted: Callable[[RowT], bool], limit: int
) -> Page[RowT]:
    check_limit(limit)
    items: list[RowT] = []
    last: RowT | None = None
    read_bytes = 0
    for scanned, (row, row_bytes) in enumerate(rows):
        if last is not None and (len(items) == limit or scanned == SCANNED_MAX or read_bytes >= READ_BYTES_MAX):
            return Page(items=tuple(items), next_cursor=key(last))
        last = row
        read_bytes += row_bytes
        if wanted(row):
            items.append(row)
    return Page(items=tuple(items))
