"""What can be read from outside: one page of a listing, one session with its tasks."""

from collections.abc import Callable, Sequence
from typing import Final, Generic, TypeVar

import attrs

from opscore.runtime import transitions
from opscore.runtime.library import Library
from opscore.runtime.models import Agent, SavedDefinition, Session, SessionStatus, Task
from opscore.runtime.store import Snapshot
from opscore.runtime.tables import AGENTS, DEFINITIONS, SESSIONS, Table, tasks_of

RowT = TypeVar("RowT")

PAGE_MAX: Final = 500
SCANNED_MAX: Final = 2_000
"""Rows looked at for one page: a filter that few rows pass gives short pages, and never holds the loop for long."""


@attrs.frozen(kw_only=True)
class Page(Generic[RowT]):
    """Some rows, and where to go on."""

    items: tuple[RowT, ...]
    next_cursor: str | None = None


@attrs.frozen(kw_only=True)
class SessionView:
    """A session with its tasks, in the order of the definition."""

    session: Session
    tasks: tuple[Task, ...]


def session_view(view: Snapshot, session_id: str, library: Library) -> SessionView | None:
    """Read a session with its tasks."""
    session = SESSIONS.read(view, session_id).row
    if session is None:
        return None
    tasks = tuple(task for task, _ in tasks_of(view, session_id))
    return SessionView(session=_with_result(view, session, tasks, library), tasks=tasks)


def whole_session(view: Snapshot, session_id: str, library: Library) -> Session | None:
    """Read a session, its result included."""
    session = SESSIONS.read(view, session_id).row
    if session is None or session.status is not SessionStatus.COMPLETED or session.result is not None:
        return session
    return _with_result(view, session, [task for task, _ in tasks_of(view, session_id)], library)


def _with_result(view: Snapshot, session: Session, tasks: Sequence[Task], library: Library) -> Session:
    """Gather a result that was too large for the session's row from the tasks' rows."""
    if session.status is not SessionStatus.COMPLETED or session.result is not None:
        return session
    definition = library.find(view, session.definition_key)
    return attrs.evolve(session, result=transitions.gathered(definition, tasks))


def sessions(
    view: Snapshot,
    *,
    limit: int,
    cursor: str | None,
    status: str | None = None,
    workflow_id: str | None = None,
    agent_id: str | None = None,
) -> Page[Session]:
    """List sessions, newest first."""

    def wanted(session: Session) -> bool:
        return (
            (status is None or session.status == status)
            and (workflow_id is None or session.workflow_id == workflow_id)
            and (agent_id is None or session.agent_id == agent_id)
        )

    return _page(view, SESSIONS, wanted, limit, cursor, reverse=True)


def agents(
    view: Snapshot, *, limit: int, cursor: str | None, state: str | None = None, capability: str | None = None
) -> Page[Agent]:
    """List agents by id."""

    def wanted(agent: Agent) -> bool:
        return (state is None or agent.state == state) and (capability is None or capability in agent.capabilities)

    return _page(view, AGENTS, wanted, limit, cursor)


def saved_definitions(view: Snapshot, *, limit: int, cursor: str | None) -> Page[SavedDefinition]:
    """List the saved workflow definitions by id."""
    return _page(view, DEFINITIONS, lambda _: True, limit, cursor)


def _page(
    view: Snapshot,
    table: Table[RowT],
    wanted: Callable[[RowT], bool],
    limit: int,
    cursor: str | None,
    *,
    reverse: bool = False,
) -> Page[RowT]:
    limit = min(max(limit, 1), PAGE_MAX)
    items: list[RowT] = []
    last: RowT | None = None
    for scanned, (row, _) in enumerate(table.scan(view, after=cursor or None, reverse=reverse)):
        if last is not None and (len(items) == limit or scanned == SCANNED_MAX):
            return Page(items=tuple(items), next_cursor=table.key(last))
        last = row
        if wanted(row):
            items.append(row)
    return Page(items=tuple(items))
