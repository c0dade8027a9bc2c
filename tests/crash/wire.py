"""A client's connection to the server, which is killed again and again."""

import http.client
import json
from typing import Any, Final

from opscore.gateway.routes.app import PREFIX
from tests.crash.server import API_KEY

TIMEOUT_S: Final = 20.0
"""No call takes this long unless something hangs; a claim waits less than a second."""


class Gone(Exception):
    """The connection broke, or never stood: whether the call had an effect is unknown."""


class Wire:
    """A connection that is kept open; it ends with the server."""

    def __init__(self, port: int) -> None:
        self._http = http.client.HTTPConnection("127.0.0.1", port, timeout=TIMEOUT_S)

    def close(self) -> None:
        """Close the connection."""
        self._http.close()

    def get(self, path: str) -> tuple[int, Any]:
        """Ask; returns the status and the document."""
        return self._call("GET", path, None, {})

    def post(self, path: str, document: Any, **headers: str) -> tuple[int, Any]:
        """Tell; returns the status and the document."""
        return self._call("POST", path, document, headers)

    def delete(self, path: str) -> tuple[int, Any]:
        """Delete something; return the status and the document."""
        return self._call("DELETE", path, None, {})

    def _call(self, method: str, path: str, document: Any, headers: dict[str, str]) -> tuple[int, Any]:
        """Make a call.

        Raises:
            Gone: no whole answer came.
            TimeoutError: the server lives and does not answer.
        """
        body = None if document is None else json.dumps(document)
        fixed = {"Authorization": f"Bearer {API_KEY}", "Content-Type": "application/json"}
        try:
            self._http.request(method, f"{PREFIX}{path}", body, {**fixed, **headers})
            answer = self._http.getresponse()
            read = answer.read()
        except TimeoutError:
            raise
        except (OSError, http.client.HTTPException) as error:
            self._http.close()
            raise Gone(repr(error)) from error
        return answer.status, json.loads(read) if read else None
