"""How a lease changes: from the grant, by signs of life, after a broken push, over a restart."""

import attrs
import pytest

from opscore.runtime.agents import leases
from opscore.runtime.lease import Lease
from opscore.runtime.limits import Limits
from tests.runtime.small_runs import dispatched, run_of

LIMITS = Limits()
NOW = 1_000.0


def fresh(**fields: float) -> Lease:
    run = dispatched(run_of({"taskId": "a", **fields}), "ses.0")
    return leases.granted(run.tasks[0], run.definition.tasks[0], "x", NOW)


def test_a_lease_lasts_900_s_and_an_attempt_3600_s_when_nothing_is_said() -> None:
    lease = fresh()
    assert (lease.expires_at, lease.timeout_at, lease.lease_s) == (NOW + 900, NOW + 3_600, 900)
    assert (lease.task_id, lease.session_id, lease.attempt, lease.agent_id) == ("ses.0", "ses", 1, "x")
    assert not lease.delivered


def test_a_task_sets_its_own_lease_and_timeout() -> None:
    lease = fresh(leaseSeconds=5, timeoutSeconds=70.5)
    assert (lease.expires_at, lease.timeout_at) == (NOW + 5, NOW + 70.5)


def test_a_sign_of_life_gives_the_full_lease_again_but_never_more_time_for_the_attempt() -> None:
    lease = leases.renewed(fresh(), NOW + 800, heartbeat=True)
    assert (lease.expires_at, lease.timeout_at) == (NOW + 1_700, NOW + 3_600)
    assert leases.renewed(lease, NOW + 3_000).due_at == NOW + 3_600


def test_a_renewal_never_takes_time_away() -> None:
    lease = attrs.evolve(fresh(), expires_at=NOW + 5_000)
    assert leases.renewed(lease, NOW).expires_at == NOW + 5_000


def test_what_was_seen_of_the_agent_stays_seen() -> None:
    lease = leases.renewed(leases.renewed(fresh(), NOW, active=True), NOW, heartbeat=True)
    assert (lease.active_seen, lease.heartbeat_seen, lease.delivered) == (True, True, True)
    assert leases.renewed(lease, NOW) == lease


def test_after_a_broken_push_the_lease_is_cut_to_60_s() -> None:
    cut = leases.cut_short(fresh(), NOW + 10, LIMITS)
    assert cut.expires_at == NOW + 70
    assert not leases.claimable(cut, "anyone"), "the agent may have it"


def test_a_lease_that_ends_earlier_anyway_is_not_made_longer_by_a_broken_push() -> None:
    assert leases.cut_short(fresh(leaseSeconds=20), NOW, LIMITS).expires_at == NOW + 20


@pytest.mark.parametrize("sign", ["active", "heartbeat"])
def test_an_agent_that_shows_life_keeps_its_lease_after_a_broken_push(sign: str) -> None:
    alive = leases.renewed(fresh(), NOW, **{sign: True})
    assert leases.cut_short(alive, NOW + 10, LIMITS) == alive


def test_life_shown_after_a_broken_push_gives_the_full_lease_back() -> None:
    cut = leases.cut_short(fresh(), NOW, LIMITS)
    assert leases.renewed(cut, NOW + 30, active=True).expires_at == NOW + 930


def test_after_a_restart_the_deadline_is_the_stored_one_or_a_full_lease_from_now_whichever_is_later() -> None:
    assert leases.resumed(fresh(), NOW + 500, LIMITS).expires_at == NOW + 1_400
    assert leases.resumed(attrs.evolve(fresh(), expires_at=NOW + 9_000), NOW, LIMITS).expires_at == NOW + 9_000


def test_after_a_long_absence_the_attempts_timeout_leaves_the_agent_time_to_speak() -> None:
    resumed = leases.resumed(fresh(), NOW + 100_000, LIMITS)
    assert resumed.due_at == NOW + 100_900
    assert leases.resumed(fresh(), NOW + 1, LIMITS).timeout_at == NOW + 3_600


@pytest.mark.parametrize(
    ("delivered", "claimed_by", "heartbeat_seen", "asks", "gets"),
    [
        (False, None, False, "one", True),
        (False, None, False, None, True),
        (True, "one", False, "one", True),
        (True, "one", False, "two", False),
        (True, "one", False, None, False),
        (True, "one", True, "one", False),
        (True, None, False, "one", False),
        (True, None, False, None, False),
    ],
    ids=[
        "nobody has it yet",
        "nobody has it yet, claim without id",
        "the same claim again",
        "another claim",
        "a claim without id after one with",
        "the same claim after a heartbeat",
        "it was pushed",
        "without id nobody can ask again",
    ],
)
def test_a_claim_gets_an_open_lease_only_if_nobody_has_it_or_the_same_claim_asks_again(
    delivered: bool, claimed_by: str | None, heartbeat_seen: bool, asks: str | None, gets: bool
) -> None:
    lease = attrs.evolve(fresh(), delivered=delivered, claim_id=claimed_by, heartbeat_seen=heartbeat_seen)
    assert leases.claimable(lease, asks) is gets


def test_what_was_said_of_how_far_an_attempt_is_stands_until_something_else_is_said() -> None:
    said = leases.renewed(fresh(), NOW, heartbeat=True, progress=[1])
    assert said.progress == leases.renewed(said, NOW, active=True).progress == [1]
    assert leases.renewed(said, NOW, heartbeat=True, progress=0).progress == 0


@pytest.mark.parametrize("spoke_at", [None, NOW])
def test_a_function_that_runs_keeps_its_lease_and_gets_no_more_time_to_be_silent(spoke_at: float | None) -> None:
    lease = fresh(leaseSeconds=10, heartbeatSeconds=60)
    before = lease if spoke_at is None else leases.renewed(lease, spoke_at, heartbeat=True)
    after = leases.prolonged(before, NOW + 10)
    assert (after.expires_at, after.silent_at) == (NOW + 20, None if spoke_at is None else NOW + 60)
    assert leases.shows_life(after) is (spoke_at is not None)
