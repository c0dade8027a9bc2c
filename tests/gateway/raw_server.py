"""A server whose every byte the test decides on, over real sockets: the peers that pushes go to."""

import functools
import json
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

import attrs
import trio

from opscore.runtime.models import Assignment

Handle = Callable[[trio.SocketStream, "Sent"], Awaitable[None]]

ASSIGNMENT = Assignment(
    task_id="ses_1:only",
    task_key="only",
    name="The task",
    session_id="ses_1",
    workflow_id="flow",
    agent_id="ada",
    attempt=3,
    parameters={"p": 1},
    input={"in": 2},
    lease_s=60.0,
    timeout_s=60.0,
)


@attrs.frozen(kw_only=True)
class Sent:
    """A request as it came."""

    head: str
    body: bytes

    @property
    def first_line(self) -> str:
        return self.head.split("\r\n", 1)[0]

    @property
    def document(self) -> Any:
        return json.loads(self.body)

    def header(self, name: str) -> str | None:
        for line in self.head.split("\r\n")[1:]:
            field, _, value = line.partition(":")
            if field.lower() == name:
                return value.strip()
        return None


@attrs.frozen(kw_only=True)
class RawServer:
    """Where it listens, and what it was sent."""

    port: int
    sent: list[Sent]

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/run"


async def read(stream: trio.SocketStream) -> Sent | None:
    data = b""
    while b"\r\n\r\n" not in data:
        chunk = await stream.receive_some()
        if not chunk:
            return None
        data += chunk
    head, _, body = data.partition(b"\r\n\r\n")
    sent = Sent(head=head.decode(), body=body)
    while len(body) < int(sent.header("content-length") or 0):
        body += await stream.receive_some()
    return Sent(head=head.decode(), body=body)


def answer(status: int, body: bytes = b"", *more: str) -> bytes:
    fields = "".join(f"{field}\r\n" for field in more)
    return f"HTTP/1.1 {status} Said\r\ncontent-length: {len(body)}\r\n{fields}\r\n".encode() + body


def saying(data: bytes) -> Handle:
    """Say this, then close."""

    async def handle(stream: trio.SocketStream, _: Sent) -> None:
        await stream.send_all(data)

    return handle


@asynccontextmanager
async def raw_server(handle: Handle) -> AsyncIterator[RawServer]:
    sent: list[Sent] = []

    async def serve(stream: trio.SocketStream) -> None:
        async with stream:
            request = await read(stream)
            if request is not None:
                sent.append(request)
                try:
                    await handle(stream, request)
                except trio.BrokenResourceError:
                    return  # The client hung up, as it may.

    async with trio.open_nursery() as nursery:
        listen = functools.partial(trio.serve_tcp, host="127.0.0.1")
        listeners = await nursery.start(listen, serve, 0)
        yield RawServer(port=listeners[0].socket.getsockname()[1], sent=sent)
        nursery.cancel_scope.cancel()


def free_port() -> int:
    """A port on which nobody listens."""
    with socket.create_server(("127.0.0.1", 0)) as listener:
        return int(listener.getsockname()[1])
