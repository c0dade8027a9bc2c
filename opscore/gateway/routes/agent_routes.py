"""The routes of agents: registration, state, claims, cordon and drain, and AgentKit's webhook."""

import contextlib
import uuid
from typing import Any, Final

from starlette.requests import ClientDisconnect
from starlette.responses import Response

from opscore.gateway.agentkit import webhook
from opscore.gateway.keys.keys import Scope
from opscore.gateway.settings.config import UnknownAgents
from opscore.gateway.wire.checks import read_time
from opscore.gateway.wire.documents import (
    AgentDetails,
    ClaimRequest,
    Notification,
    StateReport,
    agent_document,
    granted_document,
    held_document,
    state_document,
)
from opscore.gateway.wire.problems import HttpRefusal
from opscore.gateway.wire.replies import accepted, created, no_content, page, shown
from opscore.gateway.wire.requests import Call
from opscore.runtime.agents import reports
from opscore.runtime.errors import AgentNotFound, Fault, InvalidDocument
from opscore.runtime.models import Agent, AgentSource, Granted
from opscore.runtime.views import PAGE_MAX

DRAIN_WAIT_S_MAX: Final = 60.0
REGISTER: Final = "REGISTER"
_EVENTS: Final = {REGISTER: "registered", "DEREGISTER": "deregistered"}


async def notify(call: Call) -> Response:
    """Register or deregister an agent, as AgentKit's webhook says."""
    signature = await _authenticate_webhook(call)
    notification = call.structured(_what_counts(await call.json()), Notification)
    agent_id = notification.agent_details.agent_id
    call.require(Scope.AGENT, agent_id)
    # The answer depends on the body alone, so that a replay gets the first answer again and has no effect.
    if signature is None or not await call.run(call.node.seen_before, signature):
        if notification.event_type == REGISTER:
            await _register(call, agent_id, notification.agent_details, AgentSource.AGENTKIT)
        else:
            await _deregister_if_there(call, agent_id)
        if signature is not None:
            await call.run(call.node.remember_signature, signature)
    return shown({"status": "success", "message": f"Agent {agent_id} is {_EVENTS[notification.event_type]}."})


def _what_counts(document: Any) -> Any:
    """The part of a notification that is checked: of an agent that leaves, nothing but its id.

    Raises:
        HttpRefusal: 400 for an unknown event, whatever it says about the agent.
    """
    match document:
        case {"event_type": str(event)} if event not in _EVENTS:
            detail = f"The event_type {event[:64]!r} is not known; expected REGISTER or DEREGISTER."
            raise HttpRefusal(400, "unknown_event", detail)
        case {"event_type": "DEREGISTER", "agent_details": {"agentId": agent_id}}:
            return {**document, "agent_details": {"agentId": agent_id}}
        case _:
            return document


async def _authenticate_webhook(call: Call) -> str | None:
    """Check the signature if a secret is set, else the key, unless unsigned webhooks are accepted."""
    settings = call.gateway.settings
    if settings.webhook_secret is not None:
        headers = call.request.headers
        timestamp, signature = headers.get("x-agentkit-timestamp"), headers.get("x-agentkit-signature")
        body = await call.request.body()
        return webhook.verify(str(settings.webhook_secret), timestamp, signature, body, call.node.now())
    if not settings.webhook_unsigned:
        call.authenticate()
        call.require_agent()
    return None


async def _deregister_if_there(call: Call, agent_id: str) -> None:
    with contextlib.suppress(AgentNotFound):
        await call.run(call.node.deregister_agent, agent_id)


async def register(call: Call) -> Response:
    """Register an agent directly; without an id one is drawn."""
    call.require_agent()
    details = await call.document(AgentDetails)
    call.require(Scope.AGENT, details.agent_id)
    agent_id = details.agent_id or str(uuid.uuid4())
    return created(agent_document(await _register(call, agent_id, details, AgentSource.API)))


async def _register(call: Call, agent_id: str, details: AgentDetails, source: AgentSource) -> Agent:
    return await call.run(call.node.register_agent, agent_id, source=source, **details.described())


async def list_agents(call: Call) -> Response:
    """List agents, optionally only those with one state or capability."""
    query = call.request.query_params
    found = call.node.agents(
        limit=call.count("limit", default=100, most=PAGE_MAX),
        cursor=query.get("cursor"),
        state=_state_name(query.get("state")),
        capability=query.get("capability"),
    )
    return page(found, agent_document)


def _state_name(text: str | None) -> str | None:
    """A state's name as it is stored, because the filter accepts every name that a report may use."""
    if text is None:
        return None
    try:
        return reports.normalise(text)
    except ValueError as error:
        raise InvalidDocument("query", (Fault(path="state", message=str(error)),)) from error


async def show(call: Call) -> Response:
    """Show an agent."""
    agent = call.node.agent(call.path("agentId"))
    return shown({**agent_document(agent), "lease": held_document(call.node.lease(agent.agent_id))})


async def deregister(call: Call) -> Response:
    """Deregister an agent."""
    await call.run(call.node.deregister_agent, call.path("agentId"))
    return no_content()


async def show_state(call: Call) -> Response:
    """Show an agent's newest state."""
    return shown(state_document(call.node.agent(call.path("agentId"))))


async def report_state(call: Call) -> Response:
    """Accept a state report."""
    agent_id = call.path("agentId")
    report = await call.document(StateReport)
    if report.agent_id != agent_id:
        detail = f"The path names agent {agent_id!r}, the body {report.agent_id!r}."
        raise HttpRefusal(400, "agent_id_mismatch", detail)
    at = read_time(report.timestamp)
    try:
        accepted_now = await call.run(
            call.node.report_state, agent_id, report.state, details=report.details, timestamp=at
        )
    except AgentNotFound:
        if call.gateway.settings.agents_unknown is not UnknownAgents.REGISTER:
            raise
        await call.run(call.node.register_if_unknown, agent_id)
        accepted_now = await call.run(
            call.node.report_state, agent_id, report.state, details=report.details, timestamp=at
        )
    message = (
        "State update accepted" if accepted_now else "State update is older than the newest one; recorded as stale"
    )
    return accepted({"status": "success", "message": message})


async def cordon(call: Call) -> Response:
    """Take an agent out of dispatch."""
    return shown(agent_document(await call.run(call.node.set_cordon, call.path("agentId"), cordoned=True)))


async def uncordon(call: Call) -> Response:
    """Put an agent back."""
    return shown(agent_document(await call.run(call.node.set_cordon, call.path("agentId"), cordoned=False)))


async def drain(call: Call) -> Response:
    """Take an agent out of dispatch, and if asked to, wait until it holds no attempt."""
    wait_s = call.seconds("waitSeconds", most=DRAIN_WAIT_S_MAX)
    # The cordon is submitted at once, so it holds whether the client stays or not.
    found = await call.run_while_client_stays(call.node.drain_agent, call.path("agentId"), wait_s=wait_s)
    shows = {"lease": held_document(found.lease), "drained": found.drained}
    return shown({**agent_document(found.agent), **shows})


async def claim(call: Call) -> Response:
    """Hand out one task, waiting for it for as long as the client asks and stays."""
    agent_id = call.path("agentId")
    wait_s = call.seconds("waitSeconds", most=call.node.limits.claim_wait_s_max)
    request = await call.document(ClaimRequest, optional=True)
    ticket = uuid.uuid4().hex
    try:
        granted: Granted | None = await call.run_while_client_stays(
            call.node.claim, agent_id, claim_id=request.claim_id, wait_s=wait_s, ticket=ticket
        )
    except (ClientDisconnect, HttpRefusal):
        # It may have been handed a task at the moment in which it left, or under a key that is revoked.
        call.node.abandon_claim(agent_id, ticket)
        raise
    return no_content() if granted is None else shown(granted_document(granted))
