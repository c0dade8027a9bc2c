"""The promise about a run's preference for its agent."""

from collections.abc import Iterator
from typing import Final

from opscore.runtime.simulation.promises.dispatch import CALM_S, granted, is_free, may_run
from opscore.runtime.simulation.rows import Commit, Rows

WINDOW_MIN: Final = 100
"""With a smaller window, a free agent may have to wait until more of its line is read, and others go first."""

CONTENDED_S: Final = 1.0
"""How long an agent that was offered in vain may still be held back."""


def the_sessions_agent_goes_first(commit: Commit, rows: Rows) -> Iterator[str]:
    """In calm times a task that asks for a capability goes to its session's agent, if that has it and is free.

    Limited tasks are exempt: a gate may open with another agent, which takes the task that waits there. So are moments
    at which several clients ask for a run under one key: only one of them gets it, and an agent is offered to each.
    """
    yield from _still_free(rows)
    if rows.ledger.contended:
        rows.contended_at = rows.now()
    if rows.now() < rows.contended_at + CONTENDED_S:
        return
    for lease in granted(commit):
        task = rows.tasks[lease.task_id]
        preferred = rows.agents.get(rows.sessions[lease.session_id].agent_id or "")
        named = rows.task_definition(task).capability is None or rows.bounds_of(task)
        if named or preferred is None or preferred.agent_id == lease.agent_id or rows.limits.line_window < WINDOW_MIN:
            continue
        if not rows.calm_for(CALM_S) or not may_run(preferred, task, rows) or not is_free(preferred, rows, rows.now()):
            continue
        told = f"{lease.task_id} is given to {lease.agent_id}, and {preferred.agent_id} is free, which its run prefers"
        rows.not_preferred.append((rows.now(), preferred.agent_id, told))


def _still_free(rows: Rows) -> Iterator[str]:
    """Yield the agents that were passed over, and did not get other work at the same moment."""
    while rows.not_preferred and rows.not_preferred[0][0] < rows.now():
        at, agent_id, told = rows.not_preferred.pop(0)
        if rows.touched.get(agent_id, 0.0) < at and agent_id in rows.agents:
            yield told
