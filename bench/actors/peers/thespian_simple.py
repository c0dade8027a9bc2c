"""Thespian on its `simpleSystemBase`: one thread, the system's own loop calls one actor after the other.

The other bases give every actor a process of its own, and messages per second between processes compare with
nothing else here. On this base a `tell` from outside returns once everything that follows from it was handled,
so `tell` queues nothing, and the askers of `ask100` are actors, started by one of them.
"""

from typing import Any

from thespian.actors import Actor, ActorAddress, ActorSystem

from bench.actors.footprint import Footprint, Growth
from bench.actors.messages import ADD, GET_COUNT, TOKEN, Add, Flood, GetCount, Token
from bench.actors.peer import Outcome, Peer, Stopwatch


class Counter(Actor):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        if isinstance(message, Add):
            self.count += message.amount
        elif isinstance(message, GetCount):
            self.send(sender, self.count)


class AnsweringCounter(Counter):
    """Answers every `Add`, as an ask needs."""

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        super().receiveMessage(message, sender)
        if isinstance(message, Add):
            self.send(sender, self.count)


class Node(Actor):
    following: ActorAddress
    laps: int

    def __init__(self) -> None:
        super().__init__()
        self.passed = 0

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        if isinstance(message, Token):
            self.passed += 1
            if self.passed != self.laps:
                self.send(self.following, message)
        elif isinstance(message, GetCount):
            self.send(sender, self.passed)
        elif isinstance(message, tuple):
            self.following, self.laps = message


class Sender(Actor):
    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        if isinstance(message, tuple):
            counter, flood = message
            for _ in range(flood.messages):
                self.send(counter, ADD)
            self.send(sender, True)


class Asker(Actor):
    """Asks the counter until it has had its share of replies."""

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        if isinstance(message, tuple):
            self.starter = sender
            self.counter, self.left = message
            self.send(self.counter, ADD)
        elif isinstance(message, int):
            self.left -= 1
            self.send(*((self.counter, ADD) if self.left else (self.starter, True)))


class Starter(Actor):
    """Gives many actors their first message at once, and answers when each of them has answered."""

    def receiveMessage(self, message: Any, sender: Any) -> None:  # noqa: N802
        if isinstance(message, tuple):
            refs, order = message
            self.asked, self.left = sender, len(refs)
            for ref in refs:
                self.send(ref, order)
        elif isinstance(message, bool):
            self.left -= 1
            if not self.left:
                self.send(self.asked, True)


class ThespianPeer(Peer):
    def __init__(self) -> None:
        self.system = ActorSystem("simpleSystemBase", logDefs=False)

    def tell(self, messages: int) -> Outcome:
        counter = self.system.createActor(Counter)
        stopwatch = Stopwatch()
        for _ in range(messages):
            self.system.tell(counter, ADD)
        return stopwatch.stop(self.system.ask(counter, GET_COUNT))

    def ask(self, asks: int, askers: int) -> Outcome:
        counter = self.system.createActor(AnsweringCounter)
        if askers == 1:
            stopwatch = Stopwatch()
            for _ in range(asks):
                self.system.ask(counter, ADD)
        else:
            refs = [self.system.createActor(Asker) for _ in range(askers)]
            stopwatch = Stopwatch()
            self._start(refs, (counter, asks // askers))
        return stopwatch.stop(self.system.ask(counter, GET_COUNT))

    def ring(self, laps: int, nodes: int) -> Outcome:
        ring = [self.system.createActor(Node) for _ in range(nodes)]
        for node, following in zip(ring, (*ring[1:], ring[0]), strict=True):
            self.system.tell(node, (following, laps if node is ring[-1] else laps + 1))
        stopwatch = Stopwatch()
        self.system.tell(ring[0], TOKEN)
        outcome = stopwatch.stop(0)
        return Outcome(seconds=outcome.seconds, handled=sum(self.system.ask(node, GET_COUNT) for node in ring))

    def fan_in(self, messages: int, senders: int) -> Outcome:
        counter = self.system.createActor(Counter)
        refs = [self.system.createActor(Sender) for _ in range(senders)]
        stopwatch = Stopwatch()
        self._start(refs, (counter, Flood(messages // senders)))
        return stopwatch.stop(self.system.ask(counter, GET_COUNT))

    def spawn(self, actors: int) -> Outcome:
        refs = []
        stopwatch = Stopwatch()
        for _ in range(actors):
            counter = self.system.createActor(Counter)
            self.system.tell(counter, ADD)
            refs.append(counter)
        outcome = stopwatch.stop(0)
        return Outcome(seconds=outcome.seconds, handled=sum(self.system.ask(ref, GET_COUNT) for ref in refs))

    def idle(self, actors: int, footprint: Footprint) -> Growth:
        footprint.mark()
        refs = [self.system.createActor(Counter) for _ in range(actors)]
        started_bytes = footprint.growth()
        for ref in refs:
            self.system.tell(ref, ADD)
        handled_bytes = footprint.growth()
        handled = sum(self.system.ask(ref, GET_COUNT) for ref in refs)
        return Growth(started_bytes=started_bytes, handled_bytes=handled_bytes, handled=handled)

    def _start(self, refs: list[ActorAddress], order: tuple[Any, ...]) -> None:
        self.system.ask(self.system.createActor(Starter), (refs, order))
