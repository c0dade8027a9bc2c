"""Xoscar: the actors of a main pool without subpools, called in the process through local references.

Methods are plain functions, the fastest kind. A local `tell` makes a task and yields to it, so that nothing queues;
an ask runs the method in the asker's own task, under the actor's lock.
"""

import asyncio
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import xoscar

from bench.actors.footprint import Footprint, Growth
from bench.actors.peer import Outcome, Peer, Stopwatch, Tally


class Counter(xoscar.Actor):
    def __init__(self) -> None:
        super().__init__()
        self.count = 0

    def add(self, amount: int) -> int:
        self.count += amount
        return self.count

    def get_count(self) -> int:
        return self.count


class TalliedCounter(Counter):
    def __init__(self, handled: Tally) -> None:
        super().__init__()
        self.handled = handled

    def add(self, amount: int) -> int:
        self.handled.count()
        return super().add(amount)


class Node(xoscar.Actor):
    def __init__(self, laps: int, ended: asyncio.Event) -> None:
        super().__init__()
        self.passed = 0
        self.laps = laps
        self.ended = ended

    def connect(self, following: Any) -> None:
        self.following = following

    async def pass_on(self) -> None:
        self.passed += 1
        if self.passed == self.laps:
            self.ended.set()
        else:
            await self.following.pass_on.tell()

    def get_passed(self) -> int:
        return self.passed


class Sender(xoscar.Actor):
    async def flood(self, counter: Any, messages: int) -> None:
        for _ in range(messages):
            await counter.add.tell(1)


class XoscarPeer(Peer):
    def tell(self, messages: int) -> Outcome:
        return asyncio.run(_tell(messages))

    def ask(self, asks: int, askers: int) -> Outcome:
        return asyncio.run(_ask(asks, askers))

    def ring(self, laps: int, nodes: int) -> Outcome:
        return asyncio.run(_ring(laps, nodes))

    def fan_in(self, messages: int, senders: int) -> Outcome:
        return asyncio.run(_fan_in(messages, senders))

    def spawn(self, actors: int) -> Outcome:
        return asyncio.run(_spawn(actors))

    def idle(self, actors: int, footprint: Footprint) -> Growth:
        return asyncio.run(_idle(actors, footprint))


class Pool:
    def __init__(self, address: str) -> None:
        self._address = address
        self._started = 0

    async def start(self, kind: type[Any], *arguments: object) -> Any:
        self._started += 1
        uid = f"actor-{self._started}"
        await xoscar.create_actor(kind, *arguments, address=self._address, uid=uid)
        # What create_actor returns takes the way through the pool's messages; this one is local, ten times as fast.
        return await xoscar.actor_ref(address=self._address, uid=uid)


@asynccontextmanager
async def _open_pool() -> AsyncIterator[Pool]:
    pool = await xoscar.create_actor_pool("127.0.0.1", n_process=0)
    async with pool:
        yield Pool(pool.external_address)


async def _tell(messages: int) -> Outcome:
    async with _open_pool() as pool:
        counter = await pool.start(Counter)
        stopwatch = Stopwatch()
        for _ in range(messages):
            await counter.add.tell(1)
        return stopwatch.stop(await counter.get_count())


async def _ask(asks: int, askers: int) -> Outcome:
    async def ask_again() -> None:
        for _ in range(asks // askers):
            await counter.add(1)

    async with _open_pool() as pool:
        counter = await pool.start(Counter)
        stopwatch = Stopwatch()
        if askers == 1:
            await ask_again()
        else:
            await asyncio.gather(*(ask_again() for _ in range(askers)))
        return stopwatch.stop(await counter.get_count())


async def _ring(laps: int, nodes: int) -> Outcome:
    async with _open_pool() as pool:
        ended = asyncio.Event()
        ring = [*[await pool.start(Node, laps + 1, ended) for _ in range(nodes - 1)]]
        ring.append(await pool.start(Node, laps, ended))
        for node, following in zip(ring, (*ring[1:], ring[0]), strict=True):
            await node.connect(following)
        stopwatch = Stopwatch()
        await ring[0].pass_on.tell()
        await ended.wait()
        outcome = stopwatch.stop(0)
        return Outcome(seconds=outcome.seconds, handled=sum([await node.get_passed() for node in ring]))


async def _fan_in(messages: int, senders: int) -> Outcome:
    async with _open_pool() as pool:
        counter = await pool.start(Counter)
        refs = [await pool.start(Sender) for _ in range(senders)]
        stopwatch = Stopwatch()
        await asyncio.gather(*(ref.flood(counter, messages // senders) for ref in refs))
        return stopwatch.stop(await counter.get_count())


async def _spawn(actors: int) -> Outcome:
    async with _open_pool() as pool:
        ended = asyncio.Event()
        handled = Tally(actors, ended.set)
        stopwatch = Stopwatch()
        for _ in range(actors):
            counter = await pool.start(TalliedCounter, handled)
            await counter.add.tell(1)
        await ended.wait()
        return stopwatch.stop(handled.counted)


async def _idle(actors: int, footprint: Footprint) -> Growth:
    async with _open_pool() as pool:
        handled = Tally(actors, bool)
        footprint.mark()
        refs = [await pool.start(TalliedCounter, handled) for _ in range(actors)]
        started_bytes = footprint.growth()
        for ref in refs:
            await ref.add(1)
        return Growth(started_bytes=started_bytes, handled_bytes=footprint.growth(), handled=handled.counted)
