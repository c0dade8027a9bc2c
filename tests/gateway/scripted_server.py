"""A real HTTP server in a thread that answers as it is told and remembers what it was asked."""

import json
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import attrs


@attrs.frozen(kw_only=True)
class Asked:
    method: str
    path: str
    headers: dict[str, str]
    body: bytes

    @property
    def document(self) -> Any:
        return json.loads(self.body)


@attrs.frozen(kw_only=True)
class Answer:
    status: int = 200
    document: Any = None
    text: bytes | None = None
    headers: dict[str, str] = attrs.field(factory=dict)
    hang_up: bool = False
    """Take the call, and close the connection without a word."""

    @property
    def content(self) -> bytes:
        if self.text is not None:
            return self.text
        return b"" if self.document is None else json.dumps(self.document).encode()


class ScriptedServer:
    def __init__(self, url: str, asked: list[Asked]) -> None:
        self.url = url
        self.asked = asked


@contextmanager
def scripted_server(*answers: Answer) -> Iterator[ScriptedServer]:
    """Serve the answers one after the other; the last one for all further calls."""
    left = iter(answers[:-1])
    with answering_server(lambda _: next(left, answers[-1])) as server:
        yield server


@contextmanager
def answering_server(answer_to: Callable[[Asked], Answer], *, port: int = 0) -> Iterator[ScriptedServer]:
    """Serve what a function answers; it is called in a thread of each connection's own."""
    asked: list[Asked] = []

    def note_and_answer(call: Asked) -> Answer:
        asked.append(call)
        return answer_to(call)

    httpd = ThreadingHTTPServer(("127.0.0.1", port), _handler(note_and_answer))
    thread = threading.Thread(target=httpd.serve_forever, kwargs={"poll_interval": 0.01})
    thread.start()
    try:
        yield ScriptedServer(f"http://127.0.0.1:{httpd.server_port}", asked)
    finally:
        httpd.shutdown()
        thread.join()
        httpd.server_close()


def _handler(answer_to: Callable[[Asked], Answer]) -> type[BaseHTTPRequestHandler]:
    class Handler(BaseHTTPRequestHandler):
        def do_GET(self) -> None:
            body = self.rfile.read(int(self.headers.get("Content-Length", 0)))
            headers = {name.lower(): value for name, value in self.headers.items()}
            answer = answer_to(Asked(method=self.command, path=self.path, headers=headers, body=body))
            if answer.hang_up:
                return
            self.send_response(answer.status)
            for name, value in answer.headers.items():
                self.send_header(name, value)
            self.send_header("Content-Length", str(len(answer.content)))
            self.end_headers()
            self.wfile.write(answer.content)

        do_POST = do_DELETE = do_GET  # noqa: N815 - the standard library's names

        def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - as above
            pass

    return Handler
