"""The answer on a connection beyond the limit: to a liveness check that the process is alive, to the rest a refusal.

A server at its limit of connections is busy, not dead. A supervisor that restarts dead servers has to see that.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class LivenessAlone:
    """An application that passes on a GET of one path, after which the connection closes, and refuses the rest.

    Args:
        app: answers that path.
        path: the path.
        refusal: answers any other request.
    """

    def __init__(self, app: ASGIApp, path: str, refusal: ASGIApp) -> None:
        self._app = app
        self._path = path
        self._refusal = refusal

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer a request."""

        async def send_last(message: Message) -> None:
            if message["type"] == "http.response.start":
                message = {**message, "headers": [*message["headers"], (b"connection", b"close")]}
            await send(message)

        if (scope["method"], scope["path"]) == ("GET", self._path):
            await self._app(scope, receive, send_last)
        else:
            await self._refusal(scope, receive, send)
