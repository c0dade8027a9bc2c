"""The clients of the server that are not agents: they trigger and steer runs, read lists, and hang up during calls."""

import random
import socket
import time
import uuid
from abc import ABC, abstractmethod
from typing import Any, Final

from opscore.gateway.routes.app import PREFIX
from tests.crash.server import API_KEY
from tests.crash.wire import Wire
from tests.soak import workflows
from tests.soak.notes import Notes

KEEPS_LAST: Final = 8
"""The number of schedules that a client has at a time."""
LISTS: Final = (
    "/session?limit=20",
    "/session?limit=20&status=failed",
    "/session?limit=20&workflowId=chain",
    "/session?limit=5&label=batch:3",
    "/session?limit=5&businessKey=order-7",
    "/agent?limit=50",
    "/agent?state=idle",
    "/workflow?limit=10",
    "/schedule",
    "/deadletter?limit=20",
)


class Client(ABC):
    """A client that does one thing after another, at a steady pace.

    Args:
        name: its name on the server.
        notes: the notes that all clients share.
        seed: the seed of its decisions.
        pause_s: how long it rests between two actions, approximately.
    """

    def __init__(self, name: str, notes: Notes, seed: str, *, pause_s: float = 0.0) -> None:
        self.name = name
        self.notes = notes
        self.rng = random.Random(f"{seed} {name}")
        self.pause_s = pause_s

    @abstractmethod
    def act(self, wire: Wire) -> None:
        """Do the next thing.

        Raises:
            Gone: the connection broke.
        """

    def rest(self) -> None:
        """Leave the server alone for a while."""
        if self.pause_s and not self.notes.calm.is_set():
            self.notes.over.wait(self.pause_s * self.rng.uniform(0.5, 1.5))

    def expect(self, answer: tuple[int, Any], *statuses: int) -> bool:
        """Return whether the answer has the first of these statuses; an answer with none of them is a surprise."""
        return self.notes.expect(self.name, answer, *statuses)


class Customer(Client):
    """Triggers runs of every kind, some under a key, some twice, some with their own document."""

    def __init__(self, name: str, notes: Notes, seed: str, *, pause_s: float) -> None:
        super().__init__(name, notes, seed, pause_s=pause_s)
        self._number = 0

    def act(self, wire: Wire) -> None:
        """Trigger a run."""
        if self.notes.calm.is_set():
            self.notes.over.wait(0.2)
            return
        self._number += 1
        kind = workflows.KINDS[self._number % len(workflows.KINDS)]
        body = {
            "initialPayload": {"number": self._number, "items": list(range(self.rng.randrange(6)))},
            "labels": {"batch": str(self._number % 10)},
            "businessKey": f"order-{self._number % 100}",
        }
        path, said = f"/workflow/{kind}/trigger", body
        if self._number % 11 == 0:
            kind, path = "unique", f"/agent/{self.name}/workflow"
            said = {**body, "workflowDefinition": workflows.unique(self.rng.getrandbits(40))}
        headers = {"Idempotency-Key": uuid.uuid4().hex} if self._number % 3 == 0 else {}
        answer = wire.post(path, said, **headers)
        if not self.expect(answer, 202):
            return
        session_id = answer[1]["sessionId"]
        self.notes.began(session_id, kind)
        if headers and self.rng.random() < 0.3:
            again = wire.post(path, said, **headers)
            if self.expect(again, 202) and again[1]["sessionId"] != session_id:
                self.notes.surprise(f"the key of {session_id} began {again[1]['sessionId']}")
        if kind == "signal":
            self.expect(wire.post(f"/session/{session_id}/signal", {"name": "told", "payload": self._number}), 202)


class Stopwatch(Client):
    """Measures how long a trigger and a whole small run take."""

    def act(self, wire: Wire) -> None:
        """Measure one run."""
        if self.notes.calm.is_set():
            self.notes.over.wait(0.2)
            return
        began = time.monotonic()
        answer = wire.post("/workflow/timed/trigger", {})
        if not self.expect(answer, 202):
            return
        self.notes.took("a trigger", time.monotonic() - began)
        session_id = answer[1]["sessionId"]
        ended = wire.get(f"/session/{session_id}?waitSeconds=15")
        if self.expect(ended, 200) and ended[1]["status"] == "completed":
            self.notes.took("a run", time.monotonic() - began)
            self.notes.count("runs")


class Operator(Client):
    """Steers runs, cleans up dead letters, and saves definitions again."""

    def __init__(self, name: str, notes: Notes, seed: str, *, pause_s: float) -> None:
        super().__init__(name, notes, seed, pause_s=pause_s)
        self._version = 0
        self._paused: list[str] = []

    def act(self, wire: Wire) -> None:
        """Steer something."""
        if self._paused and (len(self._paused) > 3 or self.notes.calm.is_set()):
            self.expect(wire.post(f"/session/{self._paused.pop(0)}/resume", {}), 200, 404)
            return
        if self.notes.calm.is_set():
            self.notes.over.wait(0.1)
        does = self.rng.choice((self._steer, self._steer, self._bury, self._save, self._cordon))
        if not self.notes.calm.is_set() or does is self._bury:
            does(wire)

    def _steer(self, wire: Wire) -> None:
        session_id = self.notes.some_run(self.rng)
        if session_id is None:
            return
        move = self.rng.choice(("cancel", "pause", "reset", "retry"))
        answer = wire.post(f"/session/{session_id}/{move}", {"reason": "to see what becomes of it"})
        if self.expect(answer, 200, 404):
            self.notes.count(f"to {move}")
            if move == "pause":
                self._paused.append(session_id)

    def _bury(self, wire: Wire) -> None:
        status, page = wire.get("/deadletter?limit=50")
        if not self.expect((status, page), 200) or not page["items"]:
            return
        task_id = self.rng.choice(page["items"])["taskId"]
        if self.rng.random() < 0.3 and not self.notes.calm.is_set():
            self.expect(wire.post(f"/deadletter/{task_id}/replay", {}), 200, 404)
        else:
            self.expect(wire.post(f"/deadletter/{task_id}/discard", {"reason": "nobody wants it"}), 200, 404)
        self.notes.count("dead letters")

    def _save(self, wire: Wire) -> None:
        self._version += 1
        saved = {"id": "often-saved", "version": str(self._version), "tasks": []}
        self.expect(wire.post("/workflow", saved), 201)

    def _cordon(self, wire: Wire) -> None:
        for way in ("cordon", "uncordon"):
            self.expect(wire.post("/agent/claimer-0/" + way, None), 200, 404)


class Scheduler(Client):
    """Creates schedules that fire once or every second, and deletes them again."""

    def __init__(self, name: str, notes: Notes, seed: str, *, pause_s: float) -> None:
        super().__init__(name, notes, seed, pause_s=pause_s)
        self._made: list[str] = []
        self._number = 0

    def act(self, wire: Wire) -> None:
        """Create a schedule, or delete the oldest one."""
        if len(self._made) > (0 if self.notes.calm.is_set() else KEEPS_LAST):
            self.expect(wire.delete(f"/schedule/{self._made.pop(0)}"), 204, 404)
            return
        if self.notes.calm.is_set():
            self.notes.over.wait(0.2)
            return
        self._number += 1
        schedule_id = f"{self.name}-{self._number}"
        # The agent of every fifth schedule is gone when that is due, so it fails each time.
        gone = {"agentId": f"gone-{self._number}"} if self._number % 5 == 0 else {}
        if gone:
            self.expect(wire.post("/agent", gone), 201)
        when: dict[str, Any] = {"cron": "* * * * * *"}
        if self._number % 2:
            when = {"at": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(time.time() + 1.0))}
        said = {"scheduleId": schedule_id, "workflowDefinitionId": workflows.SCHEDULED, **when, **gone}
        if self.expect(wire.post("/schedule", {**said, "payload": {"number": 1}}), 201):
            self._made.append(schedule_id)
            self.notes.count("schedules")
        if gone:
            self.expect(wire.delete(f"/agent/{gone['agentId']}"), 204)
        if self._number % 4 == 0:
            for way in ("pause", "resume"):
                self.expect(wire.post(f"/schedule/{schedule_id}/{way}", None), 200, 404)


class Reader(Client):
    """Reads all lists of the API, page by page."""

    def act(self, wire: Wire) -> None:
        """Read a list, and one run."""
        self.notes.over.wait(0.1 if self.notes.calm.is_set() else 0.0)
        path = self.rng.choice(LISTS)
        answer = wire.get(path)
        if self.expect(answer, 200) and answer[1]["nextCursor"] is not None:
            self.expect(wire.get(f"{path}{'&' if '?' in path else '?'}cursor={answer[1]['nextCursor']}"), 200)
        session_id = self.notes.some_run(self.rng)
        if session_id is not None:
            self.expect(wire.get(f"/session/{session_id}"), 200, 404)
            self.expect(wire.get(f"/session/{session_id}/history?limit=20"), 200, 404)
        self.notes.count("looks")


class Dropper(Client):
    """Hangs up during calls: a waiting claim, a wait for a run, half a request, or an empty connection."""

    def __init__(self, name: str, notes: Notes, seed: str, *, pause_s: float) -> None:
        super().__init__(name, notes, seed, pause_s=pause_s)
        self.port = 0

    def act(self, wire: Wire) -> None:
        """Begin a call, and hang up."""
        session_id = self.notes.some_run(self.rng) or "none"
        agent_id = f"claimer-{self.rng.randrange(4)}" if self.rng.random() < 0.5 else f"left-{self.rng.randrange(3)}"
        request = self.rng.choice(
            (
                f"POST {PREFIX}/agent/{agent_id}/claim?waitSeconds=30 HTTP/1.1\r\n{_HEAD}Content-Length: 0\r\n\r\n",
                f"GET {PREFIX}/session/{session_id}?waitSeconds=30 HTTP/1.1\r\n{_HEAD}\r\n",
                f"POST {PREFIX}/workflow/chain/trigger HTTP/1.1\r\n{_HEAD}Content-Length: 100\r\n\r\n" + '{"half":',
                f"POST {PREFIX}/agent/{agent_id}/drain?waitSeconds=30 HTTP/1.1\r\n{_HEAD}Content-Length: 0\r\n\r\n"
                if agent_id.startswith("left")
                else "",
                "",
            )
        )
        try:
            with socket.create_connection(("127.0.0.1", self.port), timeout=5.0) as connection:
                connection.sendall(request.encode())
                self.notes.over.wait(self.rng.uniform(0.0, 0.5))
        except OSError:
            if not self.notes.away.is_set():
                self.notes.over.wait(0.2)
        self.notes.count("connections dropped")


_HEAD: Final = f"Host: localhost\r\nAuthorization: Bearer {API_KEY}\r\nContent-Type: application/json\r\n"
