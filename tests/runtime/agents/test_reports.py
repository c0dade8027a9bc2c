"""What a state report of the lease's holder means for its attempt: each line of the rules, and each pair of them."""

import itertools
from typing import Any

import pytest

from opscore.runtime.agents.reports import Alive, Meaning, Nothing, meaning, normalise
from opscore.runtime.delivery import Completed, Failed, Lost
from opscore.runtime.lease import Lease

MINE = {"opscore_task_id": "ses.0"}
OTHER = {"opscore_task_id": "ses.1"}


def lease(*, attempt: int = 2, active_seen: bool = False) -> Lease:
    return Lease(
        agent_id="x",
        session_id="ses",
        task_id="ses.0",
        attempt=attempt,
        granted_at=0.0,
        expires_at=900.0,
        timeout_at=3_600.0,
        lease_s=900.0,
        active_seen=active_seen,
    )


def said(state: str, details: dict[str, Any] | None = None, *, attempt: int = 2, active_seen: bool = False) -> Meaning:
    return meaning(state, details, lease(attempt=attempt, active_seen=active_seen))


# --- names of states ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "read"),
    [
        ("IDLE", "idle"),
        ("Busy", "active"),
        ("ACTIVE", "active"),
        (" offline\n", "offline"),
        ("Thinking Hard", "thinking hard"),
        ("x" * 64, "x" * 64),
    ],
)
def test_states_are_read_in_any_case_and_busy_means_active(name: str, read: str) -> None:
    assert normalise(name) == read


@pytest.mark.parametrize("name", ["", "  ", "x" * 65])
def test_a_state_without_a_name_or_with_too_long_a_one_is_refused(name: str) -> None:
    with pytest.raises(ValueError, match="1 to 64 characters"):
        normalise(name)


# --- what a report means ------------------------------------------------------------------------------------

ENDING = pytest.mark.parametrize("state", ["idle", "finished"])


@ENDING
def test_a_report_that_names_task_and_attempt_completes_it(state: str) -> None:
    assert said(state, {**MINE, "opscore_attempt": 2, "result": {"n": 1}}) == Completed(result={"n": 1})


@ENDING
def test_a_report_without_task_or_attempt_completes_what_was_active_before(state: str) -> None:
    for details in (None, {}, MINE, {"opscore_attempt": 2}):
        assert said(state, details, active_seen=True) == Completed()


@ENDING
def test_a_first_attempt_named_without_its_number_completes_also_if_it_never_was_active(state: str) -> None:
    assert said(state, MINE, attempt=1) == Completed()
    assert said(state, MINE, attempt=2) == Nothing()


@ENDING
def test_an_idle_report_that_proves_nothing_ends_nothing(state: str) -> None:
    for details in (None, {}, {"opscore_attempt": 2}, {"result": 1}):
        assert said(state, details) == Nothing()
    assert said(state, {"opscore_attempt": 1}, attempt=1) == Nothing()
    assert said(state, None, attempt=1) == Nothing()


def test_the_result_of_the_closing_report_is_the_result() -> None:
    assert said("idle", {"result": [1, 2]}, active_seen=True) == Completed(result=[1, 2])
    assert said("idle", {"output": 1}, active_seen=True) == Completed(result=None)


STATES = ("idle", "finished", "active", "error", "thinking", "unknown")


@pytest.mark.parametrize("state", STATES)
@pytest.mark.parametrize(
    "details",
    [OTHER, {"opscore_attempt": 1}, {**MINE, "opscore_attempt": 1}, {**OTHER, "opscore_attempt": 2}],
    ids=["another task", "a past attempt", "a past attempt of the task", "another task's attempt"],
)
def test_a_report_about_another_attempt_means_nothing_for_this_one(state: str, details: dict[str, Any]) -> None:
    assert said(state, details, active_seen=True) == Nothing()


@pytest.mark.parametrize("attempt", ["2", 3, "two", [2]])
def test_an_attempt_that_is_no_such_number_is_another(attempt: object) -> None:
    assert said("idle", {**MINE, "opscore_attempt": attempt}, active_seen=True) == Nothing()


@pytest.mark.parametrize("state", ["active", "thinking", "unknown"])
def test_active_and_every_unknown_state_show_life(state: str) -> None:
    for details in (None, MINE, {**MINE, "opscore_attempt": 2}):
        assert said(state, details) == Alive()


def test_an_error_report_fails_the_attempt_with_what_the_agent_said() -> None:
    for details, message in (
        (None, "the agent reported error"),
        ({"error": "disk full"}, "the agent reported error: disk full"),
        ({"message": "no luck", **MINE}, "the agent reported error: no luck"),
    ):
        failed = said("error", details)
        assert isinstance(failed, Failed)
        assert (failed.error.message, failed.error.code, failed.retryable) == (message, "agent_error", True)


@pytest.mark.parametrize("state", ["offline", "initializing"])
def test_an_agent_that_went_away_or_begins_anew_has_lost_its_attempt_whatever_it_names(state: str) -> None:
    for details in (None, MINE, OTHER, {"opscore_attempt": 1}):
        assert said(state, details, active_seen=True) == Lost(reason=f"the agent reported {state}")


def expected(state: str, names_task: bool | None, names_attempt: bool | None, attempt: int, active: bool) -> type:
    """The rules once more, read from the top; a name is right, wrong, or (`None`) missing."""
    if state in ("offline", "initializing"):
        return Lost
    if names_task is False or names_attempt is False:
        return Nothing
    if state == "error":
        return Failed
    if state not in ("idle", "finished"):
        return Alive
    if (names_task and names_attempt) or active or (names_task and attempt == 1):
        return Completed
    return Nothing


def test_every_combination_of_report_and_lease_means_what_the_rules_say() -> None:
    states = ("idle", "finished", "active", "error", "offline", "initializing", "dreaming")
    rights = (True, False, None)
    for state, task, number, attempt, active in itertools.product(states, rights, rights, (1, 2), (True, False)):
        details: dict[str, Any] = {"result": "r"}
        if task is not None:
            details |= MINE if task else OTHER
        if number is not None:
            details["opscore_attempt"] = attempt if number else attempt + 7
        found = said(state, details, attempt=attempt, active_seen=active)
        assert type(found) is expected(state, task, number, attempt, active), (state, details, attempt, active)
