"""What a list of agents changes, agent by agent, and of whom something is said while it is under way."""

from typing import Any

import attrs
import pytest
from hypothesis import given
from hypothesis import strategies as st

from opscore.runtime.agents import registration
from opscore.runtime.agents.directory import Changes, Introductions, Listing, changes
from opscore.runtime.models import Agent, AgentSource, Registration

KIT = AgentSource.AGENTKIT
OTHERS = [source for source in AgentSource if source is not KIT]
IDS = ("a", "b", "c", "d")


def said(agent_id: str, **fields: Any) -> Registration:
    return attrs.evolve(Registration(agent_id=agent_id, source=KIT), **fields)


def known(agent_id: str, **fields: Any) -> Agent:
    return registration.registered(None, said(agent_id, **fields), 1.0)


def changed(listing: Listing, *agents: Agent, spoken_of: set[str] | None = None) -> Changes:
    return changes(listing, agents, KIT, spoken_of or set())


def listed(*agents: Registration, **fields: Any) -> Listing:
    return attrs.evolve(Listing(agents=agents), **fields)


def test_who_is_listed_and_unknown_is_registered_and_who_is_known_and_not_listed_is_forgotten() -> None:
    found = changed(listed(said("new"), said("stays")), known("stays"), known("gone"))
    assert found == Changes(register=(said("new"),), forget=("gone",))


def test_who_is_listed_as_known_is_left_as_it_is_whatever_was_reported_of_it() -> None:
    plain = said("a", name="Ada", version="1", capabilities=("x", "y"), contact_endpoint="http://a/", metadata={"n": 1})
    agent = registration.registered(None, plain, 1.0)
    reported = registration.reported(attrs.evolve(agent, cordoned=True), "active", {"k": 1}, 5.0, 6.0)
    for each in (agent, reported):
        assert changed(listed(plain), each) == Changes()


def test_names_that_stand_twice_and_an_id_for_want_of_a_name_are_no_news() -> None:
    twice = said("a", capabilities=("x", "y", "x"))
    assert changed(listed(twice), known("a", capabilities=("x", "y"))) == Changes()
    assert changed(listed(said("a", name="a")), known("a")) == Changes()


@pytest.mark.parametrize(
    "news",
    [
        {"name": "Bob"},
        {"version": "2"},
        {"capabilities": ("x",)},
        {"capabilities": ("y", "x")},
        {"contact_endpoint": "http://b/"},
        {"contact_endpoint": None},
        {"metadata": {"n": 2}},
        {"metadata": {}},
    ],
    ids=str,
)
def test_who_is_described_anew_is_registered_again(news: dict[str, Any]) -> None:
    before = {"name": "Ada", "capabilities": ("x", "y"), "contact_endpoint": "http://a/", "metadata": {"n": 1}}
    now = said("a", **{**before, **news})
    assert changed(listed(now), known("a", **before)) == Changes(register=(now,))


@pytest.mark.parametrize("source", OTHERS)
def test_whom_somebody_else_introduced_is_left_alone(source: AgentSource) -> None:
    agents = known("listed", source=source), known("not listed", source=source)
    assert changed(listed(said("listed", version="2")), *agents) == Changes()


def test_whom_something_was_said_of_meanwhile_is_left_to_the_next_list() -> None:
    found = changed(
        listed(said("deregistered"), said("described", version="2")),
        known("described"),
        known("registered"),
        spoken_of={"deregistered", "described", "registered"},
    )
    assert found == Changes()


def test_who_is_listed_with_what_can_not_be_registered_is_left_as_it_is() -> None:
    found = changed(listed(said("new"), unusable=frozenset({"odd", "unheard of"})), known("odd"), known("gone"))
    assert found == Changes(register=(said("new"),), forget=("gone",))


def test_of_a_list_that_does_not_say_whose_all_its_entries_are_nobody_is_missed() -> None:
    assert changed(listed(said("new"), whole=False), known("gone")) == Changes(register=(said("new"),))


@given(st.data())
def test_any_list_means_for_each_agent_what_a_plain_rule_says(data: st.DataObject) -> None:
    versions = st.sampled_from(["1", "2"])
    listing = Listing(
        agents=tuple(said(each, version=version) for each, version in _some(data, versions).items()),
        whole=data.draw(st.booleans()),
    )
    there = {each.agent_id for each in listing.agents}
    listing = attrs.evolve(listing, unusable=frozenset(data.draw(st.sets(st.sampled_from(IDS)))) - there)
    agents = {
        each: known(each, version=version, source=data.draw(st.sampled_from(AgentSource)))
        for each, version in _some(data, versions).items()
    }
    spoken_of = data.draw(st.sets(st.sampled_from(IDS)))
    found = changes(listing, agents.values(), KIT, spoken_of)
    wanted = {each.agent_id: each for each in listing.agents}
    for agent_id in IDS:
        agent, entry = agents.get(agent_id), wanted.get(agent_id)
        free = agent_id not in spoken_of and (agent is None or agent.source is KIT)
        is_new = entry is not None and (agent is None or agent.version != entry.version)
        is_gone = agent is not None and entry is None and agent_id not in listing.unusable and listing.whole
        assert (agent_id in {each.agent_id for each in found.register}) == (free and is_new)
        assert (agent_id in found.forget) == (free and is_gone)


def _some(data: st.DataObject, values: st.SearchStrategy[str]) -> dict[str, str]:
    return data.draw(st.dictionaries(st.sampled_from(IDS), values))


def test_who_is_spoken_of_at_the_start_and_from_then_on_is_noted() -> None:
    introductions = Introductions()
    with introductions.registers("before"):
        pass
    with introductions.deregisters("begun"):
        with introductions.spoken_of() as noted:
            with introductions.registers("during"), introductions.spoken_of() as later:
                assert set(later) == {"begun", "during"}
            with introductions.deregisters("after"):
                pass
            assert set(noted) == {"begun", "during", "after"}
        with introductions.registers("too late"):
            assert "too late" not in noted
    with introductions.spoken_of() as noted:
        assert set(noted) == set()


def test_two_that_note_the_same_are_told_apart() -> None:
    introductions = Introductions()
    outer = introductions.spoken_of()
    noted = outer.__enter__()
    with introductions.spoken_of():
        pass
    with introductions.registers("a"):
        assert set(noted) == {"a"}
    outer.__exit__(None, None, None)


def test_an_agent_is_being_registered_until_the_last_call_that_does_so_has_ended() -> None:
    introductions = Introductions()
    with introductions.deregisters("a"):
        assert not introductions.is_registering("a")
        with introductions.registers("a"):
            with pytest.raises(ZeroDivisionError), introductions.registers("a"):
                raise ZeroDivisionError
            assert introductions.is_registering("a")
    assert not introductions.is_registering("a")
