"""Reading from the rows what is left to do, for the timers and the node when they start."""

from collections.abc import Iterator

import attrs

from opscore.runtime.journal.tables import (
    AGENTS,
    AGENTS_BY_SUSPICION,
    LEASES,
    LEASES_BY_DUE,
    OPEN_SESSIONS,
    SESSIONS_BELOW,
    SESSIONS_BY_DUE,
    TASKS_ABOVE,
    TASKS_BY_DUE,
    session_of,
)
from opscore.runtime.journal.typed_tables import time_at
from opscore.runtime.models import AgentSource
from opscore.runtime.store import Snapshot


@attrs.frozen(kw_only=True)
class DueTimes:
    """Every time at which something has to be checked; leases and suspicions by agent."""

    leases: dict[str, float]
    suspicions: dict[str, float]
    sessions: dict[tuple[str, str], float]
    """By session, and the id of the task, or that of the session itself."""
    sub_runs: list[str]
    """Parent runs that wait for child runs, and those child runs, which have to check each other's state."""


def open_sessions(view: Snapshot) -> Iterator[str]:
    """Yield the ids of the unfinished sessions; finished ones are never read."""
    for row, _ in OPEN_SESSIONS.sound_rows(view):
        yield row.session_id


def _sub_runs(view: Snapshot) -> list[str]:
    above = [session_of(task_id) for _, task_id in TASKS_ABOVE.sound_lines(view)]
    below = [session_id for _, session_id in SESSIONS_BELOW.sound_lines(view)]
    return sorted({*above, *below})


def lease_holders(view: Snapshot) -> list[str]:
    """Return the agents that held a lease when the node stopped."""
    return [lease.agent_id for lease, _ in LEASES.sound_rows(view)]


def functions_with_leases(view: Snapshot) -> Iterator[str]:
    """Yield the local agents that hold a lease."""
    for agent_id in lease_holders(view):
        agent = AGENTS.read(view, agent_id).row
        if agent is not None and agent.source is AgentSource.LOCAL:
            yield agent_id


def suspicions(view: Snapshot) -> dict[str, float]:
    """Return the end of each agent's suspicion, including suspicions that are over already."""
    return {agent_id: time_at(line) for line, agent_id in AGENTS_BY_SUSPICION.sound_lines(view)}


def due_times(view: Snapshot) -> DueTimes:
    """Read when leases and suspicions end, and when sessions and their tasks have to be checked."""
    sessions = {(session_id, session_id): time_at(line) for line, session_id in SESSIONS_BY_DUE.sound_lines(view)}
    for line, task_id in TASKS_BY_DUE.sound_lines(view):
        sessions[session_of(task_id), task_id] = time_at(line)
    return DueTimes(
        leases={agent_id: time_at(line) for line, agent_id in LEASES_BY_DUE.sound_lines(view)},
        suspicions=suspicions(view),
        sessions=sessions,
        sub_runs=_sub_runs(view),
    )
