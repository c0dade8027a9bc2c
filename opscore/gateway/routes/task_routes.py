"""The routes of attempts: heartbeats and outcomes, which the agents that hold them report."""

from typing import TypeVar

from starlette.responses import Response

from opscore.gateway.keys.keys import Scope
from opscore.gateway.wire.documents import CompleteRequest, FailRequest, HeartbeatRequest, lease_document, task_document
from opscore.gateway.wire.problems import HttpRefusal
from opscore.gateway.wire.replies import shown
from opscore.gateway.wire.requests import Call
from opscore.runtime.errors import InvalidDocument

SaidT = TypeVar("SaidT", HeartbeatRequest, CompleteRequest, FailRequest)


async def show(call: Call) -> Response:
    """Show one task of a run."""
    found = call.node.task_view(call.path("taskId"))
    call.require(Scope.VIEWER, found.task.agent_id)
    return shown(task_document(found.task, found.progress))


async def heartbeat(call: Call) -> Response:
    """Renew the lease of an attempt, and store its progress."""
    task_id, request = await _said(call, HeartbeatRequest)
    lease = await call.run(call.node.heartbeat, task_id, request.attempt, progress=request.progress)
    return shown({**lease_document(lease), "heartbeatSeconds": lease.heartbeat_s})


async def complete(call: Call) -> Response:
    """End an attempt with its result."""
    task_id, request = await _said(call, CompleteRequest)
    await call.run(call.node.complete, task_id, request.attempt, request.result)
    return shown({"status": "success", "message": "The task is completed."})


async def fail(call: Call) -> Response:
    """End an attempt as failed."""
    task_id, request = await _said(call, FailRequest)
    given = {} if request.code is None else {"code": request.code}
    retryable = request.retryable is not False
    await call.run(call.node.fail, task_id, request.attempt, request.error, retryable=retryable, **given)
    return shown({"status": "success", "message": "The failure is recorded."})


async def _said(call: Call, kind: type[SaidT]) -> tuple[str, SaidT]:
    """Read a report on an attempt, once the key is known to be allowed to act for the agent that has or had it.

    The agent of the attempt counts, not the one that has the task by now. So a late report under the agent's own key is
    refused as stale, as under any other key, and not as forbidden.
    """
    call.require_agent()
    task_id = call.path("taskId")
    task = call.node.task(task_id)
    try:
        request = await call.document(kind)
    except (HttpRefusal, InvalidDocument):
        call.require(Scope.AGENT, task.agent_id)
        raise
    call.require(Scope.AGENT, call.node.holder(task_id, request.attempt))
    return task_id, request
