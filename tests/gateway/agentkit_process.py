"""A stand-in for AgentKit: a process of its own that answers as AgentKit's HTTP interface does.

    python tests/gateway/agentkit_process.py --webhook-url http://.../v1/opscore/internal/agent/notify

It prints its address as the first line, registers agents, tells the webhook of each, and forwards what is
sent to an agent, as far as AgentKit knows the fields: of a session's context only the id, of Ops-Core's own
fields the task's name and the ids of session and task. The webhook is signed when `OPSCORE_WEBHOOK_SECRET`
is set, and carries `OPSCORE_API_KEY` when that is.
"""

import argparse
import asyncio
import hashlib
import hmac
import json
import os
import socket
import sys
import time
import uuid
from typing import Any

import httpx
import uvicorn
from starlette.applications import Starlette
from starlette.background import BackgroundTask
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

FIELDS_FORWARDED = (
    "senderId",
    "timestamp",
    "messageType",
    "payload",
    "task_name",
    "opscore_session_id",
    "opscore_task_id",
)
AGENT_ANSWER_S = 15.0
WEBHOOK_TRIES = 50
WEBHOOK_PAUSE_S = 0.1


class AgentKit:
    def __init__(self, *, webhook_url: str | None, answer_at_once: bool, own_ids: bool) -> None:
        self.agents: dict[str, dict[str, Any]] = {}
        self.webhook_url = webhook_url
        self.answer_at_once = answer_at_once
        self.own_ids = own_ids
        self.forwarding: set[asyncio.Task[JSONResponse]] = set()

    def app(self) -> Starlette:
        return Starlette(
            routes=[
                Route("/v1/agents/register", self.register, methods=["POST"]),
                Route("/v1/agents", self.list_agents, methods=["GET"]),
                Route("/v1/agents/{agent_id}/run", self.run, methods=["POST"]),
            ]
        )

    async def register(self, request: Request) -> JSONResponse:
        document = await request.json()
        missing = [name for name in ("agentName", "version", "contactEndpoint") if not document.get(name)]
        if missing:
            return JSONResponse({"detail": [{"loc": ["body", name]} for name in missing]}, 422)
        given = document.get("agentId") if self.own_ids else None
        agent = {
            "agentId": given or str(uuid.uuid4()),
            "agentName": document["agentName"],
            "version": document["version"],
            "capabilities": document.get("capabilities", []),
            "contactEndpoint": document["contactEndpoint"],
            "metadata": document.get("metadata") or {},
        }
        self.agents[agent["agentId"]] = agent
        answer = {
            "status": "success",
            "message": f"Agent '{agent['agentName']}' registered successfully.",
            "data": {"agentId": agent["agentId"]},
        }
        # The answer goes first: an agent may report to Ops-Core before Ops-Core has heard of it.
        return JSONResponse(answer, 201, background=BackgroundTask(self.tell_webhook, agent))

    async def tell_webhook(self, agent: dict[str, Any]) -> None:
        if self.webhook_url is None:
            return
        body = json.dumps({"event_type": "REGISTER", "agent_details": agent}, separators=(",", ":")).encode()
        async with httpx.AsyncClient(trust_env=False) as http:
            for _ in range(WEBHOOK_TRIES):
                try:
                    answer = await http.post(self.webhook_url, content=body, headers=signature_headers(body))
                except httpx.TransportError:
                    await asyncio.sleep(WEBHOOK_PAUSE_S)
                    continue
                sys.stderr.write(f"webhook: {answer.status_code} {answer.text}\n")
                return

    async def list_agents(self, _request: Request) -> JSONResponse:
        return JSONResponse({"status": "success", "message": None, "data": list(self.agents.values())})

    async def run(self, request: Request) -> JSONResponse:
        agent_id = request.path_params["agent_id"]
        agent = self.agents.get(agent_id)
        if agent is None:
            return JSONResponse({"detail": f"Agent with ID '{agent_id}' not found."}, 404)
        message = await request.json()
        if any(name not in message for name in ("senderId", "messageType", "payload")):
            return JSONResponse({"detail": "senderId, messageType and payload are required"}, 422)
        forwarding = asyncio.create_task(forward(agent, known_fields(message)))
        if not self.answer_at_once:
            return await forwarding
        self.forwarding.add(forwarding)
        forwarding.add_done_callback(self.forwarding.discard)
        return JSONResponse({"status": "success", "message": "Message accepted.", "data": None}, 202)


def known_fields(message: dict[str, Any]) -> dict[str, Any]:
    known = {name: message.get(name) for name in FIELDS_FORWARDED}
    context = message.get("sessionContext")
    return {
        **known,
        "sessionContext": context and {"sessionId": context.get("sessionId"), "priorMessages": []},
    }


async def forward(agent: dict[str, Any], message: dict[str, Any]) -> JSONResponse:
    agent_id = agent["agentId"]
    async with httpx.AsyncClient(trust_env=False, timeout=AGENT_ANSWER_S) as http:
        try:
            answer = await http.post(agent["contactEndpoint"], json=message)
        except httpx.ConnectError:
            return JSONResponse({"detail": f"Could not connect to agent '{agent_id}' contact endpoint."}, 503)
        except httpx.TransportError:
            return JSONResponse({"detail": f"Dispatch request to agent '{agent_id}' timed out or failed."}, 504)
    if answer.is_error:
        return JSONResponse({"detail": answer.text}, answer.status_code)
    return JSONResponse(
        {
            "status": "success",
            "message": f"Message successfully dispatched to agent {agent_id}.",
            "data": answer.json(),
        }
    )


def signature_headers(body: bytes) -> dict[str, str]:
    headers = {"Content-Type": "application/json"}
    if key := os.environ.get("OPSCORE_API_KEY"):
        headers["Authorization"] = f"Bearer {key}"
    if secret := os.environ.get("OPSCORE_WEBHOOK_SECRET"):
        timestamp = str(int(time.time()))
        signed = timestamp.encode() + b"." + body
        headers["X-AgentKit-Timestamp"] = timestamp
        headers["X-AgentKit-Signature"] = hmac.new(secret.encode(), signed, hashlib.sha256).hexdigest()
    return headers


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--port", type=int, default=0)
    parser.add_argument("--webhook-url")
    parser.add_argument("--answer-at-once", action="store_true", help="answer 202 without waiting for the agent")
    parser.add_argument("--own-ids", action="store_true", help="take the agentId that a registration brings")
    chosen = parser.parse_args()
    agentkit = AgentKit(webhook_url=chosen.webhook_url, answer_at_once=chosen.answer_at_once, own_ids=chosen.own_ids)
    with socket.create_server(("127.0.0.1", chosen.port)) as listener:
        sys.stdout.write(f"http://127.0.0.1:{listener.getsockname()[1]}\n")
        sys.stdout.flush()
        server = uvicorn.Server(
            uvicorn.Config(agentkit.app(), log_config=None, access_log=False, timeout_graceful_shutdown=1)
        )
        server.run(sockets=[listener])


if __name__ == "__main__":
    main()
