"""Which agents can be given work: every condition alone keeps one out."""

import math

import attrs
import pytest

from opscore.runtime.agents.availability import announcement, available, fresh_s, silence_s
from opscore.runtime.limits import Limits
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.models import Agent, AgentSource

NOW = 1_000.0
IDLE = Agent(agent_id="x", name="x", capabilities=("a", "b"), registered_at=10.0, state="idle", received_at=900.0)
TTL = Limits(agent_ttl_s=100.5)


def can_work(agent: Agent, *, leased: bool = False, reachable: bool = True, limits: Limits = TTL) -> bool:
    return available(agent, leased=leased, reachable=reachable, now=NOW, silent_s=silence_s(agent, NOW), limits=limits)


def test_an_idle_fresh_reachable_agent_without_lease_can_be_given_work() -> None:
    assert can_work(IDLE)


@pytest.mark.parametrize("state", ["unknown", "initializing", "active", "error", "finished", "offline", "dreaming"])
def test_no_other_state_than_idle_is_given_work(state: str) -> None:
    assert not can_work(attrs.evolve(IDLE, state=state))


def test_an_agent_that_holds_a_lease_is_given_no_work() -> None:
    assert not can_work(IDLE, leased=True)


def test_an_agent_that_nothing_leads_to_is_given_no_work() -> None:
    assert not can_work(IDLE, reachable=False)


def test_a_cordoned_agent_is_given_no_work() -> None:
    assert not can_work(attrs.evolve(IDLE, cordoned=True))


def test_a_suspected_agent_is_given_no_work_until_its_time_is_over() -> None:
    assert not can_work(attrs.evolve(IDLE, suspected_until=NOW + 0.1))
    assert can_work(attrs.evolve(IDLE, suspected_until=NOW))
    assert can_work(attrs.evolve(IDLE, suspected_until=NOW + 3_601)), "the clock was set back since"


def test_an_agent_silent_for_longer_than_its_time_to_live_is_given_no_work() -> None:
    assert not can_work(attrs.evolve(IDLE, received_at=NOW - 100.5))
    assert can_work(attrs.evolve(IDLE, received_at=NOW - 100.4))


def test_without_a_time_to_live_no_silence_is_too_long() -> None:
    assert can_work(attrs.evolve(IDLE, received_at=None, registered_at=0.0), limits=Limits())


def test_a_local_function_needs_to_say_nothing_to_be_fresh() -> None:
    assert fresh_s(attrs.evolve(IDLE, source=AgentSource.LOCAL), 10**9, TTL) == math.inf


def test_an_agent_stays_fresh_for_its_time_to_live() -> None:
    assert fresh_s(IDLE, 100.0, TTL) == 0.5


def test_an_agent_that_never_reported_is_silent_since_its_registration() -> None:
    assert silence_s(IDLE, NOW) == 100.0
    assert silence_s(attrs.evolve(IDLE, received_at=None), NOW) == 990.0


def test_who_was_heard_in_the_future_may_have_been_silent_for_any_time() -> None:
    assert silence_s(IDLE, 899.9) == math.inf


def test_the_dispatcher_is_told_capabilities_versions_and_how_long_it_holds() -> None:
    assert announcement(IDLE, 4, 7, fresh_until=50.5) == AgentAvailable(
        agent_id="x", capabilities=("a", "b"), version=4, as_of=7, fresh_until=50.5
    )
    assert announcement(IDLE, 4, 7, fresh_until=50.5, claims=True).fresh_until == math.inf
