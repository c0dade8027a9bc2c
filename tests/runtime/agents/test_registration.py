"""How an agent's row changes: by registering, by reports and their timestamps, by claims, by failed deliveries."""

import random
from typing import Any

import attrs
import pytest

from opscore.runtime.agents import registration
from opscore.runtime.limits import Limits
from opscore.runtime.models import Agent, AgentSource, Registration

LIMITS = Limits()
NOW = 1_000.0


def newcomer(source: AgentSource = AgentSource.API) -> Agent:
    return registration.registered(None, Registration(agent_id="x", source=source), NOW)


def again(agent: Agent, **fields: Any) -> Agent:
    return registration.registered(agent, attrs.evolve(Registration(agent_id="x"), **fields), NOW + 50)


def test_a_newcomers_state_is_unknown_and_its_name_its_id() -> None:
    assert (newcomer().state, newcomer().name) == ("unknown", "x")


def test_a_local_function_is_idle_from_the_start() -> None:
    assert newcomer(AgentSource.LOCAL).state == "idle"


def test_capabilities_are_kept_in_their_order_and_each_once() -> None:
    given = Registration(agent_id="x", capabilities=("b", "a", "b"))
    assert registration.registered(None, given, NOW).capabilities == ("b", "a")


def test_registering_again_keeps_state_and_cordon_and_takes_everything_else_anew() -> None:
    idle = registration.reported(newcomer(), "idle", {"n": 1}, 700.0, NOW)
    agent = again(attrs.evolve(idle, cordoned=True), name="Ann", capabilities=("a",), version="2")
    assert (agent.state, agent.details, agent.received_at, agent.cordoned) == ("idle", {"n": 1}, NOW, True)
    assert (agent.name, agent.capabilities, agent.version) == ("Ann", ("a",), "2")


def test_registering_again_resets_the_order_of_timestamps() -> None:
    agent = registration.reported(newcomer(), "idle", None, NOW, NOW)
    assert registration.accepted_stamp(agent, 100.0, NOW, LIMITS) == (100.0, False)
    assert registration.accepted_stamp(again(agent), 100.0, NOW, LIMITS) == (100.0, True)


def test_registering_again_ends_suspicion() -> None:
    agent = again(registration.suspected(newcomer(), NOW, random.Random(0)))
    assert (agent.suspicions, agent.suspected_until) == (0, 0.0)


def test_a_report_older_than_the_newest_accepted_one_is_stale_and_an_equal_one_is_not() -> None:
    agent = registration.reported(newcomer(), "idle", None, 700.0, NOW)
    assert registration.accepted_stamp(agent, 699.9, NOW, LIMITS) == (699.9, False)
    assert registration.accepted_stamp(agent, 700.0, NOW, LIMITS) == (700.0, True)
    assert registration.accepted_stamp(agent, 700.1, NOW, LIMITS) == (700.1, True)


def test_a_report_without_a_timestamp_is_accepted_and_leaves_the_order_as_it_is() -> None:
    agent = registration.reported(newcomer(), "idle", None, 700.0, NOW)
    assert registration.accepted_stamp(agent, None, NOW, LIMITS) == (None, True)
    assert registration.reported(agent, "active", None, None, NOW).reported_at == 700.0


def test_a_timestamp_in_the_future_is_clamped_to_arrival_and_30_s() -> None:
    assert registration.accepted_stamp(newcomer(), 10**12, NOW, LIMITS) == (NOW + 30, True)
    ahead = registration.reported(newcomer(), "idle", None, NOW + 30, NOW)
    assert registration.accepted_stamp(ahead, NOW + 40, NOW + 40, LIMITS) == (NOW + 40, True)


def test_a_timestamp_of_before_the_clock_was_set_back_has_nothing_older_than_itself() -> None:
    agent = registration.reported(newcomer(), "idle", None, NOW + 30, NOW)
    assert registration.accepted_stamp(agent, NOW, NOW, LIMITS) == (NOW, False)
    assert registration.accepted_stamp(agent, NOW - 3_600, NOW - 3_600, LIMITS) == (NOW - 3_600, True)


def test_any_report_ends_suspicion() -> None:
    agent = registration.suspected(newcomer(), NOW, random.Random(0))
    heard = registration.reported(agent, "idle", None, None, NOW + 1)
    assert (heard.suspicions, heard.suspected_until, heard.received_at) == (0, 0.0, NOW + 1)


def test_claiming_says_that_the_agent_is_idle_and_leaves_the_order_of_timestamps_as_it_is() -> None:
    agent = registration.reported(newcomer(), "active", {"n": 1}, 700.0, NOW)
    claimed = registration.claimed(agent, NOW + 5)
    assert (claimed.state, claimed.details, claimed.reported_at, claimed.received_at) == ("idle", None, 700.0, NOW + 5)


def test_claiming_when_idle_keeps_what_the_agent_said_of_itself() -> None:
    agent = registration.reported(newcomer(), "idle", {"n": 1}, None, NOW)
    assert registration.claimed(agent, NOW + 5).details == {"n": 1}


def test_suspicion_grows_exponentially_with_jitter_up_to_a_minute() -> None:
    agent, rng = newcomer(), random.Random(0)
    for ceiling_s in (1, 2, 4, 8, 16, 32, 60, 60, 60):
        agent = registration.suspected(agent, NOW, rng)
        assert ceiling_s / 2 <= agent.suspected_until - NOW <= ceiling_s
    assert agent.suspicions == 9


def test_retry_after_is_honoured_within_an_hour() -> None:
    rng = random.Random(0)
    assert registration.suspected(newcomer(), NOW, rng, 17.0).suspected_until == NOW + 17
    assert registration.suspected(newcomer(), NOW, rng, 10**9).suspected_until == NOW + 3_600


@pytest.mark.parametrize("retry_after_s", [None, 0.0, -5.0])
def test_a_retry_after_of_nothing_leaves_the_backoff_as_it_is(retry_after_s: float | None) -> None:
    agent = registration.suspected(newcomer(), NOW, random.Random(0), retry_after_s)
    assert 0.5 <= agent.suspected_until - NOW <= 1.0
