"""What the rows say is left to do: read by the dispatcher, the timers and the node when they start."""

import logging
from collections.abc import Callable, Iterator
from typing import TypeVar

import attrs

from opscore.runtime import leases
from opscore.runtime.availability import announcement, available
from opscore.runtime.errors import StoreDamaged
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.matching import ready_task
from opscore.runtime.messages import AgentAvailable
from opscore.runtime.models import Agent, ReadyTask, SessionStatus, TaskStatus
from opscore.runtime.store import Snapshot
from opscore.runtime.tables import AGENTS, LEASES, OPEN_SESSIONS, SESSIONS, tasks_of

RowT = TypeVar("RowT")

_log = logging.getLogger("opscore.recovery")


@attrs.frozen(kw_only=True)
class DueTimes:
    """Every time at which something has to be looked at."""

    leases: dict[str, float]
    suspicions: dict[str, float]
    retries: dict[tuple[str, str], float]
    """By session and task."""


def open_sessions(view: Snapshot) -> Iterator[str]:
    """The ids of the unfinished sessions; finished ones are never read."""
    for row, _ in OPEN_SESSIONS.scan(view):
        yield row.session_id


def waiting_tasks(view: Snapshot, *, library: Library) -> list[ReadyTask]:
    """The tasks that wait for an agent."""
    return _undamaged(view, lambda session_id: _waiting(view, session_id, library))


def _waiting(view: Snapshot, session_id: str, library: Library) -> list[ReadyTask]:
    session = SESSIONS.read(view, session_id).row
    if session is None or session.status is SessionStatus.PAUSED:
        return []
    definition = library.find(view, session.definition_key)
    ready = [task for task, _ in tasks_of(view, session_id) if task.status is TaskStatus.READY]
    return [ready_task(session, definition.tasks[task.ordinal], task) for task in ready]


def _undamaged(view: Snapshot, read: Callable[[str], list[RowT]]) -> list[RowT]:
    """Read every unfinished run but those with a damaged row, which must not keep the others from going on."""
    found: list[RowT] = []
    for session_id in open_sessions(view):
        try:
            found += read(session_id)
        except StoreDamaged:
            _log.exception("session %s can't go on", session_id)
    return found


def idle_agents(
    view: Snapshot, *, reaches: Callable[[Agent], bool], now: float, limits: Limits
) -> list[AgentAvailable]:
    """The agents that can be given work."""
    found = []
    for agent, version in AGENTS.scan(view):
        lease = LEASES.read(view, agent.agent_id)
        if available(agent, leased=lease.row is not None, reachable=reaches(agent), now=now, limits=limits):
            found.append(announcement(agent, version, view.last_sequence(), limits))
    return found


def lease_holders(view: Snapshot) -> list[str]:
    """The agents that held an attempt when the node stopped."""
    return [lease.agent_id for lease, _ in LEASES.scan(view)]


def due_times(view: Snapshot) -> DueTimes:
    """When leases, suspicions and retry delays end."""
    delayed = _undamaged(view, lambda session_id: [task for task, _ in tasks_of(view, session_id)])
    retries = {
        (task.session_id, task.task_id): task.due_at
        for task in delayed
        if task.status is TaskStatus.PENDING_RETRY and task.due_at is not None
    }
    return DueTimes(
        leases={lease.agent_id: leases.due_at(lease) for lease, _ in LEASES.scan(view)},
        suspicions={agent.agent_id: agent.suspected_until for agent, _ in AGENTS.scan(view) if agent.suspected_until},
        retries=retries,
    )
