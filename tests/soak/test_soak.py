"""A soak of a few seconds, short enough for every check; `just soak --minutes 30` is the long form."""

import shutil
import subprocess
import sys
from pathlib import Path

from tests.crash.process import ROOT
from tests.soak.__main__ import report
from tests.soak.soak import Plan, Soak

RUNS_MIN = 60
PATIENCE_S = 120.0


def short(**fields: object) -> Plan:
    return Plan(seconds=4.0, runs_min=RUNS_MIN, every_s=0.5, load=0.5, keep_s=2.0, timed=False, seed=1, **fields)  # type: ignore[arg-type]


def test_in_a_few_seconds_of_everything_nothing_grows_and_nothing_is_left() -> None:
    soak = Soak(short())
    result = soak.run()
    shown = "\n".join([*report(result), str(soak.folder)])
    assert result.faults == [], shown
    assert result.counts["runs"] >= RUNS_MIN, shown
    assert result.counts["attempts"] >= RUNS_MIN, shown


def test_a_planted_leak_is_found() -> None:
    soak = Soak(short(leak="times-are-kept", rest_s=1.0))
    result = soak.run()
    assert any("due times armed" in fault for fault in result.faults), "\n".join(report(result))
    shutil.rmtree(soak.folder)


def test_a_soak_that_finds_something_ends_with_1_and_says_what_and_where_its_samples_are() -> None:
    command = [sys.executable, "-m", "tests.soak", "--minutes", "0.05", "--every", "0.5", "--rest", "1", "--untimed"]
    command += ["--leak", "actors-are-kept", "--seed", "7", "--kills", "1", "--runs", "150"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "opscore.runtime.runs.session.SessionActor" in ended.stdout
    assert "1 kills" in ended.stdout
    assert "again with --seed 7" in ended.stdout
    kept = Path(ended.stdout.partition("are kept in ")[2].partition(";")[0])
    assert (kept / "samples.jsonl").exists()
    assert kept.name.startswith("opscore-soak-")
    shutil.rmtree(kept)
