"""One HTTP server for all agents that get pushes, which also plays AgentKit."""

import json
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from tests.soak.agents import Listed, Pushed
from tests.soak.notes import Notes

LIST, RUN = "/v1/agents", "/run"


class Office(ThreadingHTTPServer):
    """The server; each agent has its own path."""

    daemon_threads = True
    request_queue_size = 128

    def __init__(self, notes: Notes) -> None:
        super().__init__(("127.0.0.1", 0), _Handler)
        self.url = f"http://127.0.0.1:{self.server_address[1]}"
        self.listed = Listed(notes)
        self.notes = notes
        self.agents: dict[str, Pushed] = {}

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: peers that hang up are part of the test."""


class _Handler(BaseHTTPRequestHandler):
    server: Office

    def do_GET(self) -> None:
        self._answer(200, {"status": "success", "message": None, "data": self.server.listed.documents()})

    def do_POST(self) -> None:
        document = json.loads(self.rfile.read(int(self.headers["Content-Length"])))
        agent = self.server.agents.get(self.path)
        self.close_connection = True
        if agent is None:
            self.server.notes.count("runs through AgentKit")
            self._answer(200, {"status": "success", "data": {"status": "completed", "result": {"by": self.path}}})
            return
        answer = agent.take(document)
        if answer is not None:
            self._answer(*answer)

    def _answer(self, status: int, document: dict[str, Any]) -> None:
        encoded = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """Log nothing."""


@contextmanager
def open_office(notes: Notes) -> Iterator[Office]:
    """Serve for the duration of the block."""
    with Office(notes) as office:
        thread = threading.Thread(target=office.serve_forever, args=(0.05,), name="office", daemon=True)
        thread.start()
        try:
            yield office
        finally:
            office.shutdown()
            thread.join(10.0)
