"""The routes of dead letters, which are tasks that failed for good: list, replay, discard."""

from starlette.responses import Response

from opscore.gateway.wire.documents import (
    DiscardRequest,
    ReplayRequest,
    dead_letter_document,
    replayed_document,
    session_document,
    task_document,
)
from opscore.gateway.wire.replies import page, shown
from opscore.gateway.wire.requests import Call, QueryFaults
from opscore.runtime.views import PAGE_MAX


async def list_dead_letters(call: Call) -> Response:
    """List the dead letters, the newest first."""
    query, faults = call.request.query_params, QueryFaults()
    limit = faults.or_else(1, lambda: call.count("limit", default=100, most=PAGE_MAX))
    found = faults.last(
        lambda: call.node.dead_letters(
            limit=limit, cursor=query.get("cursor"), workflow_id=query.get("workflowId"), code=query.get("code")
        )
    )
    return page(found, dead_letter_document)


async def show(call: Call) -> Response:
    """Show one dead letter."""
    return shown(dead_letter_document(call.node.dead_letter(call.path("taskId"))))


async def replay(call: Call) -> Response:
    """Retry the run of a dead letter."""
    return shown(session_document(await call.run(call.node.replay, call.path("taskId"))))


async def replay_all(call: Call) -> Response:
    """Retry the runs of the next dead letters: all, or those that match a filter."""
    request = await call.document(ReplayRequest, optional=True)
    replayed = await call.run(
        call.node.replay_all, workflow_id=request.workflow_id, code=request.code, cursor=request.cursor
    )
    return shown(replayed_document(replayed))


async def discard(call: Call) -> Response:
    """Discard a dead letter."""
    task_id = call.path("taskId")
    request = await call.document(DiscardRequest)
    return shown(task_document(await call.run(call.node.discard, task_id, request.reason)))
