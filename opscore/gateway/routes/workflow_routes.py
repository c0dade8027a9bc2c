"""The routes of workflows and their runs."""

from typing import Any, Final

from starlette.responses import Response

from opscore.gateway.wire.documents import (
    Json,
    PayloadRequest,
    TriggerRequest,
    definition_document,
    saved_definition_document,
    session_document,
    session_view_document,
)
from opscore.gateway.wire.history_documents import history_document
from opscore.gateway.wire.replies import accepted, created, page, shown
from opscore.gateway.wire.requests import Call, QueryFaults, within
from opscore.runtime.definitions.input_schemas import INPUT
from opscore.runtime.errors import Fault, InvalidDocument
from opscore.runtime.models import Session
from opscore.runtime.runs.triggering import IdempotencyKey
from opscore.runtime.views import PAGE_MAX

SESSION_WAIT_S_MAX: Final = 60.0


async def trigger_for_agent(call: Call) -> Response:
    """Start a run for an agent, as Ops-Core did."""
    document = await call.json(names_once=True)
    try:
        request = call.structured(document, TriggerRequest)
    except InvalidDocument as error:
        raise InvalidDocument(error.what, (*error.faults, *_inline_faults(call, document))) from error
    return await _trigger(call, document, request, request.definition(), agent_id=call.path("agentId"))


async def trigger(call: Call) -> Response:
    """Start a run that is routed by capability alone."""
    document = await call.json(optional=True)
    return await _trigger(call, document, call.structured(document, PayloadRequest), call.path("workflowId"))


async def _trigger(
    call: Call, document: Any, request: PayloadRequest, definition: str | Json, *, agent_id: str | None = None
) -> Response:
    try:
        session = await call.run(
            call.node.trigger,
            definition,
            payload=request.initial_payload,
            agent_id=agent_id,
            idempotency=_idempotency(call, document),
            labels=request.labels,
            business_key=request.business_key,
        )
    except InvalidDocument as error:
        if error.what == INPUT:
            raise within("initialPayload", error) from error
        if isinstance(definition, str):
            raise
        raise within("workflowDefinition", error) from error
    return accepted(_triggered(session))


def _triggered(session: Session) -> dict[str, str]:
    # A repetition with the same idempotency key gets the same answer, however far the run has come.
    return {"sessionId": session.session_id, "workflowId": session.workflow_id, "message": "Workflow triggered"}


def _idempotency(call: Call, body: Any) -> IdempotencyKey | None:
    key = call.idempotency_key()
    return None if key is None else IdempotencyKey(path=call.request.scope["path"], key=key, body=body)


def _inline_faults(call: Call, document: Any) -> tuple[Fault, ...]:
    """The faults of the workflow in a trigger whose other fields are refused already."""
    inline = document.get("workflowDefinition") if isinstance(document, dict) else None
    if not isinstance(inline, dict):
        return ()
    try:
        call.node.validate(inline)
    except InvalidDocument as error:
        return within("workflowDefinition", error).faults
    return ()


async def save(call: Call) -> Response:
    """Save a workflow under its id."""
    document = await call.json_or_yaml()
    return created(saved_definition_document(await call.run(call.node.save_definition, document)))


async def validate(call: Call) -> Response:
    """Check a workflow without saving it."""
    definition = call.node.validate(await call.json_or_yaml())
    return shown({"valid": True, "id": definition.workflow_id, "tasks": len(definition.tasks)})


async def list_definitions(call: Call) -> Response:
    """List the saved workflows."""
    limit = call.count("limit", default=100, most=PAGE_MAX)
    found = call.node.definitions(limit=limit, cursor=call.request.query_params.get("cursor"))
    return page(found, saved_definition_document)


async def show_definition(call: Call) -> Response:
    """Show a saved workflow."""
    return shown(definition_document(*call.node.definition(call.path("workflowId"))))


async def list_sessions(call: Call) -> Response:
    """List sessions, newest first."""
    query, faults = call.request.query_params, QueryFaults()
    limit = faults.or_else(1, lambda: call.count("limit", default=100, most=PAGE_MAX))
    nothing: dict[str, str] = {}
    labels = faults.or_else(nothing, lambda: _labels(query.getlist("label")))
    found = faults.last(
        lambda: call.node.sessions(
            limit=limit,
            cursor=query.get("cursor"),
            status=query.get("status"),
            workflow_id=query.get("workflowId"),
            agent_id=query.get("agentId"),
            labels=labels,
            business_key=query.get("businessKey"),
        )
    )
    return page(found, session_document)


def _labels(given: list[str]) -> dict[str, str]:
    """Read labels from a query, `label=key:value`; a value may contain colons."""
    pairs = [(name, value) for name, colon, value in (each.partition(":") for each in given) if colon]
    labels = dict(pairs)
    if len(pairs) < len(given) or any(labels[name] != value for name, value in pairs):
        message = "expected key:value, and one value for a key"
        raise InvalidDocument("query", (Fault(path="label", message=message),))
    return labels


async def show_history(call: Call) -> Response:
    """Show a page of a session's records, and each attempt as these show it."""
    session_id, cursor, faults = call.path("sessionId"), call.request.query_params.get("cursor"), QueryFaults()
    limit = faults.or_else(1, lambda: call.count("limit", default=100, most=PAGE_MAX))
    found = faults.last(lambda: call.node.history(session_id, limit=limit, cursor=cursor))
    return shown(history_document(found))


async def show_session(call: Call) -> Response:
    """Show a session with its tasks; if asked to, wait for its end first."""
    session_id = call.path("sessionId")
    wait_s = call.seconds("waitSeconds", most=SESSION_WAIT_S_MAX)
    if wait_s:
        ended = await call.run_while_client_stays(call.node.wait_briefly, session_id, wait_s)
        return shown(session_view_document(ended))
    return shown(session_view_document(call.node.session(session_id)))
