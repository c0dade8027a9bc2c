"""The short form of `just powerloss`, and what proves that it would find what it looks for."""

import random
import subprocess
import sys
from collections.abc import Iterator
from typing import Final

import pytest

from tests.powerloss.campaign import campaign, checked, recorded
from tests.powerloss.disk import Names
from tests.powerloss.inspection import ROOT, Inspector, inspector, scratch_directory
from tests.powerloss.recording import POSSIBLE, Event, Kind

pytestmark = pytest.mark.skipif(not POSSIBLE, reason="the recorder needs Linux and a C compiler")

SEED: Final = 20
EVENTS_BEFORE: Final = 150
EVENTS_AFTER: Final = 60
LARGER_THAN_THE_MAP: Final = 2**28


def seed() -> int:
    """Another one each time; pytest-randomly, which prints its own, sets what draws it."""
    return random.randrange(10**9)


def test_no_power_loss_damages_a_store_or_loses_a_commit_that_was_acknowledged() -> None:
    report = campaign("store", seed=seed(), images=300)
    assert report.violations == []
    assert report.built == 300
    assert report.distinct > 200


def test_no_power_loss_loses_a_run_that_was_accepted_or_keeps_one_from_completing() -> None:
    report = campaign("node", seed=seed(), images=150)
    assert report.violations == []
    assert report.built == 150
    assert report.distinct > 100


def test_power_loss_does_no_harm_where_a_file_that_is_synced_keeps_its_name() -> None:
    report = campaign("store", seed=SEED, images=60, names=Names.BY_FILE)
    assert report.violations == []


@pytest.mark.parametrize("workload", ["store", "node"])
@pytest.mark.parametrize("wrong", ["early", "no sync", "no metasync"])
def test_a_promise_made_before_the_sync_is_found_broken(workload: str, wrong: str) -> None:
    report = campaign(workload, seed=SEED, images=100, wrong=wrong, violations_max=3)
    assert len(report.violations) == 3
    # Without any sync not even the making of the file is safe.
    found = "it does not open" if wrong == "no sync" else "was acknowledged and the newest is"
    assert any(found in violation.why for violation in report.violations)


@pytest.fixture(scope="module")
def recording() -> list[Event]:
    with scratch_directory() as scratch:
        return recorded("store", SEED, scratch)


def opened_at(events: list[Event]) -> int:
    """Where the store is first open."""
    return next(at for at, event in enumerate(events) if event.kind is Kind.MARK)


@pytest.fixture
def inspect() -> Iterator[Inspector]:
    with scratch_directory() as scratch, inspector("store", scratch) as made:
        yield made


@pytest.mark.parametrize("kind", [Kind.WRITE, Kind.WRITE_THROUGH, Kind.SYNC])
@pytest.mark.parametrize("draw", range(3))
def test_a_disk_that_drops_a_single_write_or_sync_is_found(
    kind: Kind, draw: int, recording: list[Event], inspect: Inspector
) -> None:
    opened = opened_at(recording)
    candidates = [at for at in range(opened, opened + EVENTS_BEFORE) if recording[at].kind is kind]
    dropped = random.Random(draw).choice(candidates)
    events = recording[:dropped] + recording[dropped + 1 : dropped + EVENTS_AFTER]
    report = checked(events, workload="store", images=200, seed=SEED, inspect=inspect, violations_max=1)
    assert len(report.violations) == 1


def test_a_commit_that_is_made_the_newest_before_its_pages_are_safe_is_found(
    recording: list[Event], inspect: Inspector
) -> None:
    events = list(recording)
    for at in range(opened_at(events), len(events)):
        if events[at].kind is Kind.WRITE_THROUGH and events[at - 1].kind is Kind.SYNC:
            events[at - 1], events[at] = events[at], events[at - 1]
    report = checked(events, workload="store", images=200, seed=SEED, inspect=inspect, violations_max=3)
    # Once the sync is over all is well: only what is torn in between shows it.
    assert len(report.violations) == 3


def test_the_long_form_says_its_seed_and_sums_up() -> None:
    command = [sys.executable, "-m", "tests.powerloss", "--images", "20", "--seed", "7"]
    ran = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, timeout=120, check=False)
    assert ran.returncode == 0, ran.stderr
    assert ran.stdout.startswith("20 images from seed 7\n")
    assert "20 images," in ran.stdout.splitlines()[-1]
    assert "0 violations" in ran.stdout.splitlines()[-1]
