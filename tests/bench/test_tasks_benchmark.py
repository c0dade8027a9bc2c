"""The benchmark of tasks runs, and would notice a wrong result or a lost run; how fast anything is, no test says."""

import argparse
import itertools
import json
import os
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import trio

from bench.tasks import __main__ as benchmark
from bench.tasks import size, sizes
from bench.tasks.bars import best_of_dbos, best_of_queues, size_verdicts, task_verdicts
from bench.tasks.clients import WrongResultError, run_clients
from bench.tasks.cpu import Processor
from bench.tasks.measurement import measure, serving, turns
from bench.tasks.peers import floor, opscore_sessions
from bench.tasks.protocol import Parameters, measured
from bench.tasks.registry import CONTENDERS, FIGURES, WORKLOADS
from bench.tasks.report import Report
from bench.tasks.servers import SERVERS, Postgres, Redis, Server, ServerError, running
from bench.tasks.sessions import TASKS_EACH, LostRunError, check_completed
from bench.tasks.sizes import LARGEST, SIZES, SMALLEST, Size
from opscore.runtime.store import Put

TINY_S = 0.2
ROOT = Path(__file__).parents[2]
OURS = {"opscore": opscore_sessions.measure, "floor": floor.measure}
NONE_MISSING: dict[str, float] = {"rate@sequential": 10.0, "rate@threads": 12.0, "rate@queue": 8.0}


@pytest.fixture
def open_path() -> Iterator[Path]:
    """A folder that other users may enter, as PostgreSQL's has to, with a path as short as a socket's has to be."""
    with tempfile.TemporaryDirectory(prefix="opscore-") as path:
        Path(path).chmod(0o755)
        yield Path(path)


def asked(workload: str, folder: Path, clients: int) -> Parameters:
    return Parameters(workload=workload, seconds=TINY_S, folder=str(folder), clients=clients)


@pytest.mark.parametrize("name", OURS)
@pytest.mark.parametrize(("workload", "clients"), [("sequential", 1), ("concurrent", 5), ("chain", 3)])
def test_opscore_and_the_floor_commit_runs_and_hold_them(
    name: str, workload: str, clients: int, tmp_path: Path
) -> None:
    figures = OURS[name](asked(workload, tmp_path, clients))
    assert figures.keys() == FIGURES.keys()
    assert all(value > 0 for value in figures.values())
    assert figures["p50"] <= figures["p99"]
    assert figures["syncs"] <= figures["commits"] + 1e-9


@pytest.mark.parametrize("workload", TASKS_EACH)
def test_the_floor_commits_as_often_as_opscore_does_at_least(workload: str, tmp_path: Path) -> None:
    tasks = TASKS_EACH[workload]
    recording = trio.run(floor.recorded, tasks)
    assert len(recording.session) == 1 + tasks
    figures = opscore_sessions.measure(asked(workload, tmp_path, 1))
    # A run that comes before its agent is free gives its first task out in a commit of its own.
    assert 1 + tasks <= figures["commits"] * tasks <= 2 + tasks + 0.5


def test_the_floor_writes_rows_of_another_run_under_the_same_checks() -> None:
    recording = trio.run(floor.recorded, 1)
    sessions = floor.Sessions(recording, 2, ahead=3)
    one, submissions = sessions.next_of(1)
    other, _ = sessions.next_of(1)
    assert len({recording.session_id, one, other}) == 3
    assert [len(each.expects) for each in submissions] == [len(each.expects) for each in recording.session]
    bodies = [write.body for each in submissions for write in each.writes if isinstance(write, Put)]
    assert all(one.encode() in body for body in bodies)
    assert any(b"agent-00001" in body for body in bodies)
    assert not any(recording.session_id.encode() in body or floor.AGENT.encode() in body for body in bodies)


def test_a_run_that_is_not_there_afterwards_ends_the_measurement(tmp_path: Path) -> None:
    acknowledged: set[str] = set()
    trio.run(opscore_sessions.run, asked("sequential", tmp_path, 1), acknowledged)
    check_completed(tmp_path, acknowledged, 1)
    count = len(acknowledged)
    with pytest.raises(LostRunError, match=f"1 of {count + 1} runs"):
        check_completed(tmp_path, acknowledged | {"ses_none"}, 1)
    with pytest.raises(LostRunError, match=f"{count} of {count} runs"):
        check_completed(tmp_path, acknowledged, 2)


@pytest.mark.parametrize("name", [name for name, entry in CONTENDERS.items() if entry.package is not None])
def test_a_contender_is_measured_where_it_is_installed_and_said_to_be_missing_where_not(
    name: str, open_path: Path
) -> None:
    options = benchmark.arguments().parse_args(
        [
            *("--contenders", name, "--workloads", "sequential", "--rounds", "1", "--seconds", str(TINY_S)),
            *("--sizes", "--folder", str(open_path)),
        ]
    )
    report = benchmark.compare(options)
    row = next(line for line in report.markdown().splitlines() if line.startswith("| asked for"))
    assert row == f"| asked for | figure | unit | {name} |"
    if CONTENDERS[name].missing() is None:
        assert report.raw[name]["rate@sequential"][0] > 0
        assert report.raw[name]["cpu@sequential"][0] > 0
    else:
        assert name not in report.raw
        assert f"Not measured: {name}: " in report.markdown()
    assert list(open_path.iterdir()) == []


@pytest.mark.parametrize("name", SERVERS)
def test_a_server_answers_is_emptied_and_ends_or_is_said_to_be_missing(name: str, open_path: Path) -> None:
    missing = SERVERS[name].missing()
    needing = [entry for entry in CONTENDERS.values() if entry.server == name]
    assert needing
    if missing is not None:
        assert all(entry.missing() is not None for entry in needing)
        return
    with running(name, open_path) as server:
        assert server.answers()
        assert server.version()[0].isdigit()
        assert server.fresh()
        durable(server)
        assert Processor((server.pid,)).seconds() > 0
        pid = server.pid
    assert not server.answers()
    assert not Path(f"/proc/{pid}").exists()


def durable(server: Server) -> None:
    """Look whether it syncs before it answers, as it says itself."""
    match server:
        case Redis():
            said = subprocess.check_output(["redis-cli", "-s", server.fresh(), "config", "get", "append*"], text=True)
            lines = said.split()
            assert lines[lines.index("appendfsync") + 1] == "always"
            assert lines[lines.index("appendonly") + 1] == "yes"
        case Postgres():
            for setting in ("fsync", "synchronous_commit"):
                command = [server.program("psql"), server.fresh(), "-tAc", f"show {setting}"]
                assert subprocess.check_output(command, text=True).strip() == "on"


def test_a_server_that_does_not_begin_leaves_its_contenders_not_measured(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Broken(Redis):
        def begin(self) -> None:
            self._start((sys.executable, "-c", "raise SystemExit('no room')"))

        def answers(self) -> bool:
            return False

    monkeypatch.setitem(SERVERS, "redis", Broken)
    with pytest.raises(ServerError, match="no room"), running("redis", tmp_path):
        pass
    with serving(["opscore", "Celery"], tmp_path) as (_, failed):
        assert failed == {"redis": "redis did not begin: no room\n"}


def test_a_measurement_in_a_fresh_process_yields_the_same_figures(tmp_path: Path) -> None:
    def no_server(name: str) -> Server:
        raise AssertionError(name)

    figures = measure("opscore", "sequential", seconds=TINY_S, workers=1, folder=tmp_path, server=no_server)
    assert figures.keys() == FIGURES.keys()
    assert list(tmp_path.iterdir()) == []


# --- clients, processor time ---------------------------------------------------------------------------------


def test_clients_keep_so_many_runs_in_flight_and_count_each_once() -> None:
    lock, open_runs, most = threading.Lock(), set[int](), 0

    def start(number: int) -> int:
        nonlocal most
        with lock:
            open_runs.add(number)
            most = max(most, len(open_runs))
        return number

    def finish(number: int) -> int:
        time.sleep(0.001)
        with lock:
            open_runs.remove(number)
        return number + 1

    outcome = run_clients(
        start, finish, clients=2, in_flight=3, seconds=TINY_S, numbers=itertools.count(1), processor=Processor()
    )
    assert sorted(outcome.acknowledged) == list(range(1, len(outcome.acknowledged) + 1))
    assert most == 6
    assert open_runs == set()
    assert outcome.seconds >= TINY_S


def test_a_wrong_result_ends_the_measurement(tmp_path: Path) -> None:
    with pytest.raises(WrongResultError, match="was given 1 returned 1"):
        measured(lambda number: number, lambda number: number, asked("sequential", tmp_path, 1))


def test_processor_time_is_that_of_children_too() -> None:
    burn = "import time\nwhile time.process_time() < 0.5: pass\nprint('burnt', flush=True)\ninput()"
    before = Processor().seconds()
    with subprocess.Popen(
        [sys.executable, "-c", burn], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "burnt\n"
        alive = Processor().seconds() - before
        child.communicate("\n")
    assert alive >= 0.4
    assert Processor().seconds() - before >= alive - 0.05
    assert Processor((os.getppid(),)).seconds() > Processor().seconds() - 0.05


# --- sizes -----------------------------------------------------------------------------------------------------


def test_the_book_matches_every_task_once_and_says_what_that_costs() -> None:
    assert size.book(10, 100, 0.01).keys() == {"in_line", "decision"}
    with pytest.raises(size.UnmatchedError, match="0 of 5 tasks"):
        size.played(size.ready_tasks(5), [])


async def test_a_node_works_through_what_waited_for_agents(tmp_path: Path) -> None:
    figures = await size.runtime(10, 40, 30.0, tmp_path)
    assert figures["done"] == 40
    assert figures.keys() <= sizes.FIGURES.keys()
    assert 0 < figures["anonymous"] < figures["resident"]


async def test_a_node_that_has_more_than_the_time_allows_says_how_much_it_did(tmp_path: Path) -> None:
    figures = await size.runtime(10, 400, 0.2, tmp_path)
    assert 0 < figures["done"] < 400


def test_sizes_are_measured_in_processes_of_their_own(tmp_path: Path) -> None:
    small = Size(agents=10, tasks=30)
    assert sizes.measured("book", small, 0.01, tmp_path).keys() == {"in_line", "decision"}
    assert sizes.measured("runtime", small, 5.0, tmp_path)["done"] == 30
    assert list(tmp_path.iterdir()) == []


def test_cost_is_drawn_against_size_in_the_terminal_and_where_it_can_be_in_a_file(tmp_path: Path) -> None:
    medians = {SMALLEST.name: {"decision": 1e-5}, LARGEST.name: {"decision": 2e-5, "task_cpu": 1e-3}}
    lines = sizes.curves(SIZES, medians)
    assert {title: [(tasks, round(cost)) for tasks, cost in points] for title, points in lines.items()} == {
        "MatchBook alone: a decision": [(1_000, 10), (100_000, 20)],
        "the whole runtime: a task": [(100_000, 1_000)],
    }
    text = list(sizes.as_text(lines))
    assert [line.count("█") for line in text if "█" in line] == [30, 60, 60]
    report = report_of({SMALLEST.name: {"decision": [1e-5]}})
    report.publish(tmp_path / "page.md", None)
    drawn = "![Cost against size](page.svg)" in (tmp_path / "page.md").read_text(encoding="utf-8")
    assert drawn is (sizes.missing() is None)
    assert (tmp_path / "page.svg").exists() is drawn


# --- turns, bars, the page -------------------------------------------------------------------------------------


def test_the_order_of_the_contenders_turns_with_each_round() -> None:
    order = [(turn.round, turn.contender) for turn in turns(2, ["opscore", "huey", "DBOS, SQLite"], ["sequential"])]
    assert [name for round_, name in order if round_ == 0] == ["opscore", "huey", "DBOS, SQLite"]
    assert [name for round_, name in order if round_ == 1] == ["huey", "DBOS, SQLite", "opscore"]
    assert [turn.contender for turn in turns(1, list(CONTENDERS), ["chain"])] == ["opscore", "floor"]


QUEUED = {name: {"rate@concurrent": 100.0} for name in ("huey", "dramatiq", "Celery", "Procrastinate")}


def test_a_bar_is_passed_by_the_ratio_of_the_medians() -> None:
    ours = {"rate@sequential": 31.0, "p50@sequential": 0.0026, "rate@concurrent": 290.0, "rate@chain": 3_000.0}
    found = list(task_verdicts({"opscore": ours, "DBOS, SQLite": NONE_MISSING, **QUEUED}))
    assert [(verdict.measured, verdict.passed) for verdict in found] == [
        ("3.10 ×", True),
        ("2.60 ms", False),
        ("24.17 ×", True),
        ("2.90 ×", False),
        ("3,000 tasks/s", True),
    ]


def test_what_was_not_measured_is_no_pass() -> None:
    assert [verdict.passed for verdict in (*task_verdicts({}), *size_verdicts({}))] == [None] * 9
    assert {verdict.measured for verdict in (*task_verdicts({}), *size_verdicts({}))} == {"not measured"}


def test_a_bar_against_several_needs_all_of_them() -> None:
    assert best_of_queues(QUEUED | {"Celery": {"rate@concurrent": 300.0}}) == 300.0
    assert best_of_dbos({"DBOS, SQLite": NONE_MISSING}) == 12.0
    for missing in QUEUED:
        assert best_of_queues({name: figures for name, figures in QUEUED.items() if name != missing}) is None
    for missing in NONE_MISSING:
        rest = {figure: rate for figure, rate in NONE_MISSING.items() if figure != missing}
        assert best_of_dbos({"DBOS, SQLite": rest}) is None


def test_sizes_are_held_against_the_smallest_and_memory_against_its_limit() -> None:
    medians = {
        SMALLEST.name: {"decision": 1e-5, "task_cpu": 1e-3},
        LARGEST.name: {"decision": 2e-5, "task_cpu": 2.5e-3, "anonymous": 4e8, "resident": 400_000_001.0},
    }
    assert [(verdict.measured, verdict.passed) for verdict in size_verdicts(medians)] == [
        ("2.00 ×", True),
        ("2.50 ×", False),
        ("400 MB", True),
        ("400 MB", False),
    ]


def report_of(raw: dict[str, dict[str, list[float]]]) -> Report:
    return Report(raw=raw, rounds=3, seconds=1.0, sizes=list(SIZES), size_seconds=1.0, load_at_start=0.5)


def test_a_report_is_a_page_and_a_document() -> None:
    raw = {"opscore": {"rate@sequential": [900.0, 1_000.0, 1_200.0]}, SMALLEST.name: {"decision": [12.5e-6]}}
    report = report_of(raw)
    report.left_out["huey"] = "huey is not installed"
    report.tried["Celery"] = {"concurrent": {1: 10.0, 10: 200.0}}
    page = report.markdown()
    assert "| one run at a time | tasks | 1/s | 1,000 (900–1,200) | not measured |" in page
    assert "Not measured: huey: huey is not installed." in page
    assert "Tried of Celery, 100 runs at once, tasks/s by workers: 1: 10, 10: 200." in page
    assert "| book: CPU of a decision, a task matched and its offer closed | µs | 12.5 | – | – |" in page
    assert json.loads(json.dumps(report.document()))["raw"] == raw


def test_every_contender_has_a_module_and_every_workload_somebody() -> None:
    for entry in CONTENDERS.values():
        assert (ROOT / "bench" / "tasks" / "peers" / f"{entry.module}.py").exists()
        assert set(entry.tried) <= set(entry.workloads) <= set(WORKLOADS)
    assert set().union(*(entry.workloads for entry in CONTENDERS.values())) == set(WORKLOADS)


def test_the_best_number_of_workers_is_taken(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    rates = {1: 5.0, 10: 50.0, 100: 20.0}
    monkeypatch.setattr(benchmark, "tried", lambda name, *_, **__: rates if name == "huey" else {})
    options = argparse.Namespace(workloads=["concurrent"], seconds=1.0, folder=tmp_path)
    report = report_of({})
    best = benchmark.try_workers(report, ["opscore", "huey"], options, lambda name: SERVERS[name](tmp_path))
    assert best == {("huey", "concurrent"): 10}
    assert report.tried == {"huey": {"concurrent": rates}}


def test_results_stand_beside_it() -> None:
    assert (ROOT / "bench" / "tasks" / "results.md").exists()
