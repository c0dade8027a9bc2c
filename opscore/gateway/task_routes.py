"""Attempts on the wire: what the agent that holds one says of it."""

from starlette.responses import Response

from opscore.gateway.documents import CompleteRequest, FailRequest, HeartbeatRequest, lease_document, task_document
from opscore.gateway.keys import Scope
from opscore.gateway.replies import shown
from opscore.gateway.requests import Call


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
    """The task's id, once it is clear that this key may speak for the agent that has or had it."""
    call.require_agent()
    task_id = call.path("taskId")
    call.require(Scope.AGENT, call.node.task(task_id).agent_id)
    return task_id
