"""How long an actor under a flood keeps its neighbour waiting: opscore only.

A producer keeps the mailbox of one actor full, whose handler computes for a number of microseconds without a pause.
Another actor is told a message again and again, with pauses, and measures the time until its handler runs. The flood is
checked: the flooded actor's handlers must have computed for a good part of the time.
"""

import time
from random import Random

import attrs
import trio

from opscore.actors.actor import Actor, handles
from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.spec import ChildSpec, SupervisorSpec
from opscore.actors.system import open_system

SEED = 7
PAUSE_S = 0.002
"""The longest pause between two messages; without pauses the messages would fall into step with the flood."""


@attrs.frozen(kw_only=True)
class Compute(Message["Busy", None]):
    pass


class Busy(Actor["Busy"]):
    def __init__(self, handler_s: float) -> None:
        self.handler_s = handler_s
        self.computed = 0

    @handles(Compute)
    async def compute(self, message: Compute) -> None:
        self.computed += 1
        until = time.perf_counter() + self.handler_s
        while time.perf_counter() < until:
            pass


@attrs.frozen(kw_only=True)
class Poke(Message["Neighbour", None]):
    sent_at: float


@attrs.frozen(kw_only=True)
class Settle(Message["Neighbour", None]):
    """Asks for a reply, which comes once all messages before it are handled."""


class Neighbour(Actor["Neighbour"]):
    def __init__(self, seconds: list[float]) -> None:
        self.seconds = seconds

    @handles(Poke)
    async def poke(self, message: Poke) -> None:
        self.seconds.append(time.perf_counter() - message.sent_at)

    @handles(Settle)
    async def settle(self, message: Settle) -> None:
        pass


@attrs.frozen(kw_only=True)
class Latencies:
    """Delays in seconds, in ascending order."""

    seconds: tuple[float, ...]
    handled: int
    """Messages that the neighbour counted."""
    busy_share: float
    """Share of the time that the flooded actor's handlers took."""

    def quantile(self, share: float) -> float:
        return self.seconds[min(int(share * len(self.seconds)), len(self.seconds) - 1)]


def latencies(handler_s: float, duration_s: float) -> Latencies:
    return trio.run(_latencies, handler_s, duration_s)


async def _latencies(handler_s: float, duration_s: float) -> Latencies:
    actor, seconds = Busy(handler_s), list[float]()
    async with open_system(SupervisorSpec(name="root")) as system, trio.open_nursery() as nursery:
        supervisor = system.supervisor("/")
        busy = supervisor.start_child(ChildSpec(name="busy", factory=lambda: actor))
        neighbour = supervisor.start_child(ChildSpec(name="neighbour", factory=lambda: Neighbour(seconds)))
        await neighbour.ask(Settle())
        started = time.perf_counter()
        nursery.start_soon(_flood, busy)
        sent = await _poke(neighbour, started + duration_s)
        busy_share = actor.computed * handler_s / (time.perf_counter() - started)
        await neighbour.ask(Settle())
        nursery.cancel_scope.cancel()
    if len(seconds) != sent:
        raise RuntimeError(f"{sent} messages were sent and {len(seconds)} handled")
    return Latencies(seconds=tuple(sorted(seconds)), handled=len(seconds), busy_share=busy_share)


async def _flood(busy: Ref[Busy]) -> None:
    message = Compute()
    while True:
        await busy.send(message)


async def _poke(neighbour: Ref[Neighbour], until: float) -> int:
    random, sent = Random(SEED), 0
    while time.perf_counter() < until:
        await trio.sleep(random.uniform(0, PAUSE_S))
        neighbour.tell(Poke(sent_at=time.perf_counter()))
        sent += 1
    return sent
