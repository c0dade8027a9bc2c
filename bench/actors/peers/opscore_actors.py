"""opscore: an actor a child of one supervisor, typed messages; `tell` where nothing waits for room, else `send`.

Handlers are plain functions, because none of them waits; the workloads ending in `_async` have async ones.
"""

from collections.abc import Callable
from functools import partial

import attrs
import trio

from bench.actors.footprint import Footprint, Growth
from bench.actors.peer import CAPACITY, Outcome, Peer, Stopwatch, Tally
from opscore.actors.actor import Actor, handles
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.spec import ChildSpec, SupervisorSpec
from opscore.actors.system import System, open_system

ROOT = SupervisorSpec(name="root")


@attrs.frozen(kw_only=True)
class Add(Message["Counter", int]):
    amount: int


@attrs.frozen(kw_only=True)
class GetCount(Message["Counter", int]):
    pass


@attrs.frozen(kw_only=True)
class Report(Message["Counter", None]):
    """As `GetCount` for one who waits for room: an ask does not."""

    to: trio.MemorySendChannel[int]


@attrs.frozen(kw_only=True)
class Connect(Message["Node", None]):
    following: Ref["Node"]


@attrs.frozen(kw_only=True)
class Token(Message["Node", None]):
    pass


@attrs.frozen(kw_only=True)
class GetPassed(Message["Node", int]):
    pass


@attrs.frozen(kw_only=True)
class Flood(Message["Sender", None]):
    messages: int


ADD, GET_COUNT, TOKEN, GET_PASSED = Add(amount=1), GetCount(), Token(), GetPassed()


class Counter(Actor["Counter"]):
    def __init__(self) -> None:
        self.count = 0

    @handles(Add)
    def add(self, message: Add) -> int:
        self.count += message.amount
        return self.count

    @handles(GetCount)
    def get_count(self, message: GetCount) -> int:
        return self.count

    @handles(Report)
    def report(self, message: Report) -> None:
        message.to.send_nowait(self.count)


class AsyncCounter(Actor["Counter"]):
    def __init__(self) -> None:
        self.count = 0

    @handles(Add)
    async def add(self, message: Add) -> int:
        self.count += message.amount
        return self.count

    @handles(GetCount)
    async def get_count(self, message: GetCount) -> int:
        return self.count


class TalliedCounter(Counter):
    def __init__(self, started: Tally, handled: Tally) -> None:
        super().__init__()
        self.started, self.handled = started, handled

    async def on_start(self) -> None:
        self.started.count()

    def add(self, message: Add) -> int:
        self.count += message.amount
        self.handled.count()
        return self.count


class Node(Actor["Node"]):
    following: Ref["Node"]

    def __init__(self, laps: int, on_end: Callable[[], None]) -> None:
        self.passed = 0
        self.laps = laps
        self.on_end = on_end

    @handles(Connect)
    def connect(self, message: Connect) -> None:
        self.following = message.following

    @handles(Token)
    def pass_on(self, message: Token) -> None:
        self.passed += 1
        if self.passed == self.laps:
            self.on_end()
        else:
            self.following.tell(message)

    @handles(GetPassed)
    def get_passed(self, message: GetPassed) -> int:
        return self.passed


class Sender(Actor["Sender"]):
    def __init__(self, counter: Ref[Counter], *, waits: bool) -> None:
        self.counter = counter
        self.waits = waits

    @handles(Flood)
    async def flood(self, message: Flood) -> None:
        counter = self.counter
        if self.waits:
            for _ in range(message.messages):
                await counter.send(ADD)
        else:
            for _ in range(message.messages):
                counter.tell(ADD)


class OpscorePeer(Peer):
    def tell(self, messages: int) -> Outcome:
        return trio.run(_tell, messages, Counter)

    def tell_async(self, messages: int) -> Outcome:
        return trio.run(_tell, messages, AsyncCounter)

    def send(self, messages: int) -> Outcome:
        return trio.run(_send, messages)

    def ask(self, asks: int, askers: int) -> Outcome:
        return trio.run(_ask, asks, askers, Counter)

    def ask_async(self, asks: int, askers: int) -> Outcome:
        return trio.run(_ask, asks, askers, AsyncCounter)

    def ring(self, laps: int, nodes: int) -> Outcome:
        return trio.run(_ring, laps, nodes)

    def fan_in(self, messages: int, senders: int) -> Outcome:
        return trio.run(_fan_in, messages, senders)

    def fan_in_send(self, messages: int, senders: int) -> Outcome:
        return trio.run(_fan_in_send, messages, senders)

    def spawn(self, actors: int) -> Outcome:
        return trio.run(_spawn, actors)

    def idle(self, actors: int, footprint: Footprint) -> Growth:
        return trio.run(_idle, actors, footprint)


def _start_counter(system: System, capacity: int, factory: Callable[[], Actor[Counter]] = Counter) -> Ref[Counter]:
    mailbox = MailboxSpec(capacity=capacity)
    return system.supervisor("/").start_child(ChildSpec(name="counter", factory=factory, mailbox=mailbox))


async def _tell(messages: int, factory: Callable[[], Actor[Counter]]) -> Outcome:
    async with open_system(ROOT) as system:
        counter = _start_counter(system, messages + 1, factory)
        await counter.ask(GET_COUNT)
        stopwatch = Stopwatch()
        for _ in range(messages):
            counter.tell(ADD)
        return stopwatch.stop(await counter.ask(GET_COUNT))


async def _send(messages: int) -> Outcome:
    to, counted = trio.open_memory_channel[int](1)
    async with open_system(ROOT) as system:
        counter = _start_counter(system, CAPACITY)
        await counter.ask(GET_COUNT)
        stopwatch = Stopwatch()
        for _ in range(messages):
            await counter.send(ADD)
        await counter.send(Report(to=to))
        return stopwatch.stop(await counted.receive())


async def _ask(asks: int, askers: int, factory: Callable[[], Actor[Counter]]) -> Outcome:
    async def ask_again(counter: Ref[Counter]) -> None:
        for _ in range(asks // askers):
            await counter.ask(ADD)

    async with open_system(ROOT) as system:
        counter = _start_counter(system, CAPACITY, factory)
        await counter.ask(GET_COUNT)
        stopwatch = Stopwatch()
        if askers == 1:
            await ask_again(counter)
        else:
            async with trio.open_nursery() as nursery:
                for _ in range(askers):
                    nursery.start_soon(ask_again, counter)
        return stopwatch.stop(await counter.ask(GET_COUNT))


async def _ring(laps: int, nodes: int) -> Outcome:
    async with open_system(ROOT) as system:
        supervisor = system.supervisor("/")
        ended = trio.Event()
        specs = [ChildSpec(name=f"node-{i}", factory=partial(Node, laps + 1, ended.set)) for i in range(1, nodes)]
        last = ChildSpec(name="node-last", factory=partial(Node, laps, ended.set))
        refs = [supervisor.start_child(spec) for spec in (*specs, last)]
        for ref, following in zip(refs, (*refs[1:], refs[0]), strict=True):
            await ref.ask(Connect(following=following))
        stopwatch = Stopwatch()
        refs[0].tell(TOKEN)
        await ended.wait()
        outcome = stopwatch.stop(0)
        return attrs.evolve(outcome, handled=sum([await ref.ask(GET_PASSED) for ref in refs]))


async def _fan_in(messages: int, senders: int) -> Outcome:
    async with open_system(ROOT) as system:
        counter = _start_counter(system, messages + 1)
        refs = _start_senders(system, counter, senders, waits=False)
        await counter.ask(GET_COUNT)
        stopwatch = Stopwatch()
        await _flood(refs, messages)
        return stopwatch.stop(await counter.ask(GET_COUNT))


async def _fan_in_send(messages: int, senders: int) -> Outcome:
    to, counted = trio.open_memory_channel[int](1)
    async with open_system(ROOT) as system:
        counter = _start_counter(system, CAPACITY)
        refs = _start_senders(system, counter, senders, waits=True)
        await counter.ask(GET_COUNT)
        stopwatch = Stopwatch()
        await _flood(refs, messages)
        await counter.send(Report(to=to))
        return stopwatch.stop(await counted.receive())


def _start_senders(system: System, counter: Ref[Counter], senders: int, *, waits: bool) -> list[Ref[Sender]]:
    factory = partial(Sender, counter, waits=waits)
    supervisor = system.supervisor("/")
    return [supervisor.start_child(ChildSpec(name=f"sender-{i}", factory=factory)) for i in range(senders)]


async def _flood(senders: list[Ref[Sender]], messages: int) -> None:
    flood = Flood(messages=messages // len(senders))
    async with trio.open_nursery() as nursery:
        for sender in senders:
            nursery.start_soon(sender.ask, flood)


async def _spawn(actors: int) -> Outcome:
    async with open_system(ROOT) as system:
        supervisor = system.supervisor("/")
        ended = trio.Event()
        started, handled = Tally(actors, bool), Tally(actors, ended.set)
        factory = partial(TalliedCounter, started, handled)
        stopwatch = Stopwatch()
        for i in range(actors):
            supervisor.start_child(ChildSpec(name=f"counter-{i}", factory=factory)).tell(ADD)
        await ended.wait()
        return stopwatch.stop(handled.counted)


async def _idle(actors: int, footprint: Footprint) -> Growth:
    async with open_system(ROOT) as system:
        supervisor = system.supervisor("/")
        all_started, all_handled = trio.Event(), trio.Event()
        started, handled = Tally(actors, all_started.set), Tally(actors, all_handled.set)
        factory = partial(TalliedCounter, started, handled)
        footprint.mark()
        refs = [supervisor.start_child(ChildSpec(name=f"counter-{i}", factory=factory)) for i in range(actors)]
        await all_started.wait()
        await _settle()
        started_bytes = footprint.growth()
        for ref in refs:
            ref.tell(ADD)
        await all_handled.wait()
        await _settle()
        return Growth(started_bytes=started_bytes, handled_bytes=footprint.growth(), handled=handled.counted)


async def _settle() -> None:
    """Let every actor come to rest in its mailbox."""
    for _ in range(10):
        await trio.lowlevel.checkpoint()
