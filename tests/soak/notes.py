"""The notes that the clients of a soak share: counts, recent runs, durations and surprises, all of them bounded."""

import random
import threading
import time
from collections import Counter, deque
from typing import Any, Final

RECENT_MAX: Final = 20
SURPRISES_MAX: Final = 50
LATENCIES_MAX: Final = 20_000


class Notes:
    """Notes that are shared by the threads of all clients."""

    def __init__(self) -> None:
        self.calm = threading.Event()
        """Set when nothing new is to begin."""
        self.over = threading.Event()
        """Set when everyone is to stop."""
        self.away = threading.Event()
        """Set while the server is killed and restarted; connections that break then are no surprise."""
        self.surprises: list[str] = []
        self._lock = threading.Lock()
        self._counts: Counter[str] = Counter()
        self._recent: deque[str] = deque(maxlen=RECENT_MAX)
        self._latencies: dict[str, deque[tuple[float, float]]] = {}

    def count(self, what: str, number: int = 1) -> None:
        """Count an action."""
        with self._lock:
            self._counts[what] += number

    def counted(self) -> Counter[str]:
        """Return the counts so far."""
        with self._lock:
            return Counter(self._counts)

    def began(self, session_id: str, kind: str) -> None:
        """Note a triggered run."""
        with self._lock:
            self._counts["runs"] += 1
            self._counts[f"runs of {kind}"] += 1
            self._recent.append(session_id)

    def some_run(self, rng: random.Random) -> str | None:
        """Return one of the runs that began recently."""
        with self._lock:
            return rng.choice(self._recent) if self._recent else None

    def took(self, what: str, seconds: float) -> None:
        """Note how long an action took."""
        with self._lock:
            found = self._latencies.setdefault(what, deque(maxlen=LATENCIES_MAX))
            found.append((time.monotonic(), seconds))

    def latencies(self, what: str, *, since: float) -> list[float]:
        """Return the durations of an action since a time of the monotonic clock."""
        with self._lock:
            return [seconds for at, seconds in self._latencies.get(what, ()) if at >= since]

    def surprise(self, text: str) -> None:
        """Note something that should not have happened."""
        with self._lock:
            if len(self.surprises) < SURPRISES_MAX:
                self.surprises.append(text)

    def expect(self, whose: str, answer: tuple[int, Any], *statuses: int) -> bool:
        """Return whether the answer has the first of these statuses; an answer with none of them is a surprise.

        Any call may be refused for now, and an agent that shares its id with others may get any answer.
        """
        status, document = answer
        if status not in statuses and status not in (409, 503):
            self.surprise(f"{whose} was answered {status}: {document}")
        return status == statuses[0]
