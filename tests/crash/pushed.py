"""Agents that get their work by push, and the one HTTP server for all of them."""

import json
import queue
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any, Final

from tests.crash.clients import PUSHED, Agent
from tests.crash.ledger import Ledger, Work
from tests.crash.wire import Wire

Answer = tuple[int, dict[str, Any]] | None
"""The status and the document of an answer; None to cut the connection instead."""
INBOX_WAIT_S: Final = 0.1


class PushedAgent(Agent):
    """Takes what is pushed to it: it may have it done at once, do it later, be busy, or hang up.

    Args:
        name: in the ledger and on the server.
        ledger: where it writes down what it is handed, sends and is told.
        seed: of what it decides to do.
        office: the server in front of it.
    """

    def __init__(self, name: str, ledger: Ledger, seed: str, office: "Office") -> None:
        super().__init__(name, ledger, seed)
        self._endpoint = office.open_desk(self)
        self._inbox: queue.SimpleQueue[Work] = queue.SimpleQueue()
        self._work: Work | None = None

    def registration(self) -> dict[str, Any]:
        """What it registers as."""
        return {"agentId": self.name, "capabilities": [PUSHED], "contactEndpoint": self._endpoint}

    def take(self, document: dict[str, Any]) -> Answer:
        """Answer a push."""
        task_id, attempt = document["opscore_task_id"], document["opscore_attempt"]
        work = self.ledger.handed(task_id, attempt, self.name, document["payload"].get("input"))
        drawn = self.rng.random()
        if drawn < 0.02 and not self.careful.is_set():
            return 503, {}
        if drawn < 0.06 and self.forgetful and not self.careful.is_set():
            return None
        if drawn < 0.4:
            return 200, {"status": "completed", "result": self.ledger.trying(work)}
        self._inbox.put(work)
        return 202, {}

    def act(self, wire: Wire, over: threading.Event) -> None:
        """Do what was pushed."""
        if self.keep_registered(wire) and self._work is None:
            # While the agent works, this report would say that the work has ended.
            self.report(wire, "idle")
        if self._work is None:
            try:
                self._work = self._inbox.get(timeout=INBOX_WAIT_S)
            except queue.Empty:
                # It may be suspected; a report ends that.
                self.report(wire, "idle")
                return
        over_now = self._end_by_report(wire, self._work) if self.rng.random() < 0.4 else self.end(wire, self._work)
        if over_now:
            self._work = None

    def _end_by_report(self, wire: Wire, work: Work) -> bool:
        """Say active, then idle with the result, as the agents of Ops-Core do."""
        named = {"opscore_task_id": work.task_id, "opscore_attempt": work.attempt}
        if not self.report(wire, "active", **named):
            return False
        work.over = self.report(wire, "idle", **named, result=self.ledger.trying(work))
        return work.over


class Office:
    """A server for pushes to any number of agents, each at its own path."""

    def __init__(self, port: int) -> None:
        self._port = port
        self.agents: dict[str, PushedAgent] = {}

    def open_desk(self, agent: PushedAgent) -> str:
        """Take pushes for an agent from now on; returns its endpoint."""
        self.agents[f"/{agent.name}"] = agent
        return f"http://127.0.0.1:{self._port}/{agent.name}"


class _Server(ThreadingHTTPServer):
    daemon_threads = True
    office: Office

    def handle_error(self, request: Any, client_address: Any) -> None:
        """Ignore errors: peers that were killed are part of the test."""


class _Handler(BaseHTTPRequestHandler):
    server: _Server

    def do_POST(self) -> None:
        body = self.rfile.read(int(self.headers["Content-Length"]))
        answer = self.server.office.agents[self.path].take(json.loads(body))
        self.close_connection = True
        if answer is None:
            return
        status, document = answer
        encoded = json.dumps(document).encode()
        self.send_response(status)
        self.send_header("Content-Type", "application/json")
        self.send_header("Content-Length", str(len(encoded)))
        self.end_headers()
        self.wfile.write(encoded)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 (the base class names it so)
        """Log nothing."""


@contextmanager
def open_office() -> Iterator[Office]:
    """Serve pushes for the duration of the block."""
    with _Server(("127.0.0.1", 0), _Handler) as server:
        server.office = Office(server.server_address[1])
        thread = threading.Thread(target=server.serve_forever, args=(0.05,), name="office", daemon=True)
        thread.start()
        try:
            yield server.office
        finally:
            server.shutdown()
            thread.join(10.0)
