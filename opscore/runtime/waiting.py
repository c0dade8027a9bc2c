"""What the dispatcher knows of what waits: tasks for agents, and who has what is limited."""

import attrs

from opscore.runtime.definitions import TaskDefinition
from opscore.runtime.models import Session, Task


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


@attrs.frozen(kw_only=True)
class QueueDepths:
    """How much waits on each side."""

    ready_tasks: int
    idle_agents: int
    offers: int


@attrs.frozen(kw_only=True)
class Held:
    """The slots that come with an agent's lease, as of the commit that granted it."""

    agent_id: str
    slots: tuple[str, ...]
    version: int


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
