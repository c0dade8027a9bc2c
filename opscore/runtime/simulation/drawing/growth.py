"""Worlds for child runs without end, for attempts that fall silent, and for timeouts during a pause.

They replace worlds to which nothing special was added. Which ones is drawn from a separate source, so that all other
worlds stay as they are.
"""

import random
from typing import Any, Final

import attrs

from opscore.runtime.models import Move
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Kind, Latency, Skill
from opscore.runtime.simulation.scenario import Scenario, Steering, Trigger

_SHARE: Final = 0.4
_SOURCE: Final = "growth-758"
"""A source that does not replace the worlds by which planted bugs were found before."""
_KINDS: Final[tuple[Kind, ...]] = ("push", "claim", "local")
_TREE: Final = "tree"
_BELOW: Final = "below"


def with_growth(scenario: Scenario, *, is_plain: bool) -> Scenario:
    """Return the scenario, or another one in its place.

    Args:
        scenario: the scenario as it was drawn.
        is_plain: whether nothing special was added to it, so that it may be replaced.
    """
    rng = random.Random(f"{scenario.seed}/{_SOURCE}")
    if not is_plain or rng.random() > _SHARE:
        return scenario
    plain = attrs.evolve(scenario, cordons=())
    return rng.choice((_growing, _silent, _over_while_paused))(rng, plain)


def _growing(rng: random.Random, scenario: Scenario) -> Scenario:
    """Each run starts child runs of its own workflow, until one is nested too deep, or there are too many."""
    again = {"type": "workflow", "parameters": {"workflowId": _TREE, "input": {"number": 1}}}
    tasks: list[dict[str, Any]] = [
        {"taskId": "first", "type": "delay", "parameters": {"seconds": rng.choice((0, 7, 12))}},
        {
            "taskId": "more",
            "dependsOn": ["first"],
            "forEach": list(range(rng.choice((1, 2, 3)))),
            "retry": {"maxRetries": rng.choice((1, 2)), "initialDelaySeconds": 5},
            "continueOnFailure": rng.random() < 0.5,  # noqa: PLR2004 (half of them)
            **again,
        },
        {"taskId": "rest", "type": "delay", "parameters": {"seconds": rng.choice((10, 40))}},
    ]
    runs = rng.choice((1, 2))
    limits = attrs.evolve(
        scenario.limits, runs_below_max=rng.choice((2, 4, 8)), runs_depth_max=rng.choice((2, 4)), sessions_open_max=100
    )
    return attrs.evolve(
        scenario,
        workflows=[{"id": _TREE, "tasks": tasks}],
        agents=[AgentModel(name="a", skills={"x": Skill()})],
        triggers=_triggers(runs),
        steerings=[
            Steering(
                move=rng.choice((Move.CANCEL, Move.CANCEL, Move.PAUSE, Move.RESET)),
                trigger=rng.randrange(runs),
                at_s=rng.uniform(0.0, 40.0),
                below=True,
            )
            for _ in range(rng.choice((1, 2, 3)))
        ],
        faults=rng.choice((Faults(), Faults(), Faults.usual("process"), Faults.usual("commit", "actor_raises"))),
        faults_until_s=90.0,
        limits=limits,
    )


def _silent(rng: random.Random, scenario: Scenario) -> Scenario:
    """Long work requires heartbeats, which some agents forget."""
    tasks = [
        {
            "taskId": name,
            "agentCapability": "x",
            "heartbeatSeconds": rng.choice((6, 15)),
            "leaseSeconds": rng.choice((10, 60)),
            "timeoutSeconds": rng.choice((45, 300)),
            "retry": {"maxRetries": 2, "initialDelaySeconds": 1},
        }
        for name in "ab"
    ]
    skill = Skill(latency=Latency("uniform", 10.0, 60.0))
    others = rng.choice((Faults(), Faults.usual("process"), Faults.usual("request", "delivery")))
    return attrs.evolve(
        scenario,
        workflows=[{"id": "silent", "tasks": tasks}],
        agents=[
            AgentModel(name=f"a{number}", kind=rng.choice(_KINDS), skills={"x": skill}, report_every_s=900.0)
            for number in range(2)
        ],
        triggers=_triggers(3),
        faults=attrs.evolve(others, agent_forgets=rng.choice((0.0, 0.3, 0.3))),
    )


def _over_while_paused(rng: random.Random, scenario: Scenario) -> Scenario:
    """A run's timeout passes while it is paused, and some of its tasks wait for an agent that is free by then."""
    tasks = [{"taskId": name, "agentCapability": "x", "leaseSeconds": 60} for name in "abcd"]
    tasks[0]["compensateTaskId"] = "undo"
    document = {
        "id": "paused",
        "sessionTimeoutSeconds": rng.choice((15, 25)),
        "tasks": [*tasks, {"taskId": "undo", "agentCapability": "x"}],
    }
    runs = 2
    return attrs.evolve(
        scenario,
        workflows=[document],
        agents=[
            AgentModel(name="a", kind=rng.choice(_KINDS), skills={"x": Skill(latency=Latency("uniform", 3.0, 12.0))})
        ],
        triggers=_triggers(runs),
        steerings=[
            Steering(move=Move.PAUSE, trigger=number, at_s=rng.uniform(0.0, 12.0), lasts_s=rng.choice((10.0, 40.0)))
            for number in range(runs)
        ],
        faults=rng.choice((Faults(), Faults.usual("process", "actor_raises"))),
    )


def more_than_may_be(rng: random.Random, scenario: Scenario) -> Scenario:
    """A run starts one long child run after another, until there are more than may be unfinished below it."""
    most = rng.choice((1, 2, 3))
    call = {"type": "workflow", "parameters": {"workflowId": _BELOW, "input": {}}, "retry": {"maxRetries": 0}}
    tasks: list[dict[str, Any]] = []
    for number in range(2 * most + 3):
        delay = {"seconds": 6 + 7 * number}
        tasks += [
            {"taskId": f"d{number}", "type": "delay", "parameters": delay},
            {"taskId": f"s{number}", "dependsOn": [f"d{number}"], "continueOnFailure": True, **call},
        ]
    rest = {"taskId": "rest", "type": "delay", "parameters": {"seconds": rng.choice((60, 200))}}
    return attrs.evolve(
        scenario,
        workflows=[{"id": "more-than-may-be", "tasks": tasks}],
        saved=[{"id": _BELOW, "tasks": [rest]}],
        agents=[AgentModel(name="a", skills={"x": Skill()})],
        triggers=_triggers(rng.choice((1, 2))),
        faults=Faults(),
        limits=attrs.evolve(scenario.limits, runs_below_max=most, sessions_open_max=100),
    )


def _triggers(count: int) -> list[Trigger]:
    return [Trigger(at_s=2.0 * number, payload={"number": number}) for number in range(count)]
