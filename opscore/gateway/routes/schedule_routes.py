"""The routes of schedules."""

from typing import Final

from starlette.responses import Response

from opscore.gateway.wire.documents import ScheduleRequest, schedule_document, schedule_view_document
from opscore.gateway.wire.replies import created, no_content, page, shown
from opscore.gateway.wire.requests import Call, within
from opscore.runtime.definitions.input_schemas import INPUT
from opscore.runtime.errors import InvalidDocument
from opscore.runtime.models import Missed, Schedule
from opscore.runtime.views import PAGE_MAX

DUE_TIMES_SHOWN: Final = 5


async def create(call: Call) -> Response:
    """Create a schedule; the same content again under one id is answered with the schedule that exists."""
    request = await call.document(ScheduleRequest)
    try:
        schedule = await call.run(
            call.node.create_schedule,
            request.workflow_definition_id,
            cron=request.cron,
            at=request.at_s(),
            time_zone=request.time_zone or "UTC",
            missed=Missed(request.missed or Missed.ONCE),
            payload=request.payload,
            agent_id=request.agent_id,
            schedule_id=request.schedule_id,
        )
    except InvalidDocument as error:
        if error.what != INPUT:
            raise
        raise within("payload", error) from error
    return created(_document(call, schedule))


async def list_schedules(call: Call) -> Response:
    """List schedules, optionally only those of one workflow."""
    query = call.request.query_params
    found = call.node.schedules(
        limit=call.count("limit", default=100, most=PAGE_MAX),
        cursor=query.get("cursor"),
        workflow_id=query.get("workflowId"),
    )
    return page(found, schedule_document)


async def show(call: Call) -> Response:
    """Show a schedule with its next due times."""
    return shown(_document(call, call.node.schedule(call.path("scheduleId"))))


async def delete(call: Call) -> Response:
    """Delete a schedule."""
    await call.run(call.node.delete_schedule, call.path("scheduleId"))
    return no_content()


async def pause(call: Call) -> Response:
    """Pause a schedule, so that it starts no runs."""
    return shown(_document(call, await call.run(call.node.pause_schedule, call.path("scheduleId"))))


async def resume(call: Call) -> Response:
    """Resume a schedule."""
    return shown(_document(call, await call.run(call.node.pause_schedule, call.path("scheduleId"), paused=False)))


def _document(call: Call, schedule: Schedule) -> dict[str, object]:
    return schedule_view_document(schedule, call.node.coming(schedule, DUE_TIMES_SHOWN))
