"""What every peer of the comparison does, so that all of them do the same work.

A counter adds up the `Add`s it is given and answers `GetCount`. A node passes a token on to the next. A sender, told
to flood, gives a counter so many messages. A method sets its actors up, starts the clock, does its work, stops the
clock once everything was handled, and returns how long that took and how much was handled, as the actors tell it:
a reply that comes after all the messages, or the last message itself, ends a measurement, never the last `tell`.
Messages are immutable values made beforehand: what is measured is passing them on.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import attrs

from bench.actors.footprint import Footprint, Growth

CAPACITY = 1024
"""Messages that wait at most where the sender has to wait for room."""


@attrs.frozen(kw_only=True)
class Outcome:
    """What one run of a workload took."""

    seconds: float
    handled: int
    """As the actors counted it."""


class Stopwatch:
    """Starts when it is made."""

    def __init__(self) -> None:
        self._started = time.perf_counter()

    def stop(self, handled: int) -> Outcome:
        return Outcome(seconds=time.perf_counter() - self._started, handled=handled)


class Tally:
    """Counts over many actors of one thread, and calls back once the number is complete."""

    def __init__(self, expected: int, on_complete: Callable[[], object]) -> None:
        self.counted = 0
        self._expected = expected
        self._on_complete = on_complete

    def count(self) -> None:
        self.counted += 1
        if self.counted == self._expected:
            self._on_complete()


class Peer(ABC):
    """One library under all workloads."""

    @abstractmethod
    def tell(self, messages: int) -> Outcome:
        """One sender floods one counter, whose mailbox holds everything."""

    def send(self, messages: int) -> Outcome:
        """As `tell`, but the mailbox holds `CAPACITY` messages, and the sender waits for room."""
        raise NotImplementedError

    @abstractmethod
    def ask(self, asks: int, askers: int) -> Outcome:
        """So many askers at a time ask one counter; each asks again once it has its reply."""

    def tell_async(self, messages: int) -> Outcome:
        """As `tell`, to a handler that could wait."""
        raise NotImplementedError

    def ask_async(self, asks: int, askers: int) -> Outcome:
        """As `ask`, of a handler that could wait."""
        raise NotImplementedError

    @abstractmethod
    def ring(self, laps: int, nodes: int) -> Outcome:
        """One token goes round a ring of nodes."""

    @abstractmethod
    def fan_in(self, messages: int, senders: int) -> Outcome:
        """Each of the senders gives the same counter its share of the messages; its mailbox holds everything."""

    def fan_in_send(self, messages: int, senders: int) -> Outcome:
        """As `fan_in`, but the mailbox holds `CAPACITY` messages, and the senders wait for room."""
        raise NotImplementedError

    @abstractmethod
    def spawn(self, actors: int) -> Outcome:
        """Start counters and tell each of them one message; ends when all have handled theirs."""

    @abstractmethod
    def idle(self, actors: int, footprint: Footprint) -> Growth:
        """Start counters, note the growth; tell each one message, and note it once they are idle again."""
