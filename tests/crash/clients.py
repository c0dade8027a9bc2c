"""The clients that load the server: each does one thing after another until the server is gone.

A client is created once for a data directory, and continues after each restart where it was. If a broken connection
leaves an outcome unknown, it repeats the call in the way that the wire contract makes safe.
"""

import random
import threading
import uuid
from abc import ABC, abstractmethod
from typing import Any, Final

from tests.crash.ledger import Ledger, Order, Work
from tests.crash.wire import Wire

CLAIMED, PUSHED = "claimed-work", "pushed-work"
_TASK: Final = {"retry": {"maxRetries": 5, "initialDelaySeconds": 0.3, "maxDelaySeconds": 1.0}, "leaseSeconds": 1}
WORKFLOWS: Final[tuple[dict[str, Any], ...]] = (
    {
        "id": "chain",
        "defaults": _TASK,
        "tasks": [
            {"taskId": "first", "agentCapability": CLAIMED, "nextTaskId": "last"},
            {"taskId": "last", "agentCapability": CLAIMED},
        ],
    },
    {
        "id": "diamond",
        "defaults": _TASK,
        "tasks": [
            {"taskId": "first", "agentCapability": PUSHED},
            {"taskId": "left", "agentCapability": CLAIMED, "dependsOn": ["first"]},
            {"taskId": "right", "agentCapability": PUSHED, "dependsOn": ["first"]},
            {"taskId": "last", "agentCapability": CLAIMED, "dependsOn": ["left", "right"]},
        ],
    },
)
CLERKS: Final = ("clerk-0", "clerk-1")
CLAIM_WAIT_S: Final = 0.5


class Client(ABC):
    """A client of the server.

    Args:
        name: its name in the ledger and on the server.
        ledger: where it notes what it sends and what it is answered.
        seed: the seed of its decisions.
    """

    def __init__(self, name: str, ledger: Ledger, seed: str) -> None:
        self.name = name
        self.ledger = ledger
        self.rng = random.Random(f"{seed} {name}")
        self._again: set[str] = set()

    @abstractmethod
    def act(self, wire: Wire, over: threading.Event) -> None:
        """Do the next thing.

        Raises:
            Gone: the server is.
        """

    def overwrite(self, wire: Wire, what: str) -> None:
        """Write the next version of a row of this client's; repeat one that was not answered."""
        name = f"{what}:{self.name}"
        number = self.ledger.number(name, again=name in self._again)
        self._again.add(name)
        path, document = self._version(what, number)
        answer = wire.post(path, document)
        if self._taken(answer, 201, 202):
            self.ledger.numbered(name, number)
            self._again.discard(name)
        elif answer[0] == 409:
            self.ledger.surprise(f"{name} {number} was answered {answer[1]}")

    def _version(self, what: str, number: int) -> tuple[str, dict[str, Any]]:
        if what == "state":
            # Never idle, so that these agents get no work.
            timestamp = f"2026-01-01T{number // 3600:02}:{number // 60 % 60:02}:{number % 60:02}Z"
            report = {"agentId": self.name, "timestamp": timestamp, "state": "ready", "details": {"number": number}}
            return f"/agent/{self.name}/state", report
        if what == "definition":
            return "/workflow", {"id": self.name, "version": str(number), "tasks": []}
        return "/agent", {**self.registration(), "metadata": {"number": number}}

    def registration(self) -> dict[str, Any]:
        """What it registers as."""
        return {"agentId": self.name}

    def _taken(self, answer: tuple[int, Any], *statuses: int) -> bool:
        """Return whether the answer has one of these statuses; any other is a surprise, unless it refuses for now."""
        status, document = answer
        if status in statuses:
            return True
        if status not in (409, 503):
            self.ledger.surprise(f"{self.name} was answered {status}: {document}")
        return False


class Customer(Client):
    """Triggers runs, each under a key, and now and then repeats a trigger."""

    def __init__(self, name: str, ledger: Ledger, seed: str) -> None:
        super().__init__(name, ledger, seed)
        self._order: Order | None = None
        self._saved = False
        self.closed = threading.Event()
        """Set when nothing new is to be ordered."""

    @property
    def waits(self) -> bool:
        """Whether an order is not answered yet."""
        return self._order is not None

    def act(self, wire: Wire, over: threading.Event) -> None:
        """Order something."""
        if not self._saved:
            # The same content again changes nothing.
            self._saved = all(self._taken(wire.post("/workflow", workflow), 201) for workflow in WORKFLOWS)
            return
        if self._order is None and self.closed.is_set():
            over.wait(0.05)
            return
        earlier = self.ledger.some_order(self.rng) if self._order is None and self.rng.random() < 0.1 else None
        if earlier is not None:
            self._trigger(wire, earlier)
        else:
            if self._order is None:
                self._order = self._next()
                self.ledger.order(self._order)
            if self._trigger(wire, self._order):
                self._order = None
        over.wait(self.rng.uniform(0.0, 0.1))

    def _next(self) -> Order:
        """An order by a saved workflow's id, or for an agent and with the workflow in it."""
        workflow = self.rng.choice(WORKFLOWS)
        clerk = self.rng.choice(CLERKS)
        if self.rng.random() < 0.7 or not self.ledger.is_known(f"agent:{clerk}"):
            return Order(key=uuid.uuid4().hex, workflow_id=workflow["id"])
        # Each has a unique content and name.
        name = f"inline-{uuid.uuid4().hex[:8]}"
        return Order(key=uuid.uuid4().hex, workflow_id=name, agent_id=clerk, document={**workflow, "id": name})

    def _trigger(self, wire: Wire, order: Order) -> bool:
        answer = wire.post(order.path, order.body, **{"Idempotency-Key": order.key})
        taken = self._taken(answer, 202)
        if taken:
            self.ledger.ordered(order, answer[1]["sessionId"])
        elif answer[0] == 409:
            self.ledger.surprise(f"order {order.key} was answered {answer[1]}")
        return taken


class Clerk(Client):
    """Overwrites its registration, its state and a definition again and again."""

    def act(self, wire: Wire, over: threading.Event) -> None:
        """Overwrite something."""
        known = self.ledger.is_known(f"agent:{self.name}")
        what = self.rng.choice(["agent", "state", "definition"]) if known else "agent"
        waiting = sorted(self._again)
        # An unanswered write is repeated first, so that no other version overtakes it.
        self.overwrite(wire, waiting[0].partition(":")[0] if waiting else what)
        over.wait(self.rng.uniform(0.0, 0.06))


class Agent(Client):
    """Does work, in every way in which an agent may end an attempt."""

    def __init__(self, name: str, ledger: Ledger, seed: str) -> None:
        super().__init__(name, ledger, seed)
        self.forgetful = name.endswith("-0")
        """Whether it may forget an attempt; only some may, because the lease then has to expire."""
        self.careful = threading.Event()
        """Set when nothing more is to go wrong."""

    def keep_registered(self, wire: Wire) -> bool:
        """Register at first, and again now and then; return whether it did."""
        if self.ledger.is_known(f"agent:{self.name}") and self.rng.random() >= 0.02:
            return False
        self.overwrite(wire, "agent")
        return True

    def end(self, wire: Wire, work: Work) -> bool:
        """Show life or not, then complete or fail the attempt; return whether it is over."""
        drawn = self.rng.random()
        if drawn < 0.5 and not work.heartbeat:
            self._heartbeat(wire, work)
        if drawn < 0.1 and not self.careful.is_set():
            self._fail(wire, work)
        else:
            self._complete(wire, work)
        return work.failed or work.over or work.completed is not None

    def _heartbeat(self, wire: Wire, work: Work) -> None:
        if self._taken(wire.post(f"/task/{work.task_id}/heartbeat", {"attempt": work.attempt}), 200):
            work.heartbeat = True
            self.ledger.noted()

    def _fail(self, wire: Wire, work: Work) -> None:
        document = {"attempt": work.attempt, "error": "drawn to fail", "retryable": self.rng.random() < 0.9}
        answer = wire.post(f"/task/{work.task_id}/fail", document)
        if self._taken(answer, 200):
            work.failed = True
            self.ledger.noted()
        else:
            work.over = answer[0] == 409

    def _complete(self, wire: Wire, work: Work) -> None:
        result = self.ledger.trying(work)
        answer = wire.post(f"/task/{work.task_id}/complete", {"attempt": work.attempt, "result": result})
        if self._taken(answer, 200):
            self.ledger.completed(work, result)
        else:
            work.over = answer[0] == 409

    def report(self, wire: Wire, state: str, **details: Any) -> bool:
        """Report a state."""
        document = {"agentId": self.name, "timestamp": "2026-01-01T00:00:00Z", "state": state, "details": details}
        taken = self._taken(wire.post(f"/agent/{self.name}/state", document), 202)
        if taken:
            self.ledger.noted()
        return taken


class Claimer(Agent):
    """Claims work; it may forget an attempt, or register again in the middle of one."""

    def __init__(self, name: str, ledger: Ledger, seed: str) -> None:
        super().__init__(name, ledger, seed)
        self._claim_id: str | None = None
        self._work: Work | None = None

    def registration(self) -> dict[str, Any]:
        """What it registers as."""
        return {"agentId": self.name, "capabilities": [CLAIMED]}

    def act(self, wire: Wire, over: threading.Event) -> None:
        """Ask for work, or do it."""
        self.keep_registered(wire)
        if self._work is None:
            self._claim(wire)
        if self._work is not None and (self._is_lost(wire, self._work) or self.end(wire, self._work)):
            self._work = None

    def _claim(self, wire: Wire) -> None:
        # The same claim is repeated until it is answered, so that it gets the same attempt if it got one before.
        self._claim_id = self._claim_id or uuid.uuid4().hex
        answer = wire.post(f"/agent/{self.name}/claim?waitSeconds={CLAIM_WAIT_S}", {"claimId": self._claim_id})
        if not self._taken(answer, 200, 204):
            return
        self._claim_id = None
        if answer[1] is not None:
            self.ledger.noted()
            task = answer[1]["task"]
            self._work = self.ledger.handed(task["taskId"], answer[1]["attempt"], self.name, task["input"])

    def _is_lost(self, wire: Wire, work: Work) -> bool:
        """Return whether the agent abandons this attempt, by forgetting it or by a report that ends it."""
        if self.careful.is_set():
            return False
        drawn = self.rng.random()
        if self.forgetful and drawn < 0.04:
            return True
        if drawn < 0.97:
            return False
        work.over = self.report(wire, "initializing")
        return work.over
