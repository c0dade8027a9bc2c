"""Fleets as documents: what they say, what is wrong with them, and what a workflow needs when there is none."""

import random
from typing import Any

import pytest

from opscore.runtime.definitions.definition import Definition, parse
from opscore.runtime.errors import InvalidDocument
from opscore.runtime.limits import Limits
from opscore.runtime.simulation import AgentModel, Latency, Skill
from opscore.runtime.simulation.fleet_document import derived_fleet, fleet_of, session_agent

LIMITS = Limits()


def workflow(*tasks: dict[str, Any]) -> Definition:
    named = [{"taskId": f"t{number}", **task} for number, task in enumerate(tasks)]
    return parse({"id": "w", "tasks": named}, LIMITS)


ANYBODY = workflow({"agentCapability": "collect"})


def faults(*agents: Any, definition: Definition = ANYBODY) -> list[tuple[str, str]]:
    with pytest.raises(InvalidDocument) as refused:
        fleet_of({"agents": list(agents)}, definition, LIMITS)
    return [(fault.path, fault.message) for fault in refused.value.faults]


def latency(document: Any) -> Latency:
    (model,) = fleet_of({"agents": [{"name": "a", "skills": {"collect": {"latency": document}}}]}, ANYBODY, LIMITS)
    return model.skills["collect"].latency


def test_a_document_says_everything_of_a_kind_of_agent() -> None:
    skill = {
        "latency": {"uniform": [0.5, 2]},
        "failureRate": 0.1,
        "failureCode": "busy",
        "retryable": False,
        "result": {"ok": True},
    }
    document = {
        "name": "collector",
        "count": 3,
        "kind": "claim",
        "skills": {"collect": skill, "rest": {}},
        "default": {"failureRate": 1},
        "joinsAt": 5,
        "leavesAt": 60,
        "leavingShare": 0.5,
        "returnsAt": 90,
        "reportEvery": 10,
    }
    assert fleet_of({"agents": [document]}, ANYBODY, LIMITS) == (
        AgentModel(
            name="collector",
            count=3,
            kind="claim",
            skills={
                "collect": Skill(
                    latency=Latency("uniform", 0.5, 2.0),
                    failure_rate=0.1,
                    failure_code="busy",
                    retryable=False,
                    result={"ok": True},
                ),
                "rest": Skill(),
            },
            default=Skill(failure_rate=1.0),
            joins_at_s=5.0,
            leaves_at_s=60.0,
            leaving_share=0.5,
            returns_at_s=90.0,
            report_every_s=10.0,
        ),
    )


def test_what_is_not_said_is_as_usual_and_skills_may_be_names_alone() -> None:
    assert fleet_of({"agents": [{"name": "a", "skills": ["collect"]}]}, ANYBODY, LIMITS) == (
        AgentModel(name="a", skills={"collect": Skill()}),
    )


@pytest.mark.parametrize(
    ("document", "expected"),
    [
        ({"constant": 1}, Latency("constant", 1.0)),
        ({"uniform": [1, 2]}, Latency("uniform", 1.0, 2.0)),
        ({"exponential": 3}, Latency("exponential", 3.0)),
        ({"lognormal": [4, 0.5]}, Latency("lognormal", 4.0, 0.5)),
    ],
)
def test_each_shape_of_latency_is_read(document: Any, expected: Latency) -> None:
    assert latency(document) == expected
    assert latency(document).draw(random.Random(1)) >= 0.0


@pytest.mark.parametrize(
    ("document", "path", "said"),
    [
        ({"unifrom": [1, 2]}, "", "did you mean 'uniform'?"),
        ({"uniform": [2, 1]}, ".uniform", "the smaller number first"),
        ({"uniform": 1}, ".uniform", "expected two numbers"),
        ({"constant": "1"}, ".constant", "expected a number, found a string"),
        ({"constant": None}, ".constant", "found null"),
        ({"uniform": [1, -2]}, ".uniform[1]", "found -2"),
        ({"constant": 1, "uniform": [1, 2]}, "", "found 2 of them"),
        (3, "", "expected an object, found a number"),
    ],
)
def test_a_latency_that_is_none_is_told_with_its_place(document: Any, path: str, said: str) -> None:
    ((found, message),) = faults({"name": "a", "skills": {"collect": {"latency": document}}})
    assert found == f"agents[0].skills.collect.latency{path}"
    assert said in message


def test_every_fault_is_told_at_once_each_with_its_place() -> None:
    found = faults(
        {"name": "a", "cuont": 3, "kind": "puhs", "skills": {"collect": {"failureRate": 1.5, "retryable": 1}}},
        {"count": 0, "skills": 3, "joinsAt": True},
        "b",
    )
    assert found == [
        ("agents[0]", "unknown field 'cuont'; did you mean 'count'?"),
        ("agents[0].kind", "expected push, claim or local; did you mean 'push'?"),
        ("agents[0].skills.collect.failureRate", "expected a number from 0 to 1, found 1.5"),
        ("agents[0].skills.collect.retryable", "expected true or false, found a number"),
        ("agents[1].name", "this field is required"),
        ("agents[1].count", "expected a whole number from 1 to 10,000, found 0"),
        ("agents[1].skills", "expected an object of skills by capability, or a list of capabilities, found a number"),
        ("agents[1].joinsAt", "expected a number, found true or false"),
        ("agents[2]", "expected an object, found a string"),
    ]


@pytest.mark.parametrize(
    ("agent", "path", "said"),
    [
        ({"leavesAt": 5, "joinsAt": 9}, "leavesAt", "after it joins"),
        ({"leavesAt": 5, "returnsAt": 5}, "returnsAt", "after it leaves"),
        ({"returnsAt": 5}, "returnsAt", "no effect without leavesAt"),
        ({"leavingShare": 0.5}, "leavingShare", "no effect without leavesAt"),
        ({"leavesAt": 5, "kind": "local"}, "leavesAt", "never leaves"),
        ({"name": "a/b"}, "name", 'contains "/"'),
        (
            {"skills": {"collect": {"latency": {"lognormal": [3, 31_536_000]}}}},
            "skills.collect.latency.lognormal[1]",
            "from 0 to 10, found 31536000",
        ),
        (
            {"kind": "local", "skills": {"collect": {"failureCode": "declined"}}},
            "skills.collect.failureCode",
            "a function that fails by raising: failureCode is always task_failed",
        ),
        (
            {"kind": "local", "default": {"retryable": False}},
            "default.retryable",
            "a function that fails by raising: retryable is always true",
        ),
    ],
)
def test_what_makes_no_sense_together_is_refused(agent: dict[str, Any], path: str, said: str) -> None:
    ((found, message),) = faults({"name": "a", "skills": ["collect"], **agent})
    assert found == f"agents[0].{path}"
    assert said in message


def test_two_agents_of_one_id_are_refused() -> None:
    assert faults({"name": "a", "count": 2, "skills": ["collect"]}, {"name": "a-1"}) == [
        ("agents[1].name", "the id 'a-1' is taken by an earlier agent")
    ]


@pytest.mark.parametrize("document", [None, [], {}, {"agents": []}, {"agents": {}}, {"agent": []}])
def test_what_is_no_fleet_is_refused(document: Any) -> None:
    with pytest.raises(InvalidDocument):
        fleet_of(document, ANYBODY, LIMITS)


def test_a_task_that_nobody_can_do_is_told() -> None:
    definition = workflow({"agentCapability": "collect"}, {"agentId": "bob"}, {"agentCapability": "ship"})
    assert [message for _, message in faults({"name": "a", "skills": ["collect"]}, definition=definition)] == [
        "no agent is called 'bob', which task 't1' asks for",
        "no agent has the skill 'ship', which task 't2' asks for",
    ]


def test_a_task_of_a_workflow_below_that_nobody_can_do_is_told() -> None:
    below = parse(
        {"id": "packing", "tasks": [{"taskId": "pack", "agentCapability": "hands"}, {"taskId": "any"}]}, LIMITS
    )
    with pytest.raises(InvalidDocument) as refused:
        fleet_of({"agents": [{"name": "a"}]}, ANYBODY, LIMITS, (below,))
    assert [fault.message for fault in refused.value.faults] == [
        "no agent has the skill 'collect', which task 't0' asks for",
        "no agent has the skill 'hands', which task 'pack' of workflow 'packing' asks for",
    ]
    fleet = derived_fleet(ANYBODY, (below,))
    assert {skill for model in fleet for skill in model.skills} == {"collect", "hands"}
    assert session_agent(ANYBODY, fleet, (below,)) == "session-agent", "a run below has the agent of the one above"


def test_who_is_missing_is_told_beside_the_faults_that_do_not_hide_it() -> None:
    assert faults({"name": "a", "joinsAt": -1}, {"name": "a", "skills": {"rest": {"failureRate": 2}}}) == [
        ("agents[0].joinsAt", "expected a number from 0 to 31536000, found -1"),
        ("agents[1].skills.rest.failureRate", "expected a number from 0 to 1, found 2"),
        ("agents[1].name", "the id 'a' is taken by an earlier agent"),
        ("agents", "no agent has the skill 'collect', which task 't0' asks for"),
    ]
    for hides in ({"skils": ["collect"]}, {"skills": 5}, {"count": 0}):
        ((path, _),) = faults({"name": "a", **hides})
        assert path.startswith("agents[0]")


def test_a_derived_fleet_has_two_for_each_capability_and_every_agent_that_is_named() -> None:
    definition = workflow(
        {"agentCapability": "collect"}, {"agentId": "bob"}, {"agentCapability": "a/b"}, {"agentCapability": "collect"}
    )
    assert derived_fleet(definition) == (
        AgentModel(name="bob"),
        AgentModel(name="collect-agent", count=2, skills={"collect": Skill()}),
        AgentModel(name="agent", count=2, skills={"a/b": Skill()}),
    )
    assert session_agent(definition, derived_fleet(definition)) is None


def test_a_task_that_names_nobody_gets_an_agent_for_the_session() -> None:
    definition = workflow({}, {"agentId": "session-agent"})
    fleet = derived_fleet(definition)
    assert [model.name for model in fleet] == ["session-agent-2", "session-agent"]
    assert session_agent(definition, fleet) == "session-agent-2"


@pytest.mark.parametrize(("count", "share", "leaving"), [(4, 0.5, 2), (3, 0.5, 2), (10, 0.0, 0), (1, 1.0, 1)])
def test_a_share_of_the_agents_leaves(count: int, share: float, leaving: int) -> None:
    model = AgentModel(name="a", count=count, leaves_at_s=60.0, leaving_share=share)
    assert sum(model.leaves(agent_id) for agent_id in model.ids()) == leaving
    stays = AgentModel(name="a", count=count, leaving_share=share)
    assert not any(stays.leaves(agent_id) for agent_id in stays.ids())
