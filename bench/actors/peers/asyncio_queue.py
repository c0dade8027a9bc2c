"""asyncio.Queue, raw: a task that takes from a queue, and futures for replies; no names, no supervision, no deadlines.

`tell` and `fan_in` put into an unbounded queue without waiting; with `send` the queue is bounded.
"""

import asyncio
from typing import TypeAlias

from bench.actors.footprint import Footprint, Growth
from bench.actors.messages import ADD, TOKEN, Add, Token
from bench.actors.peer import CAPACITY, Outcome, Peer, Stopwatch, Tally


class Question:
    """Asks to add an amount and to reply with the count."""

    __slots__ = ("amount", "reply")

    def __init__(self, amount: int) -> None:
        self.amount = amount
        self.reply: asyncio.Future[int] = asyncio.get_running_loop().create_future()


Mail: TypeAlias = Add | Question


class Counter:
    def __init__(self, *, capacity: int = 0, handled: Tally | None = None) -> None:
        self.count = 0
        self.queue: asyncio.Queue[Mail] = asyncio.Queue(capacity)
        self.handled = handled
        self.task = asyncio.create_task(self.run() if handled is None else self.run_tallied(handled))

    async def run(self) -> None:
        queue = self.queue
        while True:
            mail = await queue.get()
            self.count += mail.amount
            if type(mail) is Question:
                mail.reply.set_result(self.count)

    async def run_tallied(self, handled: Tally) -> None:
        queue = self.queue
        while True:
            mail = await queue.get()
            self.count += mail.amount
            handled.count()

    async def ask(self, amount: int) -> int:
        question = Question(amount)
        # Put waits only for room.
        await self.queue.put(question)
        return await question.reply


class Node:
    def __init__(self, laps: int, ended: asyncio.Event) -> None:
        self.passed = 0
        self.queue: asyncio.Queue[Token] = asyncio.Queue()
        self.following = self
        self.task = asyncio.create_task(self.run(laps, ended))

    async def run(self, laps: int, ended: asyncio.Event) -> None:
        queue = self.queue
        while True:
            token = await queue.get()
            self.passed += 1
            if self.passed == laps:
                ended.set()
            else:
                self.following.queue.put_nowait(token)


class AsyncioQueuePeer(Peer):
    def tell(self, messages: int) -> Outcome:
        return asyncio.run(_tell(messages))

    def send(self, messages: int) -> Outcome:
        return asyncio.run(_send(messages))

    def ask(self, asks: int, askers: int) -> Outcome:
        return asyncio.run(_ask(asks, askers))

    def ring(self, laps: int, nodes: int) -> Outcome:
        return asyncio.run(_ring(laps, nodes))

    def fan_in(self, messages: int, senders: int) -> Outcome:
        return asyncio.run(_fan_in(messages, senders, capacity=0))

    def fan_in_send(self, messages: int, senders: int) -> Outcome:
        return asyncio.run(_fan_in(messages, senders, capacity=CAPACITY))

    def spawn(self, actors: int) -> Outcome:
        return asyncio.run(_spawn(actors))

    def idle(self, actors: int, footprint: Footprint) -> Growth:
        return asyncio.run(_idle(actors, footprint))


async def _tell(messages: int) -> Outcome:
    counter = Counter()
    await counter.ask(0)
    queue = counter.queue
    stopwatch = Stopwatch()
    for _ in range(messages):
        queue.put_nowait(ADD)
    return stopwatch.stop(await counter.ask(0))


async def _send(messages: int) -> Outcome:
    counter = Counter(capacity=CAPACITY)
    await counter.ask(0)
    queue = counter.queue
    stopwatch = Stopwatch()
    for _ in range(messages):
        await queue.put(ADD)
    return stopwatch.stop(await counter.ask(0))


async def _ask(asks: int, askers: int) -> Outcome:
    async def ask_again() -> None:
        for _ in range(asks // askers):
            await counter.ask(1)

    counter = Counter()
    await counter.ask(0)
    stopwatch = Stopwatch()
    if askers == 1:
        await ask_again()
    else:
        await asyncio.gather(*(ask_again() for _ in range(askers)))
    return stopwatch.stop(await counter.ask(0))


async def _ring(laps: int, nodes: int) -> Outcome:
    ended = asyncio.Event()
    ring = [*(Node(laps + 1, ended) for _ in range(nodes - 1)), Node(laps, ended)]
    for node, following in zip(ring, (*ring[1:], ring[0]), strict=True):
        node.following = following
    await asyncio.sleep(0)
    stopwatch = Stopwatch()
    ring[0].queue.put_nowait(TOKEN)
    await ended.wait()
    return stopwatch.stop(sum(node.passed for node in ring))


async def _fan_in(messages: int, senders: int, *, capacity: int) -> Outcome:
    async def flood() -> None:
        queue = counter.queue
        if capacity:
            for _ in range(messages // senders):
                await queue.put(ADD)
        else:
            for _ in range(messages // senders):
                queue.put_nowait(ADD)

    counter = Counter(capacity=capacity)
    await counter.ask(0)
    stopwatch = Stopwatch()
    await asyncio.gather(*(flood() for _ in range(senders)))
    return stopwatch.stop(await counter.ask(0))


async def _spawn(actors: int) -> Outcome:
    ended = asyncio.Event()
    handled = Tally(actors, ended.set)
    counters = []
    stopwatch = Stopwatch()
    for _ in range(actors):
        counter = Counter(handled=handled)
        counter.queue.put_nowait(ADD)
        counters.append(counter)
    await ended.wait()
    return stopwatch.stop(handled.counted)


async def _idle(actors: int, footprint: Footprint) -> Growth:
    ended = asyncio.Event()
    handled = Tally(actors, ended.set)
    footprint.mark()
    counters = [Counter(handled=handled) for _ in range(actors)]
    await _settle()
    started_bytes = footprint.growth()
    for counter in counters:
        counter.queue.put_nowait(ADD)
    await ended.wait()
    await _settle()
    return Growth(started_bytes=started_bytes, handled_bytes=footprint.growth(), handled=handled.counted)


async def _settle() -> None:
    """Let every task come to rest at its queue."""
    for _ in range(10):
        await asyncio.sleep(0)
