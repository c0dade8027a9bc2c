"""Worlds for what becomes of an attempt: answers that come late, calls that are cut off, functions that go on."""

import random
from typing import Final

import attrs

from opscore.runtime.models import Move
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Kind, Latency, Skill
from opscore.runtime.simulation.scenario import Scenario, Steering, Trigger

_REMOTE: Final[tuple[Kind, ...]] = ("push", "claim")
_HOUR_S: Final = 3_600


def late_answers(rng: random.Random, scenario: Scenario) -> Scenario:
    """An agent reports a failure and gets the next attempt; only then does it answer the push of the one before."""
    again = {"maxRetries": 5, "initialDelaySeconds": 1, "maxDelaySeconds": 2, "jitter": rng.random() < 0.5}  # noqa: PLR2004 (half)
    task = {"taskId": "a", "agentCapability": "x", "leaseSeconds": 120, "retry": again}
    skill = Skill(latency=Latency("uniform", 3.0, rng.choice((10.0, 30.0))))
    return attrs.evolve(
        scenario,
        workflows=[{"id": "late-answers", "tasks": [task]}],
        agents=[AgentModel(name="a", skills={"x": skill}, answers_at_once=1.0)],
        triggers=_triggers(3, every_s=60.0),
        faults=Faults(agent_answers_twice=0.6),
        faults_until_s=600.0,
    )


def calls_cut_off(rng: random.Random, scenario: Scenario) -> Scenario:
    """The process dies while tools are called by agents that show no life before they answer the push."""
    again = {"maxRetries": 1, "initialDelaySeconds": 1}
    call = {"type": "tool", "agentCapability": "x", "parameters": {"tool": "adder", "arguments": {}}}
    tasks = [
        {
            "taskId": name,
            "leaseSeconds": 60,
            "idempotent": rng.random() < 0.2,  # noqa: PLR2004 (seldom)
            "retry": again,
            **call,
        }
        for name in "abc"
    ]
    others = rng.choice((Faults(), Faults.usual("delivery_slow", "delivery_broken")))
    skill = Skill(latency=Latency("uniform", 10.0, 40.0))
    return attrs.evolve(
        scenario,
        workflows=[{"id": "calls", "tasks": tasks}],
        agents=[AgentModel(name="a", count=3, skills={"x": skill}, answers_at_once=1.0)],
        triggers=_triggers(2),
        faults=attrs.evolve(others, process_dies=0.006),
        faults_until_s=200.0,
    )


def cancelled_functions(rng: random.Random, scenario: Scenario) -> Scenario:
    """Runs are cancelled or reset while functions are at work for them, which take long."""
    faults = rng.choice((*3 * [Faults()], Faults(process_restarts=0.01), Faults.usual("commit")))
    return _cancelled(rng, scenario, faults, runs=3, agents=2)


def cancelled_while_refused(rng: random.Random, scenario: Scenario) -> Scenario:
    """Many runs are cancelled while functions are at work for them, and the store refuses many commits."""
    return _cancelled(rng, scenario, Faults(commit_refused=0.3), runs=5, agents=10)


def _cancelled(rng: random.Random, scenario: Scenario, faults: Faults, *, runs: int, agents: int) -> Scenario:
    tasks = [{"taskId": name, "agentCapability": "x", "leaseSeconds": 30, "timeoutSeconds": _HOUR_S} for name in "ab"]
    skill = Skill(latency=Latency("uniform", 60.0, 300.0))
    moves = (Move.CANCEL, Move.CANCEL, Move.TERMINATE, Move.RESET)
    return attrs.evolve(
        scenario,
        workflows=[{"id": "cancelled-functions", "tasks": tasks}],
        agents=[AgentModel(name="a", count=agents, kind="local", skills={"x": skill})],
        triggers=_triggers(runs, every_s=10.0),
        steerings=[
            Steering(move=rng.choice(moves), trigger=number, at_s=rng.uniform(1.0, 60.0)) for number in range(runs)
        ],
        faults=faults,
        faults_until_s=200.0,
    )


def outlasting_functions(rng: random.Random, scenario: Scenario) -> Scenario:
    """Functions outlast their leases in silence, and meanwhile their ids are registered as remote agents."""
    lease_s = rng.choice((10, 20, 30))
    tasks = [
        {"taskId": name, "agentCapability": "x", "leaseSeconds": lease_s, "timeoutSeconds": _HOUR_S} for name in "ab"
    ]
    leaves_at_s = rng.uniform(5.0, lease_s)
    agent = AgentModel(
        name="a",
        count=2,
        kind="local",
        skills={"x": Skill(latency=Latency("uniform", 2.0 * lease_s, 6.0 * lease_s))},
        report_every_s=900.0,
        leaves_at_s=leaves_at_s,
        returns_at_s=leaves_at_s + rng.choice((0.0, 1.0, 5.0)),
        returns_as=rng.choice(_REMOTE),
    )
    return attrs.evolve(
        scenario,
        workflows=[{"id": "outlasting-functions", "tasks": tasks}],
        agents=[agent],
        triggers=_triggers(2),
        faults=rng.choice((Faults(), Faults.usual("process_dies"))),
        faults_until_s=200.0,
    )


def _triggers(count: int, *, every_s: float = 2.0) -> list[Trigger]:
    return [Trigger(at_s=every_s * number, payload={"number": number}) for number in range(count)]
