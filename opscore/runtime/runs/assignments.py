"""Building the assignment that an agent is handed from a run and its definition."""

from opscore.runtime.definitions.definition import TaskKind
from opscore.runtime.models import Assignment, Task
from opscore.runtime.runs.releasing import filled
from opscore.runtime.runs.run import Run


def assignment(run: Run, task: Task) -> Assignment:
    """Return the assignment of a task's newest attempt."""
    definition = run.task_definition(task)
    timeout_s = definition.timeout_s or 0.0
    if task.closes_at is not None and task.dispatched_at is not None:
        timeout_s = min(timeout_s, max(0.0, task.closes_at - task.dispatched_at))
    return Assignment(
        task_id=task.task_id,
        task_key=task.key,
        name=definition.name,
        session_id=task.session_id,
        workflow_id=run.session.workflow_id,
        agent_id=task.agent_id or "",
        attempt=task.attempt,
        parameters=filled(run.standing(), task),
        input=run.session.payload,
        tool=definition.kind is TaskKind.TOOL,
        lease_s=definition.lease_s,
        timeout_s=timeout_s,
    )
