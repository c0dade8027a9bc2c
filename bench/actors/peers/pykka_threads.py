"""Pykka: a `ThreadingActor` is a thread with an unbounded queue; `tell`, and `ask` with a blocking `get`.

Askers are threads too. The clock of `spawn` and the growth of `idle` include every actor's thread.
"""

import threading
from typing import Any

import pykka

from bench.actors.footprint import Footprint, Growth
from bench.actors.messages import ADD, GET_COUNT, TOKEN, Add, Flood, GetCount, Token
from bench.actors.peer import Outcome, Peer, Stopwatch, Tally


class Counter(pykka.ThreadingActor):
    use_daemon_thread = True

    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def on_receive(self, message: Any) -> int | None:
        if isinstance(message, Add):
            self.count += message.amount
            return self.count
        if isinstance(message, GetCount):
            return self.count
        return None


class SharedTally(Tally):
    """A tally that many threads count on."""

    def __init__(self, expected: int) -> None:
        self.complete = threading.Event()
        self._lock = threading.Lock()
        super().__init__(expected, self.complete.set)

    def count(self) -> None:
        with self._lock:
            super().count()


class TalliedCounter(Counter):
    def __init__(self, started: SharedTally, handled: SharedTally) -> None:
        super().__init__()
        self.started, self.handled = started, handled

    def on_start(self) -> None:
        self.started.count()

    def on_receive(self, message: Any) -> int | None:
        count = super().on_receive(message)
        self.handled.count()
        return count


class Node(pykka.ThreadingActor):
    use_daemon_thread = True
    following: pykka.ActorRef["Node"]

    def __init__(self, laps: int, ended: threading.Event) -> None:
        super().__init__()
        self.passed = 0
        self.laps = laps
        self.ended = ended

    def on_receive(self, message: Any) -> int | None:
        if isinstance(message, Token):
            self.passed += 1
            if self.passed == self.laps:
                self.ended.set()
            else:
                self.following.tell(message)
        elif isinstance(message, GetCount):
            return self.passed
        elif isinstance(message, pykka.ActorRef):
            self.following = message
        return None


class Sender(pykka.ThreadingActor):
    use_daemon_thread = True

    def __init__(self, counter: pykka.ActorRef[Counter]) -> None:
        super().__init__()
        self.counter = counter

    def on_receive(self, message: Any) -> None:
        if isinstance(message, Flood):
            counter = self.counter
            for _ in range(message.messages):
                counter.tell(ADD)


class PykkaPeer(Peer):
    def tell(self, messages: int) -> Outcome:
        counter = Counter.start()
        counter.ask(GET_COUNT)
        stopwatch = Stopwatch()
        for _ in range(messages):
            counter.tell(ADD)
        return _stopped(stopwatch.stop(_count(counter)))

    def ask(self, asks: int, askers: int) -> Outcome:
        def ask_again() -> None:
            for _ in range(asks // askers):
                counter.ask(ADD)

        counter = Counter.start()
        counter.ask(GET_COUNT)
        stopwatch = Stopwatch()
        if askers == 1:
            ask_again()
        else:
            threads = [threading.Thread(target=ask_again) for _ in range(askers)]
            for thread in threads:
                thread.start()
            for thread in threads:
                thread.join()
        return _stopped(stopwatch.stop(_count(counter)))

    def ring(self, laps: int, nodes: int) -> Outcome:
        ended = threading.Event()
        ring = [*(Node.start(laps + 1, ended) for _ in range(nodes - 1)), Node.start(laps, ended)]
        for node, following in zip(ring, (*ring[1:], ring[0]), strict=True):
            node.ask(following)
        stopwatch = Stopwatch()
        ring[0].tell(TOKEN)
        ended.wait()
        outcome = stopwatch.stop(0)
        return _stopped(Outcome(seconds=outcome.seconds, handled=sum(_count(node) for node in ring)))

    def fan_in(self, messages: int, senders: int) -> Outcome:
        counter = Counter.start()
        refs = [Sender.start(counter) for _ in range(senders)]
        counter.ask(GET_COUNT)
        flood = Flood(messages // senders)
        stopwatch = Stopwatch()
        pykka.get_all([ref.ask(flood, block=False) for ref in refs])
        return _stopped(stopwatch.stop(_count(counter)))

    def spawn(self, actors: int) -> Outcome:
        started, handled = SharedTally(actors), SharedTally(actors)
        stopwatch = Stopwatch()
        for _ in range(actors):
            TalliedCounter.start(started, handled).tell(ADD)
        handled.complete.wait()
        return stopwatch.stop(handled.counted)

    def idle(self, actors: int, footprint: Footprint) -> Growth:
        started, handled = SharedTally(actors), SharedTally(actors)
        footprint.mark()
        refs = [TalliedCounter.start(started, handled) for _ in range(actors)]
        started.complete.wait()
        started_bytes = footprint.growth()
        for ref in refs:
            ref.tell(ADD)
        handled.complete.wait()
        return Growth(started_bytes=started_bytes, handled_bytes=footprint.growth(), handled=handled.counted)


def _count(actor: pykka.ActorRef[Any]) -> int:
    count: int = actor.ask(GET_COUNT, block=True)
    return count


def _stopped(outcome: Outcome) -> Outcome:
    pykka.ActorRegistry.stop_all()
    return outcome
