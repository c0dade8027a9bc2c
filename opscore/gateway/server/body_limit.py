"""Bounds on the size of request bodies, for any ASGI application."""

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opscore.gateway.server.protocol import Problem


class BodyLimit:
    """ASGI middleware that answers 413 in problem+json if a body is too large.

    To the application a refused body looks like a client that left: `receive` returns `http.disconnect`, and what
    the application then sends is dropped, unless it had begun to answer. Bodies are passed on as they come, not
    collected. The protocol limits how long a body may take.

    Args:
        app: The application.
        bytes_max: The size of the largest body that is accepted.
        linger_s: How long a refused client may go on sending, in seconds, so that it can read the answer.
    """

    def __init__(self, app: ASGIApp, *, bytes_max: int = 2**20, linger_s: float = 1.0) -> None:
        self.app = app
        self.bytes_max = bytes_max
        self.linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        declared = _declared_bytes(scope) if scope["type"] == "http" else 0
        if declared is not None and declared <= self.bytes_max:
            # The server's parser passes on no more bytes than the head announces, so there is nothing to count.
            await self.app(scope, receive, send)
            return
        body = _Body(self, scope, receive, send)
        if declared is not None:
            await body.refuse()
            return
        try:
            await self.app(scope, body.receive, body.send)
        except Exception:
            if not body.refused:
                raise


class _Body:
    """One request's body on its way through the middleware."""

    def __init__(self, limit: BodyLimit, scope: Scope, receive: Receive, send: Send) -> None:
        self._limit = limit
        self._scope = scope
        self._receive = receive
        self._send = send
        self._received_bytes = 0
        self._answering = False
        self.refused = False

    async def receive(self) -> Message:
        if not self.refused:
            message = await self._receive()
            self._received_bytes += len(message.get("body", b""))
            if self._received_bytes <= self._limit.bytes_max:
                return message
            await self.refuse()
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        if self._answering or not self.refused:
            self._answering = True
            await self._send(message)

    async def refuse(self) -> None:
        self.refused = True
        if not self._answering:
            detail = f"The body is larger than {self._limit.bytes_max:,} bytes."
            problem = Problem(status=413, code="body_too_large", detail=detail)
            await problem(self._scope, self._receive, self._send_and_linger)

    async def _send_and_linger(self, message: Message) -> None:
        if message["type"] == "http.response.start":
            await self._send(message)
            return
        # By its length the answer is complete here. The connection is held a moment longer and data that still comes
        # is discarded, because closing with unread bytes would reset the connection before the answer is read.
        await self._send({**message, "more_body": True})
        with anyio.move_on_after(self._limit.linger_s):
            while (await self._receive()).get("more_body", False):
                pass
        await self._send({"type": "http.response.body", "body": b""})


def _declared_bytes(scope: Scope) -> int | None:
    """Read how many bytes of body the head announces: 0 for no body, None for one in chunks."""
    declared: int | None = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            declared = int(value)
        elif name == b"transfer-encoding":
            return None
    return declared
