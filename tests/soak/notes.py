"""What the clients of a soak share: what they count, whom they steer, and what surprised them. All of it is bounded."""

import random
import threading
import time
from collections import Counter, deque
from typing import Any, Final

RECENT_MAX: Final = 20
SURPRISES_MAX: Final = 50
LATENCIES_MAX: Final = 20_000


class Notes:
    """Shared by the threads of all clients."""

    def __init__(self) -> None:
        self.calm = threading.Event()
        """Set when nothing new is to begin."""
        self.over = threading.Event()
        """Set when everyone is to stop."""
        self.away = threading.Event()
        """Set while the server is killed and started again: what breaks then is no surprise."""
        self.surprises: list[str] = []
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._recent: deque[str] = deque(maxlen=RECENT_MAX)
        self._latencies: dict[str, deque[tuple[float, float]]] = {}

    def count(self, what: str, number: int = 1) -> None:
        """Something was done."""
        with self._lock:
            self._counts[what] += number

    def counted(self) -> Counter[str]:
        """What was done so far."""
        with self._lock:
            return Counter(self._counts)

    def began(self, session_id: str, kind: str) -> None:
        """A run was triggered."""
        with self._lock:
            self._counts["runs"] += 1
            self._counts[f"runs of {kind}"] += 1
            self._recent.append(session_id)

    def some_run(self, rng: random.Random) -> str | None:
        """One of the runs that were begun lately."""
        with self._lock:
            return rng.choice(self._recent) if self._recent else None

    def took(self, what: str, seconds: float) -> None:
        """Something took so long."""
        with self._lock:
            found = self._latencies.setdefault(what, deque(maxlen=LATENCIES_MAX))
            found.append((time.monotonic(), seconds))

    def latencies(self, what: str, *, since: float) -> list[float]:
        """How long it took, each time it was done since then, by the monotonic clock."""
        with self._lock:
            return [seconds for at, seconds in self._latencies.get(what, ()) if at >= since]

    def surprise(self, text: str) -> None:
        """Something happened that should not have."""
        with self._lock:
            if len(self.surprises) < SURPRISES_MAX:
                self.surprises.append(text)

    def expect(self, whose: str, answer: tuple[int, Any], *statuses: int) -> bool:
        """Whether the answer is the first of these; any that is none of them is a surprise.

        Refused for now is what any call may be, and one of several agents under one id may be told anything.
        """
        status, document = answer
        if status not in statuses and status not in (409, 503):
            self.surprise(f"{whose} was answered {status}: {document}")
        return status == statuses[0]
