"""Worlds for rare situations: each leads directly to one kind of trouble, with drawn details.

They replace some of the worlds that have no features. Which ones is drawn from a separate source, so that all other
worlds stay as they are.
"""

import random
from typing import Any, Final

import attrs

from opscore.runtime.models import Move
from opscore.runtime.simulation.drawing.features import has_features
from opscore.runtime.simulation.drawing.signals import with_signals
from opscore.runtime.simulation.drawing.unwinding import with_bad_ends
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Kind, Latency, Skill
from opscore.runtime.simulation.scenario import Scenario, Steering, Trigger

_SHARE: Final = 0.2
_KINDS: Final[tuple[Kind, ...]] = ("push", "claim", "local")
_SOON: Final = Latency("uniform", 0.1, 5.0)


def with_corners(scenario: Scenario) -> Scenario:
    """Return the scenario, or another one in its place."""
    rng = random.Random(f"{scenario.seed}/corners")
    if has_features(scenario):
        return scenario
    if rng.random() > _SHARE:
        ends_badly = with_bad_ends(scenario)
        return ends_badly if ends_badly is not scenario else with_signals(scenario)
    plain = attrs.evolve(scenario, cordons=())
    return rng.choice((_failing_lists, _slots_left, _retried, _poisoned, _late_claims))(rng, plain)


def _failing_lists(rng: random.Random, scenario: Scenario) -> Scenario:
    """Items of a list fail out of order, some of them while others wait for a retry."""
    task = {
        "taskId": "each",
        "agentCapability": "x",
        "forEach": list("abcdef"),
        "concurrency": rng.choice((3, 10)),
        "leaseSeconds": 30,
        "retry": {"maxRetries": rng.choice((0, 1)), "initialDelaySeconds": rng.choice((0, 5, 20)), "jitter": False},
    }
    skill = Skill(latency=Latency("uniform", 0.1, 20.0), failure_rate=0.5)
    return attrs.evolve(
        scenario,
        workflows=[_workflow(task)],
        agents=[AgentModel(name=f"a{number}", kind=rng.choice(_KINDS), skills={"x": skill}) for number in range(5)],
        triggers=_triggers(rng.choice((1, 2))),
    )


def _slots_left(rng: random.Random, scenario: Scenario) -> Scenario:
    """The agent that frees the one slot that others wait for continues with something long."""
    first = {"taskId": "first", "agentCapability": "x", "concurrencyKey": "one"}
    second = {"taskId": "second", "agentCapability": "x", "dependsOn": ["first"], "priority": rng.choice((0, 9))}
    skill = Skill(latency=Latency("constant", rng.choice((10.0, 40.0))))
    return attrs.evolve(
        scenario,
        workflows=[_workflow(first, second)],
        agents=[AgentModel(name="a", count=2, kind=rng.choice(("push", "local")), skills={"x": skill})],
        triggers=_triggers(3),
        faults=Faults(),
    )


def _retried(rng: random.Random, scenario: Scenario) -> Scenario:
    """Runs fail after a fallback has succeeded for them, and are retried more than once."""
    again = {"retry": {"maxRetries": 0}, "leaseSeconds": 30}
    tasks: list[dict[str, Any]] = [
        {"taskId": "a", "agentCapability": "x", "fallbackTaskId": "instead", **again},
        {"taskId": "instead", "agentCapability": "y", **again},
        {"taskId": "b", "agentCapability": "z", "dependsOn": ["a"], **again},
    ]
    rates, kind = {"x": 0.8, "y": 0.1, "z": 0.7}, rng.choice(_KINDS)
    if rng.random() < 0.5:  # noqa: PLR2004 (half of them)
        # The fallback fails as well, which may be harmless, and the run may fail while the fallback is out.
        tasks[0]["continueOnFailure"] = rng.choice((True, False))
        tasks[2]["dependsOn"] = rng.choice((["a"], []))
        rates["y"] = 0.5
    skills = {name: Skill(latency=_SOON, failure_rate=rate) for name, rate in rates.items()}
    return attrs.evolve(
        scenario,
        workflows=[_workflow(*tasks)],
        agents=[AgentModel(name="a", count=2, kind=kind, skills=skills)],
        triggers=_triggers(2),
        steerings=[
            Steering(move=Move.RETRY, trigger=trigger, at_s=at_s, when_ended=True)
            for trigger in range(2)
            for at_s in (0.0, 5.0, 60.0)
        ],
    )


def _poisoned(rng: random.Random, scenario: Scenario) -> Scenario:
    """Runs are paused because their actors keep crashing, while their attempts hold slots; somebody steers them."""
    limits = {"leaseSeconds": 120, "scheduleToStartSeconds": 400, "priority": 5}
    tasks: list[dict[str, Any]] = [{"taskId": name, "agentCapability": "x", **limits} for name in "ab"]
    tasks[0]["concurrencyKey"] = tasks[1]["concurrencyKey"] = "${input.number}"
    skill = Skill(latency=Latency("uniform", rng.choice((1.0, 30.0)), 100.0))
    moves = (Move.RESET, Move.RESET, Move.RESUME, Move.CANCEL)
    return attrs.evolve(
        scenario,
        workflows=[_workflow(*tasks)],
        agents=[
            AgentModel(name=f"a{number}", kind=rng.choice(("push", "claim")), skills={"x": skill})
            for number in range(2)
        ],
        triggers=[attrs.evolve(trigger, payload={"number": 1}) for trigger in _triggers(3)],
        steerings=[
            Steering(move=rng.choice(moves), trigger=trigger, at_s=rng.uniform(2.0, until_s))
            for trigger in range(3)
            for until_s in (20.0, 40.0, 60.0, 150.0)
        ],
        faults=Faults(run_poisoned=rng.choice((0.01, 0.03)), actor_raises=rng.choice((0.0, 0.01))),
        faults_until_s=120.0,
    )


def _late_claims(rng: random.Random, scenario: Scenario) -> Scenario:
    """Copies of claims arrive while the attempt that the claim got is being done, or after that."""
    task = {"taskId": "a", "agentCapability": "x", "leaseSeconds": 30}
    skill = Skill(latency=Latency("uniform", 1.0, 80.0))
    others = rng.choice((Faults(), Faults.usual("request", times=3.0)))
    return attrs.evolve(
        scenario,
        workflows=[_workflow(task)],
        agents=[AgentModel(name="a", count=rng.choice((1, 2)), kind="claim", skills={"x": skill})],
        triggers=_triggers(5),
        faults=attrs.evolve(others, agent_claims_late=0.5),
    )


def _workflow(*tasks: dict[str, Any]) -> dict[str, Any]:
    return {"id": "corner", "name": "Corner", "tasks": list(tasks)}


def _triggers(count: int) -> list[Trigger]:
    return [Trigger(at_s=2.0 * number, payload={"number": number}, agent_id=None) for number in range(count)]
