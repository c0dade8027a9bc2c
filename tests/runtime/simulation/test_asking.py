"""What simulated agents do when they are asked to: they show life."""

from typing import Any

import pytest

from opscore.runtime.models import TaskStatus
from opscore.runtime.simulation import (
    AgentModel,
    Faults,
    Latency,
    Scenario,
    Skill,
    Trigger,
    play,
)

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


def scenario(**changes: Any) -> Scenario:
    standard: dict[str, Any] = {
        "workflows": [WATCHED],
        "agents": [AgentModel(skills=LONG, report_every_s=900.0)],
        "triggers": [Trigger(payload={"number": number}) for number in range(2)],
    }
    return Scenario(**{**standard, **changes})


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
