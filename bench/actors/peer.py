"""The workloads that every peer of the comparison implements, so that all of them do the same work.

A counter adds up the `Add`s that it gets and answers `GetCount`. A node passes a token on to the next. A sender that is
told to flood sends a counter a number of messages. A method creates its actors, starts the clock, does its work, stops
the clock once everything is handled, and returns the time and the number of messages that the actors say they handled.
A measurement ends with a reply that comes after all messages, or with the last message itself, never with the last
`tell`. Messages are immutable values created beforehand, so that only passing them on is measured.
"""

import time
from abc import ABC, abstractmethod
from collections.abc import Callable

import attrs

from bench.actors.footprint import Footprint, Growth

CAPACITY = 1024
"""Capacity of the mailboxes at which senders wait for room."""


@attrs.frozen(kw_only=True)
class Outcome:
    """The outcome of one run of a workload."""

    seconds: float
    handled: int
    """Messages that the actors counted."""


class Stopwatch:
    """A clock that starts when it is created."""

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
        """A number of askers ask one counter at the same time; each asks again once it has its reply."""

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
        """Start counters and note the growth; tell each one message, and note the growth once they are idle again."""
