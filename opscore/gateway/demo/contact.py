"""An agent's contact endpoint: the smallest HTTP server that takes pushes."""

import contextlib
import socket
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import anyio
import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

PATH = "/run"

OnPush = Callable[[dict[str, Any]], Awaitable[dict[str, Any]]]


class ContactServer(uvicorn.Server):
    """A uvicorn server that leaves the process's signals alone, and has an event for when it listens."""

    def __init__(self, config: uvicorn.Config) -> None:
        super().__init__(config)
        self.listening = anyio.Event()

    async def startup(self, sockets: list[socket.socket] | None = None) -> None:
        """Begin to listen."""
        await super().startup(sockets)
        self.listening.set()

    @contextlib.contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Capture none."""
        yield


async def serve_contact(on_push: OnPush, introduce: Callable[[str], Awaitable[None]]) -> None:
    """Serve a contact endpoint on a free loopback port until cancelled.

    Args:
        on_push: Called with the body of each push; what it returns is the answer.
        introduce: Called once with the endpoint's address, as soon as it accepts pushes.
    """

    async def run(request: Request) -> JSONResponse:
        return JSONResponse(await on_push(await request.json()))

    app = Starlette(routes=[Route(PATH, run, methods=["POST"])])
    server = ContactServer(uvicorn.Config(app, log_config=None, access_log=False, lifespan="off"))
    with socket.create_server(("127.0.0.1", 0)) as listener:
        async with anyio.create_task_group() as tasks:
            tasks.start_soon(server.serve, [listener])
            await server.listening.wait()
            await introduce(f"http://127.0.0.1:{listener.getsockname()[1]}{PATH}")
