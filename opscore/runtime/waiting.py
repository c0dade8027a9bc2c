"""What the dispatcher knows of what waits: tasks for agents, in lines, and who has what is limited."""

from collections.abc import Iterable
from typing import Final

import attrs

from opscore.runtime.definitions.definition import TaskDefinition
from opscore.runtime.models import Session, Task

AGING_S: Final = 600.0
"""How much waiting outweighs one level of priority."""
CAPABILITY: Final = "capability"
AGENT: Final = "agent"

Requirement = tuple[str, str]
"""What a line waits for: a capability, or an agent by its id."""
Place = tuple[float, str]
"""A place in a line: the rank of a task, and its id."""


@attrs.frozen(kw_only=True)
class ReadyTask:
    """A task that waits for an agent."""

    task_id: str
    session_id: str
    capability: str | None
    agent_id: str | None
    """The only agent that may run it, when there is no capability."""
    preferred_agent_id: str | None
    priority: int
    ready_at: float
    workflow_id: str
    concurrency_key: str | None = None
    requirement: Requirement = attrs.field(init=False)
    """The line that it stands in."""
    rank: float = attrs.field(init=False)
    """Its place there."""

    @requirement.default
    def _requirement(self) -> Requirement:
        return (CAPABILITY, self.capability) if self.capability is not None else (AGENT, str(self.agent_id))

    @rank.default
    def _rank(self) -> float:
        return rank_of(self.priority, self.ready_at)


@attrs.frozen(kw_only=True)
class LinePage:
    """The next of those that wait in a line, as the rows say."""

    requirement: Requirement
    tasks: tuple[ReadyTask, ...]
    reached: Place | None
    """How far the line was read; nothing where that is to its end."""


@attrs.frozen(kw_only=True)
class QueueDepths:
    """How much the dispatcher has in mind on each side; of long lines it has the first alone."""

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
    """The place of a task in its line: each level of priority is worth so much waiting, so that none starves."""
    return ready_at - priority * AGING_S


def rank_anew(task: Task, now: float) -> float | None:
    """The place of a task that waits again, as far as its row tells; nothing where an earlier release had it wait."""
    if task.rank is None or task.ready_at is None:
        return None
    return rank_of(round((task.ready_at - task.rank) / AGING_S), now)


def lines_of(agent_id: str, capabilities: Iterable[str]) -> list[Requirement]:
    """The lines that an agent may take from."""
    return [(AGENT, agent_id), *((CAPABILITY, name) for name in capabilities)]


def line_name(requirement: Requirement) -> str:
    """A line as rows name it."""
    return "/".join(requirement)


def line_of(session: Session, definition: TaskDefinition) -> str:
    """The line in which a task waits, as its row names it."""
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
