"""What the clients know: everything they sent, and everything that was acknowledged.

It lives outside the server, so that no kill affects it. Clients note what they do before they send it and after they
are answered. What was sent and not answered may have happened or not, but only as a whole.
"""

import random
import threading
from collections.abc import Hashable
from typing import Any, Final

import attrs

RECENT: Final = 15
"""The number of newest acknowledgements, and of random ones, that are checked after a restart."""


@attrs.define
class Order:
    """A trigger under an idempotency key."""

    key: str
    workflow_id: str
    agent_id: str | None = None
    """Whether it is ordered for an agent, with the workflow in the request."""
    document: dict[str, Any] | None = None
    """That workflow."""
    session_id: str | None = None
    """Acknowledged."""

    @property
    def path(self) -> str:
        """Where it is sent."""
        if self.agent_id is None:
            return f"/workflow/{self.workflow_id}/trigger"
        return f"/agent/{self.agent_id}/workflow"

    @property
    def payload(self) -> dict[str, str]:
        """What the run works on: it names the order, so that a session shows whose it is."""
        return {"order": self.key}

    @property
    def body(self) -> dict[str, Any]:
        """The request."""
        inline = {} if self.document is None else {"workflowDefinition": self.document}
        return {"initialPayload": self.payload, **inline}


@attrs.define
class Work:
    """An attempt, as the agent that was handed it knows it."""

    task_id: str
    attempt: int
    agent_id: str
    order_key: str
    tries: list[str] = attrs.field(factory=list)
    """The results that were sent; each try to complete has its own."""
    completed: str | None = None
    """The result that was acknowledged."""
    completed_in: int = 0
    """The life of the server in which it was acknowledged."""
    failed: bool = False
    """Whether a failure was acknowledged."""
    heartbeat: bool = False
    """Whether a heartbeat was acknowledged."""
    over: bool = False
    """Whether the attempt is known to have ended: a late answer was refused, or a report that ends it was accepted."""


@attrs.define
class Numbered:
    """A row that is overwritten again and again, each time with the next number."""

    sent: int = 0
    acknowledged: int = 0


class Ledger:
    """Everything that the clients of a data directory sent and were answered; its methods are thread-safe."""

    def __init__(self) -> None:
        self.orders: dict[str, Order] = {}
        self.works: dict[tuple[str, int], Work] = {}
        self.numbers: dict[str, Numbered] = {}
        self.surprises: list[str] = []
        """The answers that no client should have got."""
        self.accepted = 0
        """The number of acknowledged operations."""
        self.lives = 0
        """Of the server, so far."""
        self._fresh: list[Hashable] = []
        self._lock = threading.Lock()

    def order(self, order: Order) -> None:
        """A trigger is about to be sent."""
        with self._lock:
            self.orders[order.key] = order

    def ordered(self, order: Order, session_id: str) -> None:
        """A trigger was answered."""
        with self._lock:
            # A repeated trigger only reads what is there, and counts as no new operation.
            self.accepted += order.session_id is None
            if order.session_id not in (None, session_id):
                self.surprises.append(f"order {order.key} started {order.session_id}, and when repeated {session_id}")
            order.session_id = order.session_id or session_id
            self._fresh.append(order.key)

    def handed(self, task_id: str, attempt: int, agent_id: str, payload: Any) -> Work:
        """An agent was handed an attempt, possibly again."""
        with self._lock:
            order_key = payload.get("order") if isinstance(payload, dict) else None
            if order_key not in self.orders:
                self.surprises.append(
                    f"{agent_id} was handed {task_id} with the payload {payload!r}, which nobody sent"
                )
            fresh = Work(task_id=task_id, attempt=attempt, agent_id=agent_id, order_key=str(order_key))
            work = self.works.setdefault((task_id, attempt), fresh)
            if work.agent_id != agent_id:
                self.surprises.append(f"attempt {attempt} of {task_id} was handed to {work.agent_id} and to {agent_id}")
            # A push that is repeated after a restart may arrive after the report that ends its attempt.
            if work.completed is not None and self.lives > work.completed_in + 1:
                self.surprises.append(f"attempt {attempt} of {task_id} was handed out after its completion was taken")
            return work

    def trying(self, work: Work) -> str:
        """A completion is about to be sent; returns its result."""
        with self._lock:
            result = f"{work.agent_id} attempt {work.attempt} try {len(work.tries) + 1}"
            work.tries.append(result)
            return result

    def completed(self, work: Work, result: str) -> None:
        """A completion was answered."""
        with self._lock:
            self.accepted += 1
            if work.completed is not None:
                self.surprises.append(f"attempt {work.attempt} of {work.task_id} was completed twice")
            work.completed, work.completed_in = result, self.lives
            self._fresh.append((work.task_id, work.attempt))

    def number(self, name: str, *, again: bool) -> int:
        """Something is about to be overwritten, or to be sent again; returns its number."""
        with self._lock:
            numbered = self.numbers.setdefault(name, Numbered())
            if not again:
                numbered.sent += 1
            return numbered.sent

    def numbered(self, name: str, number: int) -> None:
        """An overwriting was answered."""
        with self._lock:
            self.accepted += 1
            self.numbers[name].acknowledged = number

    def is_known(self, name: str) -> bool:
        """Whether something has been written at least once."""
        with self._lock:
            numbered = self.numbers.get(name)
            return numbered is not None and numbered.acknowledged > 0

    def noted(self) -> None:
        """Something else was acknowledged."""
        with self._lock:
            self.accepted += 1

    def surprise(self, what: str) -> None:
        """A client got an answer that it should not have got."""
        with self._lock:
            self.surprises.append(what)

    def to_ask_for(self, rng: random.Random) -> tuple[list[Order], list[Work]]:
        """Return what to look for through the API after a restart: the newest acknowledgements, and random ones."""
        with self._lock:
            newest, self._fresh = self._fresh[-RECENT:], []
            known = [order for order in self.orders.values() if order.session_id is not None]
            done = [work for work in self.works.values() if work.completed is not None]
            orders = [self.orders[each] for each in newest if isinstance(each, str)]
            works = [self.works[each] for each in newest if isinstance(each, tuple)]
        return (
            orders + rng.sample(known, min(RECENT // 3, len(known))),
            works + rng.sample(done, min(RECENT // 3, len(done))),
        )

    def some_order(self, rng: random.Random) -> Order | None:
        """One of the orders that were acknowledged."""
        with self._lock:
            known = [order for order in self.orders.values() if order.session_id is not None]
        return rng.choice(known) if known else None
