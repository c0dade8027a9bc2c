"""Worlds whose disk stalls while the node is stopped, or is full when something is due."""

import random
from typing import Any, Final

import attrs

from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Kind, Skill
from opscore.runtime.simulation.scenario import Scenario, Trigger

_KINDS: Final[tuple[Kind, ...]] = ("push", "claim", "local")


def stopped_while_stalled(rng: random.Random, scenario: Scenario) -> Scenario:
    """The process is stopped in order while its disk does not answer, and agents that report often wait for it."""
    tasks = [{"taskId": name, "agentCapability": "x", "leaseSeconds": 60} for name in "ab"]
    return attrs.evolve(
        scenario,
        workflows=[{"id": "stalled", "tasks": tasks}],
        agents=[
            AgentModel(name=f"a{number}", kind=rng.choice(_KINDS), skills={"x": Skill()}, report_every_s=2.0)
            for number in range(3)
        ],
        triggers=_triggers(6, every_s=5.0),
        faults=Faults(commit_stalled=0.1, process_restarts=0.01),
        faults_until_s=200.0,
    )


def due_while_full(rng: random.Random, scenario: Scenario) -> Scenario:
    """Delays and timeouts are over while the disk is full, and the actors that wait for them are passivated soon."""
    tasks: list[dict[str, Any]] = [
        {"taskId": f"d{number}", "type": "delay", "parameters": {"seconds": rng.choice((5, 10, 20, 30))}}
        for number in range(2)
    ]
    tasks += [
        {"taskId": "told", "type": "signal", "parameters": {}, "timeoutSeconds": rng.choice((15, 40))},
        {"taskId": "last", "agentCapability": "x", "dependsOn": ["d0"], "leaseSeconds": 30},
    ]
    tasks[2]["continueOnFailure"] = True
    return attrs.evolve(
        scenario,
        workflows=[{"id": "full", "tasks": tasks}],
        agents=[
            AgentModel(name="a", count=2, kind=rng.choice(_KINDS), skills={"x": Skill()}, report_every_s=900.0),
        ],
        triggers=_triggers(3, every_s=7.0),
        faults=Faults(disk_full=0.15),
        faults_until_s=100.0,
        limits=attrs.evolve(scenario.limits, passivate_s=0.5, passivate_beyond=0),
    )


def _triggers(count: int, *, every_s: float) -> list[Trigger]:
    return [Trigger(at_s=every_s * number, payload={"number": number}) for number in range(count)]
