"""A limit that says nothing sensible is refused where it is given, not where it would count."""

import math
from typing import Any

import pytest

from opscore.runtime.limits import DispatchLimit, Limits


@pytest.mark.parametrize(
    "wrong",
    [
        {"at_once": 0},
        {"at_once": 1.5},
        {"at_once": True},
        {"per_interval": -1},
        {"per_interval": 3, "interval_s": 0.0},
        {"interval_s": math.inf},
        {"interval_s": math.nan},
        {"interval_s": "60"},
    ],
    ids=repr,
)
def test_a_limit_of_what_is_given_out_that_would_let_nothing_or_everything_through_is_refused(
    wrong: dict[str, Any],
) -> None:
    with pytest.raises(ValueError, match=f"^{list(wrong)[-1]}: expected"):
        DispatchLimit(**wrong)


@pytest.mark.parametrize(
    "wrong",
    [
        {"timeout_s": -1.0},
        {"lease_s": math.nan},
        {"lease_s": math.inf},
        {"timeout_s": math.inf},
        {"passivate_s": 10**400},
        {"sessions_open_max": "many"},
        {"signals_max": 1.5},
        {"replays_max": False},
        {"replays_max": 0},
        {"items_at_once": 0},
        {"schedule_late_s": 0.0},
        {"workflow_limits": {"w": "100/min"}},
        {"capability_limits": [DispatchLimit(at_once=1)]},
    ],
    ids=lambda wrong: repr(wrong)[:40],
)
def test_a_limit_of_a_node_that_is_none_is_refused_by_name(wrong: dict[str, Any]) -> None:
    (name,) = wrong
    with pytest.raises(ValueError, match=f"^{name}: expected"):
        Limits(**wrong)


def test_limits_that_are_off_or_without_end_may_be_given() -> None:
    one = {"w": DispatchLimit(at_once=1)}
    limits = Limits(sessions_keep_s=0, agent_ttl_s=0, passivate_s=math.inf, workflow_limits=one)
    assert (limits.sessions_keep_s, limits.agent_ttl_s, limits.passivate_s) == (0, 0, math.inf)
    assert limits.workflow_limits == one
