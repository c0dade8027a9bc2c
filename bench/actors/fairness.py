"""How long an actor under a flood keeps its neighbour waiting: opscore only.

A producer keeps the mailbox of one actor full, whose handler computes for so many microseconds without a pause. Beside
it an asker asks another actor, again and again with a pause between, and times every reply: the neighbour's turn
and then the asker's own have to come round. The flood has to be one: the flooded actor's handlers must have
computed for a good part of the time.
"""

import time
from random import Random

import attrs
import trio

from bench.actors.peers.opscore_actors import ADD, GET_COUNT, Counter
from opscore.actors.actor import Actor, handles
from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.spec import ChildSpec, SupervisorSpec
from opscore.actors.system import open_system

SEED = 7
PAUSE_S = 0.002
"""The longest pause between two asks; without one the asks would keep step with the flood."""


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
class Latencies:
    """Seconds, in ascending order."""

    seconds: tuple[float, ...]
    handled: int
    """Asks, as the neighbour counted them."""
    busy_share: float
    """Of the time, what the flooded actor's handlers took."""

    def quantile(self, share: float) -> float:
        return self.seconds[min(int(share * len(self.seconds)), len(self.seconds) - 1)]


def latencies(handler_s: float, duration_s: float) -> Latencies:
    return trio.run(_latencies, handler_s, duration_s)


async def _latencies(handler_s: float, duration_s: float) -> Latencies:
    actor = Busy(handler_s)
    async with open_system(SupervisorSpec(name="root")) as system, trio.open_nursery() as nursery:
        supervisor = system.supervisor("/")
        busy = supervisor.start_child(ChildSpec(name="busy", factory=lambda: actor))
        neighbour = supervisor.start_child(ChildSpec(name="neighbour", factory=Counter))
        await neighbour.ask(GET_COUNT)
        started = time.perf_counter()
        nursery.start_soon(_flood, busy)
        seconds = await _ask(neighbour, started + duration_s)
        busy_share = actor.computed * handler_s / (time.perf_counter() - started)
        handled = await neighbour.ask(GET_COUNT)
        nursery.cancel_scope.cancel()
    return Latencies(seconds=tuple(sorted(seconds)), handled=handled, busy_share=busy_share)


async def _flood(busy: Ref[Busy]) -> None:
    message = Compute()
    while True:
        await busy.send(message)


async def _ask(neighbour: Ref[Counter], until: float) -> list[float]:
    random = Random(SEED)
    seconds = []
    while time.perf_counter() < until:
        await trio.sleep(random.uniform(0, PAUSE_S))
        asked = time.perf_counter()
        await neighbour.ask(ADD)
        seconds.append(time.perf_counter() - asked)
    return seconds
