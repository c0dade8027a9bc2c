"""One server of the comparison: `python -m bench.gateway.echo_app KIND`; prints its port, then serves.

Every kind takes the same state report, validates it into an attrs value in the way that is usual in its framework,
asks a trio actor over the bridge, and answers 202 with a small document.

    bare            no framework and no validation, only `json`: the ceiling
    starlette       a Starlette route; the project's strict cattrs converter
    litestar        a Litestar handler whose `data` is the attrs class (decoded by msgspec)
    starlette-loop  as `starlette`, but the answer comes from asyncio itself: what the bridge costs
    starlette-uvicorn  as `starlette`, on uvicorn's own unbounded protocol: what the bounds cost
"""

import asyncio
import importlib
import json
import sys
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send
from uvicorn.protocols.http.httptools_impl import HttpToolsProtocol

from opscore.gateway.server import protocol
from opscore.gateway.server.server import Address, Drain, run
from opscore.runtime.codec import structure_wire
from opscore.runtime.hosting import Guest


@attrs.frozen(kw_only=True)
class StateReport:
    agent_id: str
    timestamp: str
    state: str
    details: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class MixedCaseStateReport:
    """The same for Litestar: msgspec decodes attrs classes under their own names, without aliases."""

    agentId: str  # noqa: N815
    timestamp: str
    state: str
    details: dict[str, Any] | None = None


@attrs.frozen(kw_only=True)
class Accepted:
    status: str
    message: str


class Echo:
    """An actor reduced to its mailbox: it counts what it handled and answers each asker."""

    def __init__(self) -> None:
        self.handled = 0
        self._send, self._receive = trio.open_memory_channel[tuple[str, trio.Event, list[str]]](1_000)

    @classmethod
    @asynccontextmanager
    async def open(cls) -> AsyncIterator["Echo"]:
        echo = cls()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(echo._handle)
            yield echo
            nursery.cancel_scope.cancel()

    async def ask(self, value: str) -> str:
        answered, answer = trio.Event(), list[str]()
        await self._send.send((value, answered, answer))
        await answered.wait()
        return answer[0]

    async def _handle(self) -> None:
        async for value, answered, answer in self._receive:
            self.handled += 1
            answer.append(value)
            answered.set()


Ask = Callable[[str], Awaitable[str]]


def bare(ask: Ask) -> ASGIApp:
    async def app(_scope: Scope, receive: Receive, send: Send) -> None:
        message = await receive()
        document = json.loads(message["body"])
        body = json.dumps({"status": "success", "message": await ask(document["state"])}).encode()
        headers = [(b"content-type", b"application/json"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": 202, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    return app


def starlette(ask: Ask) -> ASGIApp:
    async def report(request: Request) -> Response:
        data = structure_wire(json.loads(await request.body()), StateReport, "state report")
        return JSONResponse(attrs.asdict(Accepted(status="success", message=await ask(data.state))), status_code=202)

    return Starlette(routes=[Route("/v1/opscore/agent/{agent_id}/state", report, methods=["POST"])])


def litestar(ask: Ask) -> ASGIApp:
    framework = importlib.import_module("litestar")

    async def report(data: MixedCaseStateReport) -> Accepted:
        return Accepted(status="success", message=await ask(data.state))

    handler = framework.post("/v1/opscore/agent/{agent_id:str}/state", status_code=202)(report)
    app: ASGIApp = framework.Litestar([handler], openapi_config=None, logging_config=None)
    return app


APPS = {
    "bare": bare,
    "starlette": starlette,
    "litestar": litestar,
    "starlette-loop": starlette,
    "starlette-uvicorn": starlette,
}


def build(kind: str) -> Callable[[Guest[Echo], Drain], ASGIApp]:
    def build_app(guest: Guest[Echo], _drain: Drain) -> ASGIApp:
        async def ask(value: str) -> str:
            return await guest.call(guest.value.ask, value)

        async def ask_nobody(value: str) -> str:
            guest.value.handled += 1
            await asyncio.sleep(0)
            return value

        app = APPS[kind](ask_nobody if kind == "starlette-loop" else ask)

        async def counted(scope: Scope, receive: Receive, send: Send) -> None:
            if scope["path"] == "/handled":
                await JSONResponse(guest.value.handled)(scope, receive, send)
            else:
                await app(scope, receive, send)

        return counted

    return build_app


def main(kind: str) -> int:
    if kind == "starlette-uvicorn":
        protocol.BoundedProtocol = HttpToolsProtocol  # type: ignore[assignment,misc]

    def announce(address: Address) -> None:
        print(address.port, flush=True)

    return run(Echo.open, build(kind), on_listening=announce)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1]))
