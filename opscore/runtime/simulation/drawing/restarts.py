"""Worlds whose node starts again while as many runs as may be wait for agents that come later."""

import random
from typing import Any, Final

import attrs

from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Kind, Skill
from opscore.runtime.simulation.scenario import Scenario, Trigger

_KINDS: Final[tuple[Kind, ...]] = ("push", "claim", "local")
_OPEN_MAX: Final = 3


def restarted_while_waiting(rng: random.Random, scenario: Scenario) -> Scenario:
    """Runs wait in one line for agents, the process ends and starts again, and more runs are asked for than may be."""
    tasks: list[dict[str, Any]] = [
        {"taskId": name, "agentCapability": "x", "priority": rng.choice((0, 5, 9)), "leaseSeconds": 30} for name in "ab"
    ]
    tasks.append({"taskId": "pause", "type": "delay", "parameters": {"seconds": rng.choice((20, 90))}})
    times = [*(1.0 * number for number in range(_OPEN_MAX)), *(rng.uniform(10.0, 60.0) for _ in range(4))]
    return attrs.evolve(
        scenario,
        workflows=[{"id": "restarted", "tasks": tasks}],
        agents=[AgentModel(name="a", count=2, kind=rng.choice(_KINDS), skills={"x": Skill()}, joins_at_s=80.0)],
        triggers=[Trigger(at_s=at_s, payload={"number": number}) for number, at_s in enumerate(times)],
        faults=rng.choice((Faults(process_dies=0.006), Faults(process_restarts=0.006))),
        faults_until_s=100.0,
        limits=attrs.evolve(scenario.limits, sessions_open_max=_OPEN_MAX),
    )
