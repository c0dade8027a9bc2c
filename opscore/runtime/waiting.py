"""What the dispatcher knows about waiting tasks, their lines, and the slots that agents hold."""

from collections.abc import Iterable
from typing import Final

import attrs

from opscore.runtime.definitions.definition import TaskDefinition
from opscore.runtime.models import Session, Task

AGING_S: Final = 600.0
"""How many seconds of waiting outweigh one level of priority."""
CAPABILITY: Final = "capability"
AGENT: Final = "agent"

Requirement = tuple[str, str]
"""What the tasks of a line need: a capability, or an agent by its id."""
Place = tuple[float, str]
"""A place in a line: the rank of a task, and its id."""


@attrs.frozen(kw_only=True)
class ReadyTask:
    """A task that waits for an agent."""

    task_id: str
    session_id: str
    capability: str | None
    agent_id: str | None
    """The only agent that may run it, if there is no capability."""
    preferred_agent_id: str | None
    priority: int
    ready_at: float
    workflow_id: str
    concurrency_key: str | None = None
    requirement: Requirement = attrs.field(init=False)
    """The line in which it waits."""
    rank: float = attrs.field(init=False)
    """Its place in the line."""

    @requirement.default
    def _requirement(self) -> Requirement:
        return (CAPABILITY, self.capability) if self.capability is not None else (AGENT, str(self.agent_id))

    @rank.default
    def _rank(self) -> float:
        return rank_of(self.priority, self.ready_at)


@attrs.frozen(kw_only=True)
class LinePage:
    """The next tasks of a line, according to the rows."""

    requirement: Requirement
    tasks: tuple[ReadyTask, ...]
    reached: Place | None
    """How far the line was read; None if to its end."""


@attrs.frozen(kw_only=True)
class QueueDepths:
    """How much the dispatcher has in memory, which is only the front of long lines."""

    ready_tasks: int
    idle_agents: int
    offers: int


@attrs.frozen(kw_only=True)
class Held:
    """The slots that come with an agent's lease, as of the commit that granted it."""

    agent_id: str
    slots: tuple[str, ...]
    version: int


def rank_of(priority: int, ready_at: float) -> float:
    """Return a task's place in its line: a level of priority is worth `AGING_S` of waiting, so that none starves."""
    return ready_at - priority * AGING_S


def rank_anew(task: Task, now: float) -> float | None:
    """Return the place of a task that waits again, computed from its row; None if an earlier release wrote that."""
    if task.rank is None or task.ready_at is None:
        return None
    return rank_of(round((task.ready_at - task.rank) / AGING_S), now)


def lines_of(agent_id: str, capabilities: Iterable[str]) -> list[Requirement]:
    """Return the lines from which an agent may take tasks."""
    return [(AGENT, agent_id), *((CAPABILITY, name) for name in capabilities)]


def line_name(requirement: Requirement) -> str:
    """Return the name of a line in rows."""
    return "/".join(requirement)


def line_of(session: Session, definition: TaskDefinition) -> str:
    """Return the name of the line in which a task waits."""
    if definition.capability is not None:
        return line_name((CAPABILITY, definition.capability))
    return line_name((AGENT, str(definition.agent_id or session.agent_id)))


def ready_task(session: Session, definition: TaskDefinition, task: Task) -> ReadyTask:
    """Describe a waiting task to the dispatcher."""
    named = definition.agent_id or (None if definition.capability else session.agent_id)
    return ReadyTask(
        task_id=task.task_id,
        session_id=session.session_id,
        capability=definition.capability,
        agent_id=named,
        preferred_agent_id=session.agent_id if definition.capability else None,
        priority=definition.priority,
        ready_at=task.ready_at or 0.0,
        workflow_id=session.workflow_id,
        concurrency_key=task.concurrency_key,
    )
