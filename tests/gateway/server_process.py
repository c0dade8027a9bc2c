"""A small application on the real server, for the tests of the server; also a process of its own.

As a process it takes a JSON object of options, prints one JSON object a line about what happens to it, and
ends with the exit code that `run` gave.
"""

import asyncio
import json
import logging
import sys
import time
from collections.abc import AsyncIterator, Callable
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any

import attrs
import trio
from starlette.types import ASGIApp, Receive, Scope, Send

from opscore.gateway.server.body_limit import BodyLimit
from opscore.gateway.server.protocol import ServerLimits
from opscore.gateway.server.server import Address, CannotListen, Drain, run
from opscore.runtime.hosting import Guest

Note = Callable[[str, Any], object]


@attrs.frozen(kw_only=True)
class TrioSide:
    """What the tests' trio context manager holds: how long it takes, when it dies, and who hears of it."""

    note: Note
    opening_takes_s: float = 0
    closing_takes_s: float = 0
    dies_after_s: float | None = None

    @asynccontextmanager
    async def open(self) -> AsyncIterator["TrioSide"]:
        try:
            self.note("opening", None)
            await trio.sleep(self.opening_takes_s)
            async with trio.open_nursery() as nursery:
                if self.dies_after_s is not None:
                    nursery.start_soon(self._die)
                yield self
                nursery.cancel_scope.cancel()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(self.closing_takes_s)
            self.note("finally", None)

    async def _die(self) -> None:
        await trio.sleep(self.dies_after_s or 0)
        raise ValueError("the root gave up")

    async def work(self, takes_s: float) -> str:
        self.note("toil", "begun")
        await trio.sleep(takes_s)
        self.note("toil", "done")
        return "worked"


class Application:
    """Paths that behave as the tests need it."""

    def __init__(self, guest: Guest[TrioSide], drain: Drain) -> None:
        self.guest = guest
        self.drain = drain

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        action, _, argument = scope["path"].strip("/").partition("/")
        answer: tuple[int, bytes] | None = await getattr(self, action or "hello")(argument, receive, send)
        if answer is None:
            return
        status, body = answer
        headers = [(b"content-type", b"text/plain"), (b"content-length", str(len(body)).encode())]
        await send({"type": "http.response.start", "status": status, "headers": headers})
        await send({"type": "http.response.body", "body": body})

    async def hello(self, _: str, receive: Receive, send: Send) -> tuple[int, bytes]:
        return 200, b"hello"

    async def ready(self, _: str, receive: Receive, send: Send) -> tuple[int, bytes]:
        return (503, b"draining") if self.drain.begun else (200, b"ready")

    async def echo(self, _: str, receive: Receive, send: Send) -> tuple[int, bytes]:
        body = bytearray()
        while True:
            message = await receive()
            if message["type"] == "http.disconnect":
                self.guest.value.note("echo", "disconnected")
                raise ConnectionError("the client went away")
            body += message.get("body", b"")
            if not message.get("more_body"):
                return 200, bytes(body)

    async def toil(self, takes_s: str, receive: Receive, send: Send) -> tuple[int, bytes]:
        return 200, (await self.guest.call(self.guest.value.work, float(takes_s))).encode()

    async def poll(self, _: str, receive: Receive, send: Send) -> tuple[int, bytes]:
        """Wait for nothing, until the server drains or the client leaves."""
        self.guest.value.note("poll", "begun")
        gone, draining = (
            asyncio.create_task(self._until_gone(receive)),
            asyncio.create_task(self.drain.wait()),
        )
        await asyncio.wait({gone, draining}, return_when=asyncio.FIRST_COMPLETED)
        gone.cancel()
        draining.cancel()
        self.guest.value.note("poll", "draining" if self.drain.begun else "client gone")
        return 200, b"nothing yet"

    async def _until_gone(self, receive: Receive) -> None:
        while (await receive())["type"] != "http.disconnect":
            pass

    async def fail(self, _: str, receive: Receive, send: Send) -> tuple[int, bytes]:
        raise ValueError("a bug")

    async def fail_late(self, _: str, receive: Receive, send: Send) -> tuple[int, bytes]:
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"9")]})
        raise ValueError("a late bug")

    async def stream(self, _: str, receive: Receive, send: Send) -> None:
        """Begin to answer before the body is read, and end with what reading it gave."""
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"22")]})
        await send({"type": "http.response.body", "body": b"begun, ", "more_body": True})
        await send({"type": "http.response.body", "body": (await receive())["type"].encode()})

    async def flood(self, megabytes: str, receive: Receive, send: Send) -> tuple[int, bytes]:
        return 200, bytes(int(megabytes) * 2**20)

    async def hang(self, _: str, receive: Receive, send: Send) -> tuple[int, bytes]:
        self.guest.value.note("hang", "begun")
        time.sleep(60)  # A loop that hangs is what is wanted.
        return 200, b""


def build(body_limit: dict[str, Any]) -> Callable[[Guest[TrioSide], Drain], ASGIApp]:
    def build_app(guest: Guest[TrioSide], drain: Drain) -> ASGIApp:
        return BodyLimit(Application(guest, drain), **body_limit)

    return build_app


def _say(what: str, detail: Any) -> None:
    print(json.dumps([what, detail]), flush=True)  # noqa: T201 — the test reads it.


def main() -> int:
    options = json.loads(sys.argv[1])
    logging.basicConfig(level=logging.INFO)
    side = TrioSide(note=_say, **options.get("trio", {}))
    open_value: Callable[[], AbstractAsyncContextManager[TrioSide]] = side.open

    def say_address(address: Address) -> None:
        _say("listening", address.url)

    try:
        code = run(
            open_value,
            build(options.get("body", {})),
            port=options.get("port", 0),
            limits=ServerLimits(**options.get("limits", {})),
            on_listening=say_address,
        )
    except CannotListen as error:
        _say("cannot listen", str(error))
        return 2
    except ValueError as error:
        _say("failed", str(error))
        return 1
    _say("returned", code)
    return code


if __name__ == "__main__":
    sys.exit(main())
