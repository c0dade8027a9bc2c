"""trio's memory channels, raw: a task that receives, and a channel for replies; no names, no supervision.

`tell`, `fan_in` and requests take `send_nowait`, the fastest way there is; with `send` the channel is bounded. Every
asker has one reply channel of its own, which it gives with each request.
"""

import math
from typing import TypeAlias

import trio

from bench.actors.footprint import Footprint, Growth
from bench.actors.messages import ADD, TOKEN, Add, Token
from bench.actors.peer import CAPACITY, Outcome, Peer, Stopwatch, Tally


class Question:
    """Asks to add an amount and to reply with the count."""

    __slots__ = ("amount", "reply_to")

    def __init__(self, amount: int, reply_to: trio.MemorySendChannel[int]) -> None:
        self.amount = amount
        self.reply_to = reply_to


Mail: TypeAlias = Add | Question


class Counter:
    def __init__(self, *, capacity: float = math.inf) -> None:
        self.count = 0
        self.mail, self._received = trio.open_memory_channel[Mail](capacity)

    async def run(self) -> None:
        async for mail in self._received:
            self.count += mail.amount
            if type(mail) is Question:
                mail.reply_to.send_nowait(self.count)

    async def run_tallied(self, handled: Tally) -> None:
        async for mail in self._received:
            self.count += mail.amount
            handled.count()


class Asker:
    def __init__(self, counter: Counter) -> None:
        self._requests = counter.mail
        self._reply_to, self._replies = trio.open_memory_channel[int](1)

    async def ask(self, amount: int) -> int:
        self._requests.send_nowait(Question(amount, self._reply_to))
        return await self._replies.receive()

    async def ask_when_room(self, amount: int) -> int:
        await self._requests.send(Question(amount, self._reply_to))
        return await self._replies.receive()


class Node:
    def __init__(self) -> None:
        self.passed = 0
        self.mail, self._received = trio.open_memory_channel[Token](1)
        self.following = self.mail

    async def run(self, laps: int, ended: trio.Event) -> None:
        async for token in self._received:
            self.passed += 1
            if self.passed == laps:
                ended.set()
            else:
                self.following.send_nowait(token)


class TrioChannelsPeer(Peer):
    def tell(self, messages: int) -> Outcome:
        return trio.run(_tell, messages)

    def send(self, messages: int) -> Outcome:
        return trio.run(_send, messages)

    def ask(self, asks: int, askers: int) -> Outcome:
        return trio.run(_ask, asks, askers)

    def ring(self, laps: int, nodes: int) -> Outcome:
        return trio.run(_ring, laps, nodes)

    def fan_in(self, messages: int, senders: int) -> Outcome:
        return trio.run(_fan_in, messages, senders, math.inf)

    def fan_in_send(self, messages: int, senders: int) -> Outcome:
        return trio.run(_fan_in, messages, senders, CAPACITY)

    def spawn(self, actors: int) -> Outcome:
        return trio.run(_spawn, actors)

    def idle(self, actors: int, footprint: Footprint) -> Growth:
        return trio.run(_idle, actors, footprint)


async def _tell(messages: int) -> Outcome:
    async with trio.open_nursery() as nursery:
        counter = Counter()
        nursery.start_soon(counter.run)
        asker = Asker(counter)
        await asker.ask(0)
        mail = counter.mail
        stopwatch = Stopwatch()
        for _ in range(messages):
            mail.send_nowait(ADD)
        outcome = stopwatch.stop(await asker.ask(0))
        nursery.cancel_scope.cancel()
    return outcome


async def _send(messages: int) -> Outcome:
    async with trio.open_nursery() as nursery:
        counter = Counter(capacity=CAPACITY)
        nursery.start_soon(counter.run)
        asker = Asker(counter)
        await asker.ask(0)
        mail = counter.mail
        stopwatch = Stopwatch()
        for _ in range(messages):
            await mail.send(ADD)
        outcome = stopwatch.stop(await asker.ask_when_room(0))
        nursery.cancel_scope.cancel()
    return outcome


async def _ask(asks: int, askers: int) -> Outcome:
    async def ask_again(asker: Asker) -> None:
        for _ in range(asks // askers):
            await asker.ask(1)

    async with trio.open_nursery() as nursery:
        counter = Counter()
        nursery.start_soon(counter.run)
        asker = Asker(counter)
        await asker.ask(0)
        stopwatch = Stopwatch()
        if askers == 1:
            await ask_again(asker)
        else:
            async with trio.open_nursery() as asking:
                for _ in range(askers):
                    asking.start_soon(ask_again, Asker(counter))
        outcome = stopwatch.stop(await asker.ask(0))
        nursery.cancel_scope.cancel()
    return outcome


async def _ring(laps: int, nodes: int) -> Outcome:
    ended = trio.Event()
    ring = [Node() for _ in range(nodes)]
    async with trio.open_nursery() as nursery:
        for node, following in zip(ring, (*ring[1:], ring[0]), strict=True):
            node.following = following.mail
            nursery.start_soon(node.run, laps if node is ring[-1] else laps + 1, ended)
        await trio.lowlevel.checkpoint()
        stopwatch = Stopwatch()
        ring[0].mail.send_nowait(TOKEN)
        await ended.wait()
        outcome = stopwatch.stop(sum(node.passed for node in ring))
        nursery.cancel_scope.cancel()
    return outcome


async def _fan_in(messages: int, senders: int, capacity: float) -> Outcome:
    async def flood() -> None:
        mail = counter.mail
        if capacity < math.inf:
            for _ in range(messages // senders):
                await mail.send(ADD)
        else:
            for _ in range(messages // senders):
                mail.send_nowait(ADD)

    async with trio.open_nursery() as nursery:
        counter = Counter(capacity=capacity)
        nursery.start_soon(counter.run)
        asker = Asker(counter)
        await asker.ask(0)
        stopwatch = Stopwatch()
        async with trio.open_nursery() as sending:
            for _ in range(senders):
                sending.start_soon(flood)
        outcome = stopwatch.stop(await asker.ask_when_room(0))
        nursery.cancel_scope.cancel()
    return outcome


async def _spawn(actors: int) -> Outcome:
    ended = trio.Event()
    handled = Tally(actors, ended.set)
    async with trio.open_nursery() as nursery:
        stopwatch = Stopwatch()
        for _ in range(actors):
            counter = Counter()
            nursery.start_soon(counter.run_tallied, handled)
            counter.mail.send_nowait(ADD)
        await ended.wait()
        outcome = stopwatch.stop(handled.counted)
        nursery.cancel_scope.cancel()
    return outcome


async def _idle(actors: int, footprint: Footprint) -> Growth:
    ended = trio.Event()
    handled = Tally(actors, ended.set)
    async with trio.open_nursery() as nursery:
        footprint.mark()
        counters = [Counter() for _ in range(actors)]
        for counter in counters:
            nursery.start_soon(counter.run_tallied, handled)
        await _settle()
        started_bytes = footprint.growth()
        for counter in counters:
            counter.mail.send_nowait(ADD)
        await ended.wait()
        await _settle()
        growth = Growth(started_bytes=started_bytes, handled_bytes=footprint.growth(), handled=handled.counted)
        nursery.cancel_scope.cancel()
    return growth


async def _settle() -> None:
    """Let every task come to rest at its channel."""
    for _ in range(10):
        await trio.lowlevel.checkpoint()
