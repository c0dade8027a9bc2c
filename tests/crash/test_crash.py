"""Kills of a real server under load, few enough for every check; `just crash 1000` is the long form."""

import random
import subprocess
import sys

import pytest

from tests.crash import plan
from tests.crash.campaign import Campaign
from tests.crash.failpoints import Moment
from tests.crash.process import ROOT
from tests.crash.teeth import KILLS_MAX, hunt

KILLS = 20
ACCEPTED_MIN = 50
PATIENCE_S = 120.0


def test_twenty_kills_lose_nothing_that_was_acknowledged_and_repeat_nothing() -> None:
    # Different moments every time; the seed that the report names repeats a failure.
    campaign = Campaign(KILLS, seed=random.SystemRandom().randrange(1_000_000))
    result = campaign.run()
    report = "\n".join([*result.lines(), str(campaign.folder)])
    assert result.violations == [], report
    assert result.count == KILLS
    assert result.accepted >= ACCEPTED_MIN, report


@pytest.mark.parametrize("bug", ["answers-before-it-applies", "drops-leases-at-opening"])
def test_a_planted_bug_is_found(bug: str) -> None:
    result = hunt(bug)
    assert result.violations, f"not found within {KILLS_MAX} kills"


def test_what_is_violated_ends_the_campaign_with_1_and_names_seed_kill_failpoint_and_directory() -> None:
    command = [sys.executable, "-m", "tests.crash", "40", "--seed", "7", "--bug", "applies-twice"]
    ended = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=PATIENCE_S, check=False)
    assert ended.returncode == 1, ended.stderr
    assert "seed 7" in ended.stdout
    assert "moment=" in ended.stdout
    kept = ended.stdout.partition("are kept in ")[2].partition(";")[0]
    assert "opscore-crash-" in kept
    subprocess.run(["rm", "-r", kept], check=True)


def test_a_seed_draws_the_same_kills_again() -> None:
    plans = [plan.drawn(1, number) for number in range(200)]
    assert plans == [plan.drawn(1, number) for number in range(200)]
    assert plans != [plan.drawn(2, number) for number in range(200)]
    assert {planned.moment for planned in plans} == {None, *Moment}
