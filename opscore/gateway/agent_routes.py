"""Agents on the wire: registration, state, claims, cordon, and AgentKit's webhook."""

import asyncio
import uuid
from typing import Final

from starlette.responses import Response

from opscore.gateway import webhook
from opscore.gateway.config import UnknownAgents
from opscore.gateway.contacts import ContactPolicy
from opscore.gateway.documents import (
    AgentDetails,
    ClaimRequest,
    Notification,
    StateReport,
    agent_document,
    granted_document,
    parse_time,
    state_document,
)
from opscore.gateway.keys import Scope
from opscore.gateway.problems import HttpRefusal
from opscore.gateway.replies import accepted, created, no_content, page, shown
from opscore.gateway.requests import Call
from opscore.runtime.errors import AgentNotFound, Fault, InvalidDocument
from opscore.runtime.models import Agent, AgentSource, Granted
from opscore.runtime.views import PAGE_MAX

CAPABILITIES_MAX: Final = 100
NAME_CHARACTERS_MAX: Final = 256


async def notify(call: Call) -> Response:
    """AgentKit registers or deregisters an agent."""
    signature = await _authenticate_webhook(call)
    if signature is not None and await call.run(call.node.seen_before, signature):
        return shown({"status": "success", "message": "This notification was taken before."})
    notification = await call.document(Notification)
    details = notification.agent_details
    if notification.event_type == "REGISTER":
        await _register(call, details, AgentSource.AGENTKIT, "agent_details.")
        message = f"Agent {details.agent_id} is registered."
    elif notification.event_type == "DEREGISTER":
        message = await _deregister_if_there(call, _given_id(details, "agent_details."))
    else:
        detail = f"The event_type {notification.event_type!r} is not known; expected REGISTER or DEREGISTER."
        raise HttpRefusal(400, "unknown_event", detail)
    if signature is not None:
        await call.run(call.node.remember_signature, signature)
    return shown({"status": "success", "message": message})


async def _authenticate_webhook(call: Call) -> str | None:
    """Check the signature where a secret is set, else the key, unless unsigned webhooks are taken."""
    settings = call.gateway.settings
    if settings.webhook_secret is not None:
        headers = call.request.headers
        timestamp, signature = headers.get("x-agentkit-timestamp"), headers.get("x-agentkit-signature")
        body = await call.request.body()
        return webhook.verify(str(settings.webhook_secret), timestamp, signature, body, call.node.now())
    if not settings.webhook_unsigned:
        call.authenticate()
        call.require(Scope.AGENT)
    return None


async def _deregister_if_there(call: Call, agent_id: str) -> str:
    try:
        await call.run(call.node.deregister_agent, agent_id)
    except AgentNotFound:
        return f"Agent {agent_id} was not registered."
    return f"Agent {agent_id} is deregistered."


async def register(call: Call) -> Response:
    """Register an agent directly; without an id one is drawn."""
    details = await call.document(AgentDetails)
    call.require(Scope.AGENT, details.agent_id)
    agent = await _register(call, details, AgentSource.API, "")
    return created(agent_document(agent))


async def _register(call: Call, details: AgentDetails, source: AgentSource, prefix: str) -> Agent:
    agent_id = _given_id(details, prefix) if source is AgentSource.AGENTKIT else details.agent_id or str(uuid.uuid4())
    _check_details(details, prefix)
    if details.contact_endpoint:
        policy = ContactPolicy(call.gateway.settings.push_allow)
        policy.check(details.contact_endpoint, f"{prefix}contactEndpoint")
    return await call.run(
        call.node.register_agent,
        agent_id,
        name=details.agent_name,
        version=details.version or "",
        capabilities=details.capabilities or (),
        contact_endpoint=details.contact_endpoint or None,
        metadata=details.metadata,
        source=source,
    )


def _given_id(details: AgentDetails, prefix: str) -> str:
    if not details.agent_id:
        raise InvalidDocument("request", (Fault(path=f"{prefix}agentId", message="this field is required"),))
    return details.agent_id


def _check_details(details: AgentDetails, prefix: str) -> None:
    capabilities = details.capabilities or ()
    faults = []
    if len(capabilities) > CAPABILITIES_MAX:
        faults.append(Fault(path=f"{prefix}capabilities", message=f"expected {CAPABILITIES_MAX} at most"))
    for index, capability in enumerate(capabilities):
        if not 0 < len(capability) <= NAME_CHARACTERS_MAX:
            message = f"expected 1 to {NAME_CHARACTERS_MAX} characters"
            faults.append(Fault(path=f"{prefix}capabilities[{index}]", message=message))
    for name, text in (("agentName", details.agent_name), ("version", details.version)):
        if text is not None and len(text) > NAME_CHARACTERS_MAX:
            faults.append(Fault(path=f"{prefix}{name}", message=f"expected {NAME_CHARACTERS_MAX} characters at most"))
    if faults:
        raise InvalidDocument("request", tuple(faults))


async def list_agents(call: Call) -> Response:
    """List agents, by state or capability."""
    query = call.request.query_params
    found = call.node.agents(
        limit=call.count("limit", default=100, most=PAGE_MAX),
        cursor=query.get("cursor"),
        state=query.get("state"),
        capability=query.get("capability"),
    )
    return page(found, agent_document)


async def show(call: Call) -> Response:
    """Show an agent."""
    return shown(agent_document(call.node.agent(call.path("agentId"))))


async def deregister(call: Call) -> Response:
    """Forget an agent."""
    await call.run(call.node.deregister_agent, call.path("agentId"))
    return no_content()


async def show_state(call: Call) -> Response:
    """Show an agent's newest state."""
    return shown(state_document(call.node.agent(call.path("agentId"))))


async def report_state(call: Call) -> Response:
    """Take in a state report."""
    agent_id = call.path("agentId")
    report = await call.document(StateReport)
    if report.agent_id != agent_id:
        detail = f"The path names agent {agent_id!r}, the body {report.agent_id!r}."
        raise HttpRefusal(400, "agent_id_mismatch", detail)
    at = parse_time(report.timestamp, "timestamp")
    try:
        accepted_now = await call.run(
            call.node.report_state, agent_id, report.state, details=report.details, timestamp=at
        )
    except AgentNotFound:
        if call.gateway.settings.agents_unknown is not UnknownAgents.REGISTER:
            raise
        await call.run(call.node.register_agent, agent_id)
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


async def claim(call: Call) -> Response:
    """Hand out one task, waiting for it for as long as the client asks and stays."""
    wait_s = call.seconds("waitSeconds", most=call.node.limits.claim_wait_s_max)
    request = await call.document(ClaimRequest, optional=True)
    claiming = asyncio.create_task(
        call.run(call.node.claim, call.path("agentId"), claim_id=request.claim_id, wait_s=wait_s)
    )
    leaving = asyncio.create_task(_client_left(call))
    try:
        await asyncio.wait({claiming, leaving}, return_when=asyncio.FIRST_COMPLETED)
        if not claiming.done():
            return no_content()
        granted: Granted | None = claiming.result()
    finally:
        for task in (claiming, leaving):
            task.cancel()
        await asyncio.gather(claiming, leaving, return_exceptions=True)
    return no_content() if granted is None else shown(granted_document(granted))


async def _client_left(call: Call) -> None:
    while (await call.request.receive())["type"] != "http.disconnect":
        pass
