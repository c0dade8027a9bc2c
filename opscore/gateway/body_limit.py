"""Bounds on request bodies, for any ASGI application on any ASGI server."""

import anyio
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from opscore.gateway.protocol import Problem


class BodyLimit:
    """ASGI middleware that bounds request bodies in bytes and in time: 413 and 408 in problem+json.

    To the application a refused body looks like a client that went away: `receive` says `http.disconnect`,
    and what it still sends is dropped. Bodies are passed on as they come, not collected.
    """

    def __init__(
        self, app: ASGIApp, *, bytes_max: int = 2**20, timeout_s: float = 30.0, linger_s: float = 1.0
    ) -> None:
        self.app = app
        self.bytes_max = bytes_max
        self.timeout_s = timeout_s
        self.linger_s = linger_s

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Serve one request."""
        declared = _declared_bytes(scope) if scope["type"] == "http" else 0
        if declared == 0:
            await self.app(scope, receive, send)
            return
        body = _Body(self, scope, receive, send)
        if declared is not None and declared > self.bytes_max:
            await body.refuse(body.too_large())
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
        self._complete = False
        self._answering = False
        self._deadline = anyio.current_time() + limit.timeout_s
        self.refused = False

    async def receive(self) -> Message:
        if self.refused:
            return {"type": "http.disconnect"}
        if self._complete:
            return await self._receive()
        with anyio.CancelScope(deadline=self._deadline) as scope:
            message = await self._receive()
            self._received_bytes += len(message.get("body", b""))
            self._complete = not message.get("more_body", False)
            if self._received_bytes <= self._limit.bytes_max:
                return message
        problem = self.too_slow() if scope.cancelled_caught else self.too_large()
        await self.refuse(problem)
        return {"type": "http.disconnect"}

    async def send(self, message: Message) -> None:
        self._answering = True
        if not self.refused:
            await self._send(message)

    async def refuse(self, problem: Problem) -> None:
        self.refused = True
        if self._answering:
            return

        async def send_and_linger(message: Message) -> None:
            if message["type"] == "http.response.start":
                await self._send(message)
                return
            # The answer is complete by its length. The connection is held a moment longer and what still
            # comes is thrown away: closing with unread bytes would reset it before the answer is read.
            await self._send({**message, "more_body": True})
            with anyio.move_on_after(self._limit.linger_s):
                while (await self._receive()).get("more_body", False):
                    pass
            await self._send({"type": "http.response.body", "body": b""})

        await problem(self._scope, self._receive, send_and_linger)

    def too_large(self) -> Problem:
        detail = f"The body is larger than {self._limit.bytes_max:,} bytes."
        return Problem(status=413, code="body_too_large", detail=detail)

    def too_slow(self) -> Problem:
        detail = f"The body was not complete after {self._limit.timeout_s:g} seconds."
        return Problem(status=408, code="request_timeout", detail=detail)


def _declared_bytes(scope: Scope) -> int | None:
    """Read how many bytes of body the head announces: 0 for no body, None when it comes in chunks."""
    declared: int | None = 0
    for name, value in scope["headers"]:
        if name == b"content-length":
            declared = int(value)
        elif name == b"transfer-encoding":
            return None
    return declared
