"""Worlds for who is first in line: with tasks that come at once, or as the next of a line are read."""

import random
from typing import Any, Final

import attrs

from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Kind, Latency, Skill
from opscore.runtime.simulation.scenario import Scenario, Trigger

_STEPS: Final = 7
_KINDS: Final[tuple[Kind, ...]] = ("local", "local", "push")


def short_lines(rng: random.Random, scenario: Scenario) -> Scenario:
    """Tasks with any priority become ready while a line is read in which hardly more wait than are in memory."""
    agents, window = rng.choice((3, 4)), rng.choice((1, 2))
    # So many that the line is cut, and so few that what becomes ready is often among the next that are read.
    runs = agents + 2 * window + 1
    return attrs.evolve(
        scenario,
        workflows=[_chain(rng, number) for number in range(runs)],
        # All of them end their work at the same moments.
        agents=[
            AgentModel(
                name="a",
                count=agents,
                kind=rng.choice(_KINDS),
                skills={"x": Skill(latency=Latency("constant", 1.0))},
                report_every_s=900.0,
            )
        ],
        triggers=[Trigger(workflow=number, payload={"number": number}) for number in range(runs)],
        faults=Faults(),
        limits=attrs.evolve(scenario.limits, line_window=window, sessions_open_max=100, agent_ttl_s=0.0),
    )


def ready_together(rng: random.Random, scenario: Scenario) -> Scenario:
    """Tasks with different priorities become ready at once, while fewer agents are free than there are tasks."""
    tasks: list[dict[str, Any]] = [{"taskId": "first", "agentCapability": "x", "leaseSeconds": 60}]
    priorities = rng.sample(range(10), 5)
    tasks += [
        {
            "taskId": f"t{place}",
            "priority": priority,
            "dependsOn": ["first"],
            "agentCapability": "x",
            "leaseSeconds": 60,
        }
        for place, priority in enumerate(priorities)
    ]
    return attrs.evolve(
        scenario,
        workflows=[{"id": "ready-together", "tasks": tasks}],
        agents=[AgentModel(name="a", count=rng.choice((2, 3)), skills={"x": Skill()}, report_every_s=900.0)],
        # The second begins once the first is over.
        triggers=[Trigger(at_s=30.0 * number, payload={"number": number}) for number in range(2)],
        faults=Faults(),
    )


def _chain(rng: random.Random, number: int) -> dict[str, Any]:
    tasks = [
        {
            "taskId": f"t{place}",
            "agentCapability": "x",
            "priority": rng.randint(0, 9),
            "dependsOn": [f"t{place - 1}"] if place else [],
            "leaseSeconds": 60,
        }
        for place in range(_STEPS)
    ]
    return {"id": f"short-lines-{number}", "tasks": tasks}
