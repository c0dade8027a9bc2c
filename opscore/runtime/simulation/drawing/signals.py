"""Worlds in which several tasks of a run wait for the same signal, which is sent more than once.

They replace some of the worlds that have neither features nor corners, and are drawn from a separate source.
"""

import random
from typing import Any, Final

import attrs

from opscore.runtime.models import Move
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Skill
from opscore.runtime.simulation.scenario import Scenario, Steering, Telling, Trigger

_SHARE: Final = 0.12
_NAME: Final = "go"


def with_signals(scenario: Scenario) -> Scenario:
    """Return the scenario, or another one in its place."""
    rng = random.Random(f"{scenario.seed}/signals")
    if rng.random() > _SHARE:
        return scenario
    runs = rng.choice((1, 2))
    moves = rng.choice(((), (), (Move.PAUSE,), (Move.PAUSE, Move.RESET), (Move.CANCEL,)))
    return attrs.evolve(
        scenario,
        cordons=(),
        workflows=[{"id": "signals", "tasks": _tasks(rng)}],
        agents=[AgentModel(name="a", skills={"x": Skill()})],
        triggers=[Trigger(at_s=2.0 * number, payload={"number": number}) for number in range(runs)],
        steerings=[
            Steering(move=move, trigger=rng.randrange(runs), at_s=rng.uniform(0.0, 40.0), lasts_s=20.0)
            for move in moves
        ],
        tellings=[
            Telling(name=_NAME, trigger=trigger, at_s=rng.uniform(0.0, 60.0), payload={"said": number})
            for trigger in range(runs)
            for number in range(rng.choice((2, 4, 6)))
        ],
        faults=rng.choice((Faults(), Faults.usual("request", "commit"), Faults.usual("process", "actor_raises"))),
        limits=attrs.evolve(
            scenario.limits, passivate_s=rng.choice((0.5, 5.0)), passivate_beyond=rng.choice((0, 10_000))
        ),
    )


def _tasks(rng: random.Random) -> list[dict[str, Any]]:
    """Draw tasks that begin to wait in another order than they are listed in; some wait in each item of a list."""
    tasks: list[dict[str, Any]] = []
    for number in range(rng.choice((2, 3, 4))):
        waits = {"taskId": f"s{number}", "type": "signal", "parameters": {"name": _NAME}, "continueOnFailure": True}
        waits |= {"timeoutSeconds": rng.choice((30, 200)), "dependsOn": [f"d{number}"]}
        if rng.random() < 0.2:  # noqa: PLR2004 (seldom)
            waits |= {"forEach": [1, 2, 3], "concurrency": rng.choice((1, 2, 3))}
        before = {"taskId": f"d{number}", "type": "delay", "parameters": {"seconds": rng.choice((0, 5, 15, 30))}}
        tasks += [waits, before]
    last = {"taskId": "last", "agentCapability": "x", "dependsOn": [task["taskId"] for task in tasks[::2]]}
    return [*tasks, last]
