"""The actor benchmarks run, and would notice a lost message; how fast anything is, no test says."""

import json
import os

import pytest

from bench.actors.__main__ import turns
from bench.actors.bars import BARS, CEILINGS, verdicts
from bench.actors.footprint import Footprint, Growth
from bench.actors.measurement import measure, run
from bench.actors.peer import Outcome, Peer
from bench.actors.registry import PEERS
from bench.actors.report import Report
from bench.actors.workloads import FIGURES, WORKLOADS, Sizes, WrongCountError

TINY = Sizes(messages=400, asks=200, askers=20, hops=200, actors=20, flood_s=0.02)
TESTED = ("opscore", "asyncio.Queue", "trio")


@pytest.mark.parametrize(
    ("peer", "workload"), [(peer, workload) for peer in TESTED for workload in PEERS[peer].workloads()]
)
def test_every_workload_runs_and_counts_what_was_handled(peer: str, workload: str) -> None:
    figures = run(peer, workload, TINY)
    assert figures.keys() <= FIGURES.keys()
    assert len(figures) == (3 if workload.startswith("fairness") else 2 if workload.startswith("idle") else 1)


def test_only_opscore_takes_every_workload() -> None:
    assert PEERS["opscore"].workloads() == tuple(WORKLOADS)
    assert {peer for peer in PEERS if len(PEERS[peer].workloads()) == len(WORKLOADS)} == {"opscore"}


def test_a_measurement_in_a_fresh_process_yields_the_same_figures() -> None:
    assert measure("opscore", "ask", min(os.sched_getaffinity(0)), TINY).keys() == {"ask"}


class Forgetful(Peer):
    """Loses one message of each run."""

    def tell(self, messages: int) -> Outcome:
        return Outcome(seconds=1.0, handled=messages - 1)

    def send(self, messages: int) -> Outcome:
        return self.tell(messages)

    def ask(self, asks: int, askers: int) -> Outcome:
        return self.tell(asks)

    def ring(self, laps: int, nodes: int) -> Outcome:
        return self.tell(laps * nodes)

    def fan_in(self, messages: int, senders: int) -> Outcome:
        return self.tell(messages)

    def fan_in_send(self, messages: int, senders: int) -> Outcome:
        return self.tell(messages)

    def tell_async(self, messages: int) -> Outcome:
        return self.tell(messages)

    def ask_async(self, asks: int, askers: int) -> Outcome:
        return self.tell(asks)

    def spawn(self, actors: int) -> Outcome:
        return self.tell(actors)

    def idle(self, actors: int, footprint: Footprint) -> Growth:
        return Growth(started_bytes=1, handled_bytes=1, handled=actors - 1)


@pytest.mark.parametrize("workload", [name for name in WORKLOADS if not name.startswith("fairness")])
def test_a_lost_message_ends_the_run(workload: str) -> None:
    with pytest.raises(WrongCountError, match="handled instead of"):
        WORKLOADS[workload](Forgetful(), TINY)


def test_the_order_of_the_peers_turns_with_each_round() -> None:
    order = [(turn.round, turn.peer) for turn in turns(3, list(TESTED), ["ask"])]
    assert [peer for round_, peer in order if round_ == 0] == ["opscore", "asyncio.Queue", "trio"]
    assert [peer for round_, peer in order if round_ == 1] == ["asyncio.Queue", "trio", "opscore"]
    assert [peer for round_, peer in order if round_ == 2] == ["trio", "opscore", "asyncio.Queue"]


def test_what_takes_long_is_measured_in_the_first_rounds_only() -> None:
    assert [turn.round for turn in turns(5, ["opscore"], ["idle_rss"])] == [0, 1]


def test_a_bar_is_passed_by_the_ratio_of_the_medians_and_open_if_a_peer_is_missing() -> None:
    found = {verdict.bar: verdict for verdict in verdicts({"opscore": {"ask": 30.0}, "pykka": {"ask": 10.0}}, 5.0)}
    assert len(found) == len(BARS) + len(CEILINGS) + 2
    assert found["ask ≥ 2 × pykka"].passed is True
    assert found["ask ≥ 2 × pykka"].measured == "3.00 ×"
    assert found["ask ≥ 2 × trio"].passed is None
    assert found["spawn ≤ 30 µs"].measured == "not measured"


def test_a_report_is_a_page_and_a_document() -> None:
    raw = {"opscore": {"ask": [20_000.0, 10_000.0, 40_000.0], "spawn": [12.5]}, "asyncio.Queue": {"ask": [9_000.0]}}
    report = Report(raw=raw, sizes=TINY, rounds=3, slice_ms=5.0, core=0, load_at_start=0.5)
    page = report.markdown()
    assert "| ask: one asker, one actor | thousand asks/s | 20.0 (10.0–40.0) | 9.0 |" in page
    assert "| spawn: an actor started, its first message handled | µs | 12.5 | – |" in page
    assert json.loads(json.dumps(report.document()))["raw"] == raw
