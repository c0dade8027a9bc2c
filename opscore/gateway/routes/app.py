"""The ASGI application: the table of routes, and what every request has in common."""

import logging
import uuid
from collections.abc import Awaitable, Callable
from typing import Final

import attrs
from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Match, Route
from starlette.types import ASGIApp

from opscore.gateway.keys.keys import Scope
from opscore.gateway.process import telemetry
from opscore.gateway.routes import (
    agent_routes,
    dead_letter_routes,
    schedule_routes,
    steering_routes,
    task_routes,
    workflow_routes,
)
from opscore.gateway.server.body_limit import BodyLimit
from opscore.gateway.wire import problems
from opscore.gateway.wire.problems import HttpRefusal, problem
from opscore.gateway.wire.replies import shown
from opscore.gateway.wire.requests import Call, Gateway
from opscore.runtime.models import Move

PREFIX: Final = "/v1/opscore"

_log = logging.getLogger("opscore.gateway")


@attrs.frozen
class Endpoint:
    """A row of the route table."""

    method: str
    path: str
    handle: Callable[[Call], Awaitable[Response]]
    scope: Scope | None = None
    """The scope that a key needs; `None` if the handler decides, or no scope is needed."""
    open: bool = False
    """Whether it is answered without a key."""


async def health(_: Call) -> Response:
    """Say that the process is alive."""
    return shown({"status": "ok"})


async def ready(call: Call) -> Response:
    """Say that the node takes work; 503 if it does not."""
    reason = "it is shutting down" if call.gateway.drain.begun else call.node.ready()
    if reason is not None:
        raise HttpRefusal(503, "not_ready", f"The node takes no work: {reason}.", headers={"Retry-After": "5"})
    return shown({"status": "ready"})


ENDPOINTS: Final = (
    Endpoint("GET", "/health", health, open=True),
    Endpoint("GET", "/ready", ready, open=True),
    Endpoint("POST", f"{PREFIX}/internal/agent/notify", agent_routes.notify, open=True),
    Endpoint("POST", f"{PREFIX}/agent", agent_routes.register),
    Endpoint("GET", f"{PREFIX}/agent", agent_routes.list_agents, Scope.VIEWER),
    Endpoint("GET", f"{PREFIX}/agent/{{agentId}}", agent_routes.show, Scope.VIEWER),
    Endpoint("DELETE", f"{PREFIX}/agent/{{agentId}}", agent_routes.deregister, Scope.AGENT),
    Endpoint("GET", f"{PREFIX}/agent/{{agentId}}/state", agent_routes.show_state, Scope.VIEWER),
    Endpoint("POST", f"{PREFIX}/agent/{{agentId}}/state", agent_routes.report_state, Scope.AGENT),
    Endpoint("POST", f"{PREFIX}/agent/{{agentId}}/cordon", agent_routes.cordon, Scope.OPERATOR),
    Endpoint("POST", f"{PREFIX}/agent/{{agentId}}/uncordon", agent_routes.uncordon, Scope.OPERATOR),
    Endpoint("POST", f"{PREFIX}/agent/{{agentId}}/drain", agent_routes.drain, Scope.OPERATOR),
    Endpoint("POST", f"{PREFIX}/agent/{{agentId}}/claim", agent_routes.claim, Scope.AGENT),
    Endpoint("POST", f"{PREFIX}/agent/{{agentId}}/workflow", workflow_routes.trigger_for_agent, Scope.OPERATOR),
    Endpoint("GET", f"{PREFIX}/task/{{taskId}}", task_routes.show),
    Endpoint("POST", f"{PREFIX}/task/{{taskId}}/heartbeat", task_routes.heartbeat),
    Endpoint("POST", f"{PREFIX}/task/{{taskId}}/complete", task_routes.complete),
    Endpoint("POST", f"{PREFIX}/task/{{taskId}}/fail", task_routes.fail),
    Endpoint("POST", f"{PREFIX}/workflow", workflow_routes.save, Scope.OPERATOR),
    Endpoint("GET", f"{PREFIX}/workflow", workflow_routes.list_definitions, Scope.VIEWER),
    Endpoint("POST", f"{PREFIX}/workflow/validate", workflow_routes.validate, Scope.VIEWER),
    Endpoint("GET", f"{PREFIX}/workflow/{{workflowId}}", workflow_routes.show_definition, Scope.VIEWER),
    Endpoint("POST", f"{PREFIX}/workflow/{{workflowId}}/trigger", workflow_routes.trigger, Scope.OPERATOR),
    Endpoint("POST", f"{PREFIX}/schedule", schedule_routes.create, Scope.OPERATOR),
    Endpoint("GET", f"{PREFIX}/schedule", schedule_routes.list_schedules, Scope.VIEWER),
    Endpoint("GET", f"{PREFIX}/schedule/{{scheduleId}}", schedule_routes.show, Scope.VIEWER),
    Endpoint("DELETE", f"{PREFIX}/schedule/{{scheduleId}}", schedule_routes.delete, Scope.OPERATOR),
    Endpoint("POST", f"{PREFIX}/schedule/{{scheduleId}}/pause", schedule_routes.pause, Scope.OPERATOR),
    Endpoint("POST", f"{PREFIX}/schedule/{{scheduleId}}/resume", schedule_routes.resume, Scope.OPERATOR),
    Endpoint("GET", f"{PREFIX}/session", workflow_routes.list_sessions, Scope.VIEWER),
    Endpoint("GET", f"{PREFIX}/session/{{sessionId}}", workflow_routes.show_session, Scope.VIEWER),
    Endpoint("GET", f"{PREFIX}/session/{{sessionId}}/history", workflow_routes.show_history, Scope.VIEWER),
    *(
        Endpoint("POST", f"{PREFIX}/session/{{sessionId}}/{move}", steering_routes.steering(move), Scope.OPERATOR)
        for move in Move
    ),
    Endpoint("POST", f"{PREFIX}/session/{{sessionId}}/signal", steering_routes.signal, Scope.OPERATOR),
    Endpoint("GET", f"{PREFIX}/deadletter", dead_letter_routes.list_dead_letters, Scope.VIEWER),
    Endpoint("POST", f"{PREFIX}/deadletter/replay", dead_letter_routes.replay_all, Scope.OPERATOR),
    Endpoint("GET", f"{PREFIX}/deadletter/{{taskId}}", dead_letter_routes.show, Scope.VIEWER),
    Endpoint("POST", f"{PREFIX}/deadletter/{{taskId}}/replay", dead_letter_routes.replay, Scope.OPERATOR),
    Endpoint("POST", f"{PREFIX}/deadletter/{{taskId}}/discard", dead_letter_routes.discard, Scope.OPERATOR),
)


def build_app(gateway: Gateway) -> ASGIApp:
    """Build the application of a gateway; it runs on any ASGI server in the event loop of the gateway's guest."""
    app = Starlette(
        routes=[Route(each.path, _answering(each, gateway), methods=[each.method]) for each in ENDPOINTS],
        exception_handlers={HTTPException: _no_route},
    )
    app.router.redirect_slashes = False
    return BodyLimit(app, bytes_max=gateway.settings.body_bytes_max)


def _answering(endpoint: Endpoint, gateway: Gateway) -> Callable[[Request], Awaitable[Response]]:
    """Wrap a handler: give the request an id for the log, check the key, and turn errors into problems."""

    async def answer(request: Request) -> Response:
        request_id = uuid.uuid4().hex
        with telemetry.fields(request_id=request_id):
            call = Call(request=request, gateway=gateway)
            try:
                if not endpoint.open:
                    call.authenticate()
                if endpoint.scope is not None:
                    call.require(endpoint.scope, request.path_params.get("agentId"))
                response = await endpoint.handle(call)
            except ClientDisconnect:
                # Nobody reads this answer, but an error in the log would look like a fault of the server.
                response = problem(400, "client_left", "The client went away before its request was complete.")
            except Exception as error:  # noqa: BLE001 (whatever is raised has to become an answer)
                response = problems.answer(error) or _bug()
                if response.status_code == 500:  # noqa: PLR2004 (Internal Server Error)
                    _log.error("%s %s failed", request.method, request.url.path, exc_info=error)
        response.headers["X-Request-Id"] = request_id
        return response

    return answer


def _bug() -> Response:
    return problem(500, "internal_error", "The server failed to handle the request; its log has the reason.")


async def _no_route(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException), "it is registered for this exception alone"
    if error.status_code == 405:  # noqa: PLR2004 (Method Not Allowed)
        detail = f"{request.url.path} does not support {request.method}."
        return problem(405, "method_not_allowed", detail, headers={"Allow": _methods(request)})
    if error.status_code == 404:  # noqa: PLR2004 (Not Found)
        return problem(404, "no_such_path", f"There is nothing at {request.url.path}.")
    return problem(error.status_code, "refused", str(error.detail), headers=dict(error.headers or {}))


def _methods(request: Request) -> str:
    """Every method that this path supports; the router's own answer has only those of one row."""
    rows = [route for route in request.app.routes if route.matches(request.scope)[0] is not Match.NONE]
    return ", ".join(sorted({method for row in rows for method in row.methods or ()}))
