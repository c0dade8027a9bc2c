"""What a connection too many is answered: that the process lives, if it asks for that, else that it is too many.

A server that serves as many clients as it may is busy and not dead: who restarts what is dead has to be able to tell.
"""

from starlette.types import ASGIApp, Message, Receive, Scope, Send


class LivenessAlone:
    """An application that passes on a request for one path, after which the connection closes, and refuses the rest.

    Args:
        app: what answers that path.
        path: the path, of GET.
        refusal: what answers any other.
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
