"""Attempts on the wire: what the agent that holds one says of it."""

from starlette.responses import Response

from opscore.gateway.documents import CompleteRequest, FailRequest, HeartbeatRequest, lease_document, task_document
from opscore.gateway.keys import Scope
from opscore.gateway.problems import HttpRefusal
from opscore.gateway.replies import shown
from opscore.gateway.requests import Call
from opscore.runtime.errors import StaleAttempt
from opscore.runtime.history import attempts_of
from opscore.runtime.models import Task
from opscore.runtime.views import PAGE_MAX


async def show(call: Call) -> Response:
    """Show one task of a run."""
    found = call.node.task_view(call.path("taskId"))
    call.require(Scope.VIEWER, found.task.agent_id)
    return shown(task_document(found.task, found.progress))


async def heartbeat(call: Call) -> Response:
    """Renew the lease of an attempt, and take in how far it is."""
    task_id = _own_task(call)
    request = await call.document(HeartbeatRequest)
    lease = await call.run(call.node.heartbeat, task_id, request.attempt, progress=request.progress)
    return shown(lease_document(lease))


async def complete(call: Call) -> Response:
    """End an attempt with its result."""
    task_id = _own_task(call)
    request = await call.document(CompleteRequest)
    await call.run(call.node.complete, task_id, request.attempt, request.result)
    return shown({"status": "success", "message": "The task is completed."})


async def fail(call: Call) -> Response:
    """End an attempt as failed."""
    task_id = _own_task(call)
    request = await call.document(FailRequest)
    await call.run(
        call.node.fail, task_id, request.attempt, request.error, code=request.code, retryable=request.retryable
    )
    return shown({"status": "success", "message": "The failure is recorded."})


def _own_task(call: Call) -> str:
    """The task's id, once it is clear that this key may speak for the agent that has or had it.

    Raises:
        HttpRefusal: 403.
        StaleAttempt: the key's agent had it, and another has it now.
    """
    call.require_agent()
    task_id = call.path("taskId")
    task = call.node.task(task_id)
    try:
        call.require(Scope.AGENT, task.agent_id)
    except HttpRefusal:
        # Whatever it says is refused; as forbidden, an agent that was silent for long would blame its key.
        number = _had_before(call, task)
        if number is None:
            raise
        raise StaleAttempt(task_id, number, "another agent has the task since") from None
    return task_id


def _had_before(call: Call, task: Task) -> int | None:
    """The newest attempt of a task that the key's agent had, as far as the newest records of its run tell."""
    agent_id = None if call.principal is None else call.principal.agent_id
    records = call.node.history(task.session_id, limit=PAGE_MAX).items
    had = [
        each.number
        for each in attempts_of(records)
        if each.task_id == task.task_id and each.agent_id is not None and each.agent_id == agent_id
    ]
    return max(had, default=None)
