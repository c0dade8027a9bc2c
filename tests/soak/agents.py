"""The agents of the soak: some claim, some get pushes, some are listed by AgentKit; they fail, fall silent and die."""

import queue
import threading
import time
import uuid
from typing import Any, Final

from tests.crash.wire import Wire
from tests.soak.clients import Client
from tests.soak.notes import Notes
from tests.soak.workflows import CLAIMED, PUSHED, SCARCE

CLAIM_WAIT_S: Final = 3
FORGOTTEN_S: Final = 1.0
"""How long an agent that has died stays registered before somebody notices."""
LISTED_MAX: Final = 4
"""The number of agents that AgentKit lists at a time."""
LISTED_FOR_S: Final = 3.0


class Claimer(Client):
    """Claims work with long polls, and does it or forgets it."""

    def __init__(self, name: str, notes: Notes, seed: str, *, capabilities: tuple[str, ...] = (CLAIMED,)) -> None:
        super().__init__(name, notes, seed)
        self.capabilities = capabilities
        self.agent_id = name
        self._registered = False

    def register(self, wire: Wire) -> bool:
        """Register the agent."""
        said = {"agentId": self.agent_id, "capabilities": self.capabilities, "metadata": {"number": 1}}
        return self.expect(wire.post("/agent", said), 201)

    def act(self, wire: Wire) -> None:
        """Claim work, and do it."""
        if not self._registered or self.rng.random() < 0.01:
            self._registered = self.register(wire)
        claim = {"claimId": uuid.uuid4().hex}
        answer = wire.post(f"/agent/{self.agent_id}/claim?waitSeconds={CLAIM_WAIT_S}", claim)
        if not self.notes.expect(self.name, answer, 200, 204) or answer[1] is None:
            return
        self.notes.count("claims")
        self.do(wire, answer[1]["task"], answer[1]["attempt"])

    def do(self, wire: Wire, task: dict[str, Any], attempt: int) -> None:
        """End an attempt as its task asks for, or forget it."""
        outcome, drawn = task["parameters"].get("outcome"), self.rng.random()
        path, said = f"/task/{task['taskId']}", {"attempt": attempt}
        if not self.notes.calm.is_set() and (drawn < 0.005 or (outcome == "silent" and drawn < 0.3)):
            self.notes.count("attempts forgotten")
            return
        if drawn < 0.3:
            self.expect(wire.post(f"{path}/heartbeat", {**said, "progress": {"done": drawn}}), 200)
        if outcome == "fails" or (outcome == "flaky" and drawn < 0.6):
            error = {"error": "asked to fail", "code": "asked", "retryable": outcome == "flaky"}
            self.expect(wire.post(f"{path}/fail", {**said, **error}), 200)
        else:
            self.expect(wire.post(f"{path}/complete", {**said, "result": {"by": self.agent_id}}), 200)
        self.notes.count("attempts")


class Mortal(Claimer):
    """Dies after a few claims, often in the middle of work, and comes back under another id."""

    def __init__(self, name: str, notes: Notes, seed: str) -> None:
        super().__init__(name, notes, seed, capabilities=(CLAIMED, SCARCE))
        self._lives = 0
        self._left = 0
        self._dead: list[tuple[float, str]] = []

    def act(self, wire: Wire) -> None:
        """Live on, or die."""
        self._bury(wire)
        if self._left == 0:
            self._lives += 1
            self._left = self.rng.randrange(1, 6)
            self.agent_id, self._registered = f"{self.name}-{self._lives}", False
            self.notes.count("lives of agents")
        super().act(wire)
        self._left -= 1
        if self._left == 0:
            self._dead.append((time.monotonic(), self.agent_id))
            if self.notes.calm.is_set():
                self.notes.over.wait(0.5)

    def do(self, wire: Wire, task: dict[str, Any], attempt: int) -> None:
        """End an attempt, unless the agent dies first."""
        if self._left == 1 and self.rng.random() < 0.5 and not self.notes.calm.is_set():
            return
        super().do(wire, task, attempt)

    def _bury(self, wire: Wire) -> None:
        while self._dead and time.monotonic() - self._dead[0][0] > FORGOTTEN_S:
            self.expect(wire.delete(f"/agent/{self._dead.pop(0)[1]}"), 204, 404)

    def leave(self, wire: Wire) -> None:
        """Deregister the agent under all ids it has had."""
        for _, agent_id in [*self._dead, (0.0, self.agent_id)]:
            self.expect(wire.delete(f"/agent/{agent_id}"), 204, 404)
        self._dead, self._left = [], 0


class Pushed(Client):
    """Gets work by push: answers with the result, reports it later, is busy, or hangs up."""

    def __init__(self, name: str, notes: Notes, seed: str, *, endpoint: str) -> None:
        super().__init__(name, notes, seed)
        self._endpoint = endpoint
        self._inbox: queue.SimpleQueue[dict[str, Any]] = queue.SimpleQueue()
        self._registered = False

    def take(self, document: dict[str, Any]) -> tuple[int, dict[str, Any]] | None:
        """Answer a push; return None to hang up."""
        self.notes.count("pushes")
        drawn = self.rng.random()
        if not self.notes.calm.is_set() and drawn < 0.02:
            return (503, {}) if drawn < 0.01 else None
        if drawn < 0.7 or document.get("messageType") == "tool_invocation":
            return 200, {"status": "completed", "result": {"by": self.name}}
        self._inbox.put(document)
        return 202, {}

    def act(self, wire: Wire) -> None:
        """Report what was pushed, or that it is idle."""
        if not self._registered:
            said = {"agentId": self.name, "capabilities": [PUSHED], "contactEndpoint": self._endpoint}
            self._registered = self.expect(wire.post("/agent", said), 201)
        try:
            document = self._inbox.get(timeout=0.5)
        except queue.Empty:
            self._report(wire, "idle")
            return
        named = {"opscore_task_id": document["opscore_task_id"], "opscore_attempt": document["opscore_attempt"]}
        self._report(wire, "active", **named)
        self._report(wire, "idle", **named, result={"by": self.name})

    def _report(self, wire: Wire, state: str, **details: Any) -> None:
        stamp = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime()) + f".{time.time_ns() // 1_000 % 1_000_000:06}Z"
        said = {"agentId": self.name, "timestamp": stamp, "state": state, "details": details}
        self.expect(wire.post(f"/agent/{self.name}/state", said), 202)


class Listed:
    """The agents that AgentKit lists: each stays for some seconds, and is then replaced by another."""

    def __init__(self, notes: Notes) -> None:
        self._notes = notes
        self._lock = threading.Lock()
        self._number = 0
        self._changes_at = 0.0

    def documents(self) -> list[dict[str, Any]]:
        """Return the agents that are listed now."""
        with self._lock:
            now = time.monotonic()
            if now >= self._changes_at:
                self._changes_at = now + LISTED_FOR_S / LISTED_MAX
                self._number += 1
            numbers = () if self._notes.calm.is_set() else range(self._number, self._number + LISTED_MAX)
            return [
                {"agentId": f"listed-{number}", "agentName": "listed", "capabilities": [PUSHED]} for number in numbers
            ]
