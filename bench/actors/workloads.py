"""The workloads: their sizes, how each is run, what it yields, and how a figure is read."""

from collections.abc import Callable, Mapping

import attrs

from bench.actors.footprint import Footprint
from bench.actors.peer import Outcome, Peer
from bench.page import Figure


@attrs.frozen(kw_only=True)
class Sizes:
    """How much of each; slow peers do a share of the messages, so that a turn takes some tenths of a second."""

    messages: int = 200_000
    """Messages of tell, send and both kinds of fan-in; every peer's share is divisible by the number of senders."""
    asks: int = 20_000
    askers: int = 100
    """Askers of ask100, and senders of fan-in."""
    hops: int = 50_000
    actors: int = 10_000
    """Actors of spawn and idle, the same for every peer, because the cost of an actor depends on their number."""
    flood_s: float = 1.5
    """Duration of each fairness measurement, in seconds."""

    def share(self, share: float) -> "Sizes":
        """Return these sizes with a share of the messages, in whole rounds of askers and senders."""
        return attrs.evolve(
            self,
            messages=self._rounds(self.messages * share),
            asks=self._rounds(self.asks * share),
            hops=int(self.hops * share),
        )

    def _rounds(self, number: float) -> int:
        return max(1, int(number) // self.askers) * self.askers

    def laps(self, nodes: int) -> int:
        return max(1, self.hops // nodes)


class WrongCountError(Exception):
    """The number of messages that were handled is not the number that were sent."""

    def __init__(self, workload: str, handled: int, expected: int) -> None:
        super().__init__(f"{workload}: {handled} handled instead of {expected}")


FLOOD_SHARE_MIN = 0.25
"""Of the time, for the flooded actor's handlers; a message of 5 µs costs about as much again on its way."""

Figures = dict[str, float]
Run = Callable[[Peer, Sizes], Figures]


def _rate(workload: str, expected: Callable[[Sizes], int], run: Callable[[Peer, Sizes], Outcome]) -> Run:
    def figures(peer: Peer, sizes: Sizes) -> Figures:
        outcome = run(peer, sizes)
        if outcome.handled != expected(sizes):
            raise WrongCountError(workload, outcome.handled, expected(sizes))
        return {workload: outcome.handled / outcome.seconds}

    return figures


def _spawn(peer: Peer, sizes: Sizes) -> Figures:
    outcome = peer.spawn(sizes.actors)
    if outcome.handled != sizes.actors:
        raise WrongCountError("spawn", outcome.handled, sizes.actors)
    return {"spawn": outcome.seconds / outcome.handled * 1_000_000}


def _idle(workload: str, *, traced: bool) -> Run:
    def figures(peer: Peer, sizes: Sizes) -> Figures:
        with Footprint(traced=traced) as footprint:
            growth = peer.idle(sizes.actors, footprint)
        if growth.handled != sizes.actors:
            raise WrongCountError(workload, growth.handled, sizes.actors)
        return {
            f"{workload}_started": growth.started_bytes / sizes.actors,
            f"{workload}_handled": growth.handled_bytes / sizes.actors,
        }

    return figures


def _fairness(workload: str, handler_s: float) -> Run:
    def figures(_: Peer, sizes: Sizes) -> Figures:
        # Only where it is measured: the other peers need not have opscore's actors in their process.
        from bench.actors.fairness import latencies

        found = latencies(handler_s, sizes.flood_s)
        if found.handled != len(found.seconds):
            raise WrongCountError(workload, found.handled, len(found.seconds))
        # With the small sizes of a test, no flood builds up.
        if found.busy_share < FLOOD_SHARE_MIN and sizes.flood_s >= 0.5:
            raise ValueError(f"{workload}: the flood took {found.busy_share:.0%} of the time only")
        return {
            f"{workload}_median": found.quantile(0.5) * 1000,
            f"{workload}_p99": found.quantile(0.99) * 1000,
            f"{workload}_max": found.seconds[-1] * 1000,
        }

    return figures


WORKLOADS: Mapping[str, Run] = {
    "tell": _rate("tell", lambda sizes: sizes.messages, lambda peer, sizes: peer.tell(sizes.messages)),
    "send": _rate("send", lambda sizes: sizes.messages, lambda peer, sizes: peer.send(sizes.messages)),
    "ask": _rate("ask", lambda sizes: sizes.asks, lambda peer, sizes: peer.ask(sizes.asks, 1)),
    "ask100": _rate("ask100", lambda sizes: sizes.asks, lambda peer, sizes: peer.ask(sizes.asks, sizes.askers)),
    "tell_async": _rate(
        "tell_async", lambda sizes: sizes.messages, lambda peer, sizes: peer.tell_async(sizes.messages)
    ),
    "ask_async": _rate("ask_async", lambda sizes: sizes.asks, lambda peer, sizes: peer.ask_async(sizes.asks, 1)),
    "ask100_async": _rate(
        "ask100_async", lambda sizes: sizes.asks, lambda peer, sizes: peer.ask_async(sizes.asks, sizes.askers)
    ),
    "ring100": _rate(
        "ring100", lambda sizes: sizes.laps(100) * 100, lambda peer, sizes: peer.ring(sizes.laps(100), 100)
    ),
    "ring1000": _rate(
        "ring1000", lambda sizes: sizes.laps(1000) * 1000, lambda peer, sizes: peer.ring(sizes.laps(1000), 1000)
    ),
    "fan_in": _rate(
        "fan_in", lambda sizes: sizes.messages, lambda peer, sizes: peer.fan_in(sizes.messages, sizes.askers)
    ),
    "fan_in_send": _rate(
        "fan_in_send", lambda sizes: sizes.messages, lambda peer, sizes: peer.fan_in_send(sizes.messages, sizes.askers)
    ),
    "spawn": _spawn,
    "idle_rss": _idle("idle_rss", traced=False),
    "idle_traced": _idle("idle_traced", traced=True),
    "fairness_5us": _fairness("fairness_5us", 5e-6),
    "fairness_200us": _fairness("fairness_200us", 200e-6),
}
WARMED_UP = (
    "tell",
    "send",
    "ask",
    "ask100",
    "tell_async",
    "ask_async",
    "ask100_async",
    "ring100",
    "ring1000",
    "fan_in",
    "fan_in_send",
)
"""What a twentieth of the work goes before, so that nothing is loaded or made for the first time under the clock."""
BOUNDED = ("send", "fan_in_send")
"""Only where a mailbox has a bound that a sender can wait at."""
ROUNDS_MAX: Mapping[str, int] = {"spawn": 3, "idle_rss": 2, "idle_traced": 1}
"""What takes long and hardly varies is measured in the first rounds only."""
OPSCORE_ONLY = ("tell_async", "ask_async", "ask100_async", "fairness_5us", "fairness_200us")
"""What shows a side of opscore and compares with nobody."""


def _rate_figure(title: str, unit: str) -> Figure:
    return Figure(title=title, unit=f"thousand {unit}", scale=0.001, form="{:,.1f}")


FIGURES: Mapping[str, Figure] = {
    "tell": _rate_figure("tell: one sender, one actor, an unbounded mailbox", "messages/s"),
    "send": _rate_figure("send: the same, room for 1,024, the sender waits for it", "messages/s"),
    "ask": _rate_figure("ask: one asker, one actor", "asks/s"),
    "ask100": _rate_figure("ask100: 100 askers at a time, one actor", "asks/s"),
    "tell_async": _rate_figure("tell, to an async handler", "messages/s"),
    "ask_async": _rate_figure("ask, of an async handler", "asks/s"),
    "ask100_async": _rate_figure("ask100, of an async handler", "asks/s"),
    "ring100": _rate_figure("ring100: a token round 100 actors", "hops/s"),
    "ring1000": _rate_figure("ring1000: a token round 1,000 actors", "hops/s"),
    "fan_in": _rate_figure("fan_in: 100 sending actors, one actor, an unbounded mailbox", "messages/s"),
    "fan_in_send": _rate_figure("fan_in_send: the same, room for 1,024", "messages/s"),
    "spawn": Figure(title="spawn: an actor started, its first message handled", unit="µs", form="{:,.1f}"),
    "idle_rss_started": Figure(title="idle actor, nothing handled yet, resident", unit="bytes"),
    "idle_rss_handled": Figure(title="idle actor, one message handled, resident", unit="bytes"),
    "idle_traced_started": Figure(title="idle actor, nothing handled yet, traced", unit="bytes"),
    "idle_traced_handled": Figure(title="idle actor, one message handled, traced", unit="bytes"),
    **{
        f"fairness_{handler}us_{what}": Figure(
            title=f"a neighbour's message waits beside a flood of {handler} µs handlers, {what}",
            unit="ms",
            form="{:,.2f}",
        )
        for handler in (5, 200)
        for what in ("median", "p99", "max")
    },
}
