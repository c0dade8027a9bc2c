"""What the rows say is left to do: read by the dispatcher, the timers and the node when they start."""

import logging
from collections.abc import Callable, Iterator

import attrs

from opscore.runtime.availability import announcement, available
from opscore.runtime.errors import StoreDamaged
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.matching import ready_task
from opscore.runtime.messages import AgentAvailable
from opscore.runtime.models import Agent, ReadyTask, SessionStatus
from opscore.runtime.store import Snapshot
from opscore.runtime.tables import (
    AGENTS,
    AGENTS_BY_SUSPICION,
    LEASES,
    LEASES_BY_DUE,
    OPEN_SESSIONS,
    SESSIONS,
    SESSIONS_BELOW,
    SESSIONS_BY_DUE,
    TASKS,
    TASKS_ABOVE,
    TASKS_BY_DUE,
    TASKS_READY,
    session_of,
)
from opscore.runtime.typed_tables import time_at

_log = logging.getLogger("opscore.recovery")


@attrs.frozen(kw_only=True)
class DueTimes:
    """Every time at which something has to be looked at."""

    leases: dict[str, float]
    suspicions: dict[str, float]
    sessions: dict[tuple[str, str], float]
    """By session, and the id of a task or the session's own."""
    sub_runs: list[str]
    """The runs that wait for others, and those that others wait for: they look at one another."""


def open_sessions(view: Snapshot) -> Iterator[str]:
    """The ids of the unfinished sessions; finished ones are never read."""
    for row, _ in OPEN_SESSIONS.sound_rows(view):
        yield row.session_id


def waiting_tasks(view: Snapshot, *, library: Library) -> list[ReadyTask]:
    """The tasks that wait for an agent, the longest waiting first."""
    found = []
    for _, task_id in TASKS_READY.sound_lines(view):
        try:
            waiting = _waiting(view, task_id, library)
        except StoreDamaged:
            # One damaged run must not keep the others from going on.
            _log.exception("task %s can't go on", task_id)
            continue
        if waiting is not None:
            found.append(waiting)
    return found


def _waiting(view: Snapshot, task_id: str, library: Library) -> ReadyTask | None:
    task = TASKS.read(view, task_id).row
    session = None if task is None else SESSIONS.read(view, task.session_id).row
    if task is None or session is None or session.status is SessionStatus.PAUSED:
        return None
    definition = library.find(view, session.definition_key)
    return ready_task(session, definition.tasks[task.ordinal], task)


def idle_agents(
    view: Snapshot, *, reaches: Callable[[Agent], bool], now: float, limits: Limits
) -> list[AgentAvailable]:
    """The agents that can be given work."""
    found = []
    for agent, version in AGENTS.sound_rows(view):
        try:
            lease = LEASES.read(view, agent.agent_id)
        except StoreDamaged:
            _log.exception("agent %s gets no work", agent.agent_id)
            continue
        if available(agent, leased=lease.row is not None, reachable=reaches(agent), now=now, limits=limits):
            found.append(announcement(agent, version, view.last_sequence(), limits))
    return found


def _sub_runs(view: Snapshot) -> list[str]:
    above = [session_of(task_id) for _, task_id in TASKS_ABOVE.sound_lines(view)]
    below = [session_id for _, session_id in SESSIONS_BELOW.sound_lines(view)]
    return sorted({*above, *below})


def lease_holders(view: Snapshot) -> list[str]:
    """The agents that held an attempt when the node stopped."""
    return [lease.agent_id for lease, _ in LEASES.sound_rows(view)]


def due_times(view: Snapshot) -> DueTimes:
    """When leases and suspicions end, and when sessions and their tasks have to be looked at."""
    sessions = {(session_id, session_id): time_at(line) for line, session_id in SESSIONS_BY_DUE.sound_lines(view)}
    for line, task_id in TASKS_BY_DUE.sound_lines(view):
        sessions[session_of(task_id), task_id] = time_at(line)
    return DueTimes(
        leases={agent_id: time_at(line) for line, agent_id in LEASES_BY_DUE.sound_lines(view)},
        suspicions={agent_id: time_at(line) for line, agent_id in AGENTS_BY_SUSPICION.sound_lines(view)},
        sessions=sessions,
        sub_runs=_sub_runs(view),
    )
