"""What simulated agents and operators do when they are asked to: show life, drain, look, sweep, and be refused."""

from typing import Any

import attrs
import pytest

from opscore.runtime.models import Missed, SessionStatus, TaskStatus
from opscore.runtime.simulation import (
    STANDARD,
    AgentModel,
    Calendar,
    Cordon,
    Faults,
    Invariants,
    Latency,
    Look,
    Played,
    Scenario,
    Skill,
    Sweep,
    Trigger,
    play,
)
from opscore.runtime.simulation.drawing.scenarios import drawn
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.rows import Rows

LONG = {"x": Skill(latency=Latency("constant", 50.0))}
WATCHED: dict[str, Any] = {
    "id": "watched",
    "tasks": [
        {
            "taskId": "a",
            "agentCapability": "x",
            "heartbeatSeconds": 6,
            "leaseSeconds": 30,
            "retry": {"maxRetries": 0, "initialDelaySeconds": 1},
        }
    ],
}
FAILING = {"x": Skill(latency=Latency("constant", 1.0), failure_rate=1.0, retryable=False)}


def scenario(**changes: Any) -> Scenario:
    standard: dict[str, Any] = {
        "workflows": [WATCHED],
        "agents": [AgentModel(skills=LONG, report_every_s=900.0)],
        "triggers": [Trigger(payload={"number": number}) for number in range(2)],
    }
    return Scenario(**{**standard, **changes})


def replies(asked: Scenario, call: str) -> tuple[Played, list[Reply]]:
    """What came of a world, and the answers to one kind of call."""
    found: list[Reply] = []

    def note(reply: Reply, _: Rows) -> None:
        if reply.call == call:
            found.append(reply)

    world = play(asked, STANDARD + Invariants(on_reply=(note,)))
    world.check()
    return world, found


# --- signs of life --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["push", "claim", "local"])
def test_agents_show_life_as_often_as_their_task_asks_for(kind: Any) -> None:
    world = play(scenario(agents=[AgentModel(kind=kind, skills=LONG, report_every_s=900.0)]))
    world.check()
    assert [(task.status, task.attempt) for task in world.tasks] == [(TaskStatus.COMPLETED, 1)] * 2


@pytest.mark.parametrize("kind", ["push", "claim"])
def test_one_that_forgets_to_show_life_has_failed(kind: Any) -> None:
    agents = [AgentModel(kind=kind, skills=LONG, report_every_s=900.0)]
    codes = set()
    for seed in range(5):
        world = play(scenario(seed=seed, agents=agents, faults=Faults(agent_forgets=1.0)))
        world.check()
        codes |= {task.error.code for task in world.tasks if task.error is not None}
    assert "heartbeat_timeout" in codes


def test_a_function_that_sends_no_heartbeat_is_bound_by_its_timeout_alone() -> None:
    world = play(scenario(agents=[AgentModel(kind="local", skills=LONG)], faults=Faults(agent_forgets=1.0)))
    world.check()
    assert {task.status for task in world.tasks} == {TaskStatus.COMPLETED}


# --- operators ------------------------------------------------------------------------------------------------


def test_whoever_drains_an_agent_is_told_once_it_holds_nothing() -> None:
    drain = Cordon(agent_id="agent", at_s=10.0, lasts_s=200.0, drains=True)
    _, (told,) = replies(scenario(cordons=[drain]), "drain")
    assert told.value.drained
    assert 35.0 < told.arguments["waited_s"] < 45.0


def test_runs_are_looked_up_page_by_page() -> None:
    labelled = [Trigger(payload={}, labels={"kind": "one"}, business_key=f"order-{number}") for number in range(3)]
    looks = [Look(at_s=20.0, labels={"kind": "one"}, limit=1), Look(at_s=20.0, business_key="order-1")]
    world, (all_of_them, one) = replies(scenario(triggers=labelled, looks=looks), "look")
    assert len(all_of_them.value) == len(world.sessions) == 3
    assert len(one.value) == 1


@pytest.mark.parametrize("replays_max", [1, 2, 100])
def test_dead_letters_of_a_code_are_tried_again_by_as_few_calls_as_that_takes(replays_max: int) -> None:
    asked = scenario(
        agents=[AgentModel(skills=FAILING)],
        triggers=[Trigger(payload={}) for _ in range(4)],
        sweeps=[Sweep(at_s=60.0, code="task_failed"), Sweep(at_s=60.0, code="timeout")],
    )
    limits = attrs.evolve(asked.limits, replays_max=replays_max)
    world, told = replies(attrs.evolve(asked, limits=limits), "replay")
    assert [task.attempt for task in world.tasks] == [2] * 4
    assert sum(len(each.value.sessions) for each in told) == 4
    assert len(told) <= 4 / replays_max + 2


@pytest.mark.parametrize(
    "other", [{"agent_id": "agent"}, {"payload": 2}, {"labels": {"a": "b"}}, {"business_key": "other"}]
)
def test_a_key_without_a_body_is_refused_for_anything_else(other: dict[str, Any]) -> None:
    first = Trigger(payload=1, key="one", says_body=False)
    triggers = [first, attrs.evolve(first, at_s=5.0), attrs.evolve(first, at_s=10.0, **other)]
    world, told = replies(scenario(triggers=triggers), "trigger")
    assert len(world.sessions) == 1
    assert len(told) == 2
    assert list(world.history.ledger.refused) == [2]


def test_a_schedule_of_the_same_id_that_says_something_else_is_refused() -> None:
    calendar = Calendar(workflow_id="watched", cron="* * * * *", missed=Missed.ALL, lasts_s=70.0)
    for other, answered in ((Missed.ALL, 2), (Missed.SKIP, 1)):
        asked = scenario(saved=[WATCHED], triggers=[], calendars=[attrs.evolve(calendar, other=other)])
        world, told = replies(asked, "schedule")
        assert len(told) == answered
        assert {session.status for session in world.sessions} <= {SessionStatus.COMPLETED}


def test_drawn_worlds_come_to_all_of_that() -> None:
    worlds = [drawn(seed) for seed in range(1_000)]
    assert any(each.drains for world in worlds for each in world.cordons)
    assert any(each.code for world in worlds for each in world.sweeps)
    assert any(each.other for world in worlds for each in world.calendars)
    assert any(not each.says_body for world in worlds for each in world.triggers)
    assert any(world.looks for world in worlds)
    assert any("agent_forgets" in world.faults.on() for world in worlds)
    assert {"tree", "silent", "paused"} <= {document["id"] for world in worlds for document in world.workflows}
