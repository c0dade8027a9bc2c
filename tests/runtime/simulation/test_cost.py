"""Checking a commit costs the same in a small world and in a large one."""

import sys
from typing import Any

from opscore.runtime.simulation import AgentModel, Latency, Scenario, Skill, Trigger, play


def calls_a_commit(agents: int, runs: int) -> float:
    """Return how many calls of Python a commit takes in a world, which no other load changes."""
    task = {"taskId": "only", "agentCapability": "work"}
    scenario = Scenario(
        workflows=[{"id": "one", "tasks": [task]}],
        agents=[AgentModel(count=agents, skills={"work": Skill(latency=Latency("uniform", 0.1, 2.0))})],
        triggers=[Trigger(at_s=60.0 * number / runs) for number in range(runs)],
    )
    calls = 0

    def count(*_: Any) -> None:
        nonlocal calls
        calls += 1

    sys.setprofile(count)
    try:
        world = play(scenario)
    finally:
        sys.setprofile(None)
    world.check()
    return calls / world.commits


def test_a_commit_costs_the_same_however_many_runs_and_agents_there_are() -> None:
    assert calls_a_commit(40, 400) <= 1.02 * calls_a_commit(10, 100)
