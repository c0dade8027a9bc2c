"""The durability benchmarks run, and would notice a lost operation; how fast anything is, no test says."""

import itertools
import json
import signal
import subprocess
import sys
from collections.abc import AsyncIterator, Collection, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio

from bench.durability import opening
from bench.durability.__main__ import turns
from bench.durability.bars import RATE_BARS, commit_verdicts, opening_verdicts
from bench.durability.contenders import CONTENDERS, Contender, operation
from bench.durability.measurement import ROOT, LostError, measure, run
from bench.durability.opening_process import memory, opened
from bench.durability.opening_store import write
from bench.durability.report import FIGURES, Report
from bench.durability.rows import AGENTS_MAX
from bench.durability.waiters import HandOver, Outcome, Submit, run_waiters
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import LEASES, OPEN_SESSIONS, SESSIONS, TASKS
from opscore.runtime.models import TASK_OPEN, TaskStatus

TINY_S = 0.05


@pytest.mark.parametrize("store", CONTENDERS)
@pytest.mark.parametrize("waiters", [1, 20])
def test_every_store_commits_and_holds_what_it_acknowledged(store: str, waiters: int, tmp_path: Path) -> None:
    figures = run(store, waiters, TINY_S, tmp_path)
    assert figures.keys() == FIGURES.keys()
    assert all(value > 0 for value in figures.values())
    assert figures["batch_size"] <= waiters


def test_a_measurement_in_a_fresh_process_yields_the_same_figures(tmp_path: Path) -> None:
    assert measure("fdatasync", 2, TINY_S, tmp_path).keys() == FIGURES.keys()
    assert list(tmp_path.iterdir()) == []


@asynccontextmanager
async def _forgetful(path: Path, batch_seconds: list[float]) -> AsyncIterator[Submit]:
    with (path / "numbers").open("w", encoding="utf-8") as file:

        async def submit(_: int, number: int) -> None:
            batch_seconds.append(1.0)
            if number != 3:
                file.write(f"{number}\n")

        yield submit


def _numbers(path: Path) -> Collection[int]:
    return [int(line) for line in (path / "numbers").read_text(encoding="utf-8").split()]


def test_an_operation_that_is_not_there_afterwards_ends_the_run(tmp_path: Path) -> None:
    forgetful = Contender(used="loses one", running=_forgetful, found=_numbers)
    with pytest.raises(LostError, match="forgetful lost 1 of"):
        run("forgetful", 1, TINY_S, tmp_path, forgetful)


class Remembering:
    """A store that keeps its batches in memory."""

    def __init__(self) -> None:
        self.batches: list[list[int]] = []

    def open(self) -> None:
        pass

    def apply(self, operations: Sequence[int]) -> None:
        self.batches.append(list(operations))

    def close(self) -> None:
        pass


async def test_what_waits_is_committed_together_and_counted_once() -> None:
    store, batch_seconds = Remembering(), list[float]()
    hand_over = HandOver(store, batch_seconds)

    async def submit(_: int, number: int) -> None:
        await hand_over.submit(number)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(hand_over.gather)
        found = await run_waiters(submit, waiters=7, seconds=TINY_S, numbers=itertools.count(1))
        nursery.cancel_scope.cancel()
    hand_over.close()
    assert 1 < max(map(len, store.batches)) <= 7
    assert sorted(itertools.chain(*store.batches)) == sorted(found.acknowledged)
    assert len(batch_seconds) == len(store.batches)


def test_a_quantile_is_one_of_the_latencies() -> None:
    found = Outcome(seconds=1.0, cpu_s=1.0, latencies=[0.1, 0.2, 0.3, 0.4], acknowledged=[1, 2, 3, 4])
    assert (found.quantile(0.5), found.quantile(0.99), found.quantile(1.0)) == (0.3, 0.4, 0.4)


def test_the_order_of_the_stores_turns_with_each_round() -> None:
    order = [(turn.round, turn.waiters, turn.store) for turn in turns(2, ["opscore", "sqlite"], [1, 10])]
    assert order[:4] == [(0, 1, "opscore"), (0, 1, "sqlite"), (0, 10, "opscore"), (0, 10, "sqlite")]
    assert [store for round_, _, store in order if round_ == 1] == ["sqlite", "opscore"] * 2


def test_a_bar_is_passed_by_the_ratio_of_the_medians_and_open_if_it_was_not_measured() -> None:
    medians = {"opscore": {"rate@1": 60.0, "rate@100": 49.0, "p50@1": 0.001, "p99@100": 0.0051}}
    medians["sqlite"] = {"rate@1": 100.0, "rate@100": 100.0}
    found = {verdict.bar: verdict for verdict in commit_verdicts(medians)}
    assert len(found) == len(RATE_BARS) + 1
    assert found["commits with 1 waiting ≥ 0.6 × sqlite"].passed is True
    assert found["commits with 100 waiting ≥ 0.5 × sqlite"].passed is False
    assert found["commits with 1,000 waiting ≥ 0.5 × sqlite"].passed is None
    assert found["p99 with 100 waiting ≤ 5 times of a lone commit"].measured == "5.1 ×"
    assert found["p99 with 100 waiting ≤ 5 times of a lone commit"].passed is False


def test_a_report_is_a_page_and_a_document() -> None:
    raw = {"opscore": {"rate@1": [900.0, 1_000.0, 1_200.0]}, "sqlite": {"rate@1": [2_000.0, 2_000.0, 2_000.0]}}
    report = Report(raw=raw, waiters=[1], rounds=3, seconds=1.0, operation=operation(), load_at_start=0.5)
    page = report.markdown()
    assert "| 1 | durable operations | 1/s | 1,000 (900–1,200) | 2,000 (2,000–2,000) |" in page
    assert "| 1 | operations beside sqlite's | × | 0.50 (0.45–0.60) | 1.00 (1.00–1.00) |" in page
    assert json.loads(json.dumps(report.document()))["raw"] == raw


async def test_a_built_store_is_opened_with_all_that_is_unfinished(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench.durability.opening_store", str(tmp_path), "12", "40"]
    with subprocess.Popen(command, cwd=ROOT, stdout=subprocess.PIPE, text=True) as writer:
        assert writer.stdout is not None
        assert writer.stdout.readline() == "40\n"
        writer.send_signal(signal.SIGKILL)
    assert writer.returncode == -signal.SIGKILL
    figures = await opened(tmp_path, 40)
    assert figures.keys() == {"seconds", "anonymous", "file"}
    with pytest.raises(RuntimeError, match="40 unfinished sessions were taken up instead of 41"):
        await opened(tmp_path, 41)


def test_the_sessions_stand_as_the_domain_leaves_them(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        assert write(store, finished=3, unfinished=40) == 40
        with store.snapshot() as view:
            sessions = [session for session, _ in SESSIONS.scan(view)]
            unfinished = {line.session_id for line, _ in OPEN_SESSIONS.scan(view)}
            tasks = [task for task, _ in TASKS.scan(view)]
            held = {lease.task_id for lease, _ in LEASES.scan(view)}
    assert {session.session_id for session in sessions if session.ended_at is None} == unfinished
    assert held == {task.task_id for task in tasks if task.status in TASK_OPEN}
    assert len(held) == min(AGENTS_MAX, 10)
    standing = {task.status for task in tasks if task.session_id in unfinished}
    assert standing == {TaskStatus.READY, TaskStatus.PENDING_RETRY, TaskStatus.DISPATCHED, TaskStatus.RUNNING}
    assert all(task.due_at for task in tasks if task.status is TaskStatus.PENDING_RETRY)


def test_stores_are_built_and_opened_cold_and_warm(tmp_path: Path) -> None:
    kinds = [opening.Kind(finished=3, unfinished=0), opening.Kind(finished=0, unfinished=4)]
    report = opening.compare(kinds, 1, tmp_path)
    assert {name: len(values) for name, values in report.raw["0+4"].items()} == dict.fromkeys(opening.FIGURES, 1)
    assert "| 3 | 0 |" in report.markdown()
    assert json.loads(json.dumps(report.document()))["raw"] == report.raw


def test_the_bars_of_openings_take_the_cold_ones_and_the_growth_of_anonymous_memory() -> None:
    mib = 1024.0**2
    medians = {
        "0+0": {"cold": 0.01, "anonymous": 24 * mib},
        "1000000+0": {"cold": 1.5, "warm": 0.1, "anonymous": 31 * mib},
    }
    assert [(verdict.measured, verdict.passed) for verdict in opening_verdicts(medians)] == [
        ("not measured", None),
        ("1.50 s", False),
        ("+7.00 MiB", True),
    ]


def test_memory_is_the_process_own_and_that_of_files() -> None:
    found = memory()
    assert found["anonymous"] > 1024**2
    assert found["file"] > 1024**2
