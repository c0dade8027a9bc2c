"""Worlds in which runs fail: their compensations take long, and somebody steers the runs meanwhile.

They replace some of the worlds that have neither features nor corners, and are drawn from a separate source.
"""

import itertools
import random
from typing import Any, Final

import attrs

from opscore.runtime.models import Move
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Kind, Latency, Skill
from opscore.runtime.simulation.scenario import Scenario, Steering, Sweep, Trigger

_SHARE: Final = 0.25
_KINDS: Final[tuple[Kind, ...]] = ("push", "claim", "local")
_SOON: Final = Latency("uniform", 0.1, 5.0)
_ONCE: Final = {"leaseSeconds": 120, "retry": {"maxRetries": 0}}
_STEERED: Final[tuple[tuple[Move, ...], ...]] = (
    (),
    (Move.CANCEL,),
    (Move.CANCEL, Move.PAUSE),
    (Move.PAUSE, Move.CANCEL, Move.PAUSE),
    (Move.PAUSE, Move.RESET, Move.CANCEL),
    (Move.RETRY, Move.RETRY),
    (Move.TERMINATE,),
    (Move.CANCEL, Move.TERMINATE),
    (Move.PAUSE, Move.TERMINATE),
)

Document = dict[str, Any]


def with_bad_ends(scenario: Scenario) -> Scenario:
    """Return the scenario, or another one in its place."""
    rng = random.Random(f"{scenario.seed}/unwinding")
    if rng.random() > _SHARE:
        return scenario
    plain = attrs.evolve(scenario, cordons=())
    return rng.choice((_unwinding, _unwinding, _tolerated))(rng, plain)


def _unwinding(rng: random.Random, scenario: Scenario) -> Scenario:
    """A step fails permanently while others and a list are out; the unwinding takes long, and is steered meanwhile."""
    document: Document = {"id": "unwinding", "onFailure": "told", "tasks": _tasks(rng)}
    if rng.random() < 0.5:  # noqa: PLR2004 (in half of them)
        document["sessionTimeoutSeconds"] = rng.choice((15, 30, 60))
    skills = {
        "quick": Skill(latency=_SOON),
        "long": Skill(latency=Latency("uniform", 10.0, rng.choice((60.0, 150.0)))),
        "item": Skill(latency=Latency("uniform", 2.0, 20.0), failure_rate=rng.choice((0.0, 0.0, 0.2))),
        "fails": Skill(latency=_SOON, failure_rate=0.9),
        "undo": Skill(latency=Latency("uniform", 5.0, rng.choice((30.0, 100.0))), failure_rate=rng.choice((0.0, 0.3))),
    }
    kinds = _KINDS if rng.random() < 0.5 else ("push", "claim")  # noqa: PLR2004
    fleet = [AgentModel(name=f"a{number}", kind=rng.choice(kinds), skills=skills) for number in range(6)]
    poisoned = rng.random() < 0.5  # noqa: PLR2004 (in half of them)
    runs = rng.choice((1, 2))
    return attrs.evolve(
        scenario,
        workflows=[document],
        agents=fleet,
        triggers=_triggers(runs),
        steerings=[*_steerings(rng, runs), *(_resumed(runs) if poisoned else ())],
        faults=_poison(rng) if poisoned else Faults(),
        faults_until_s=150.0,
    )


def _tasks(rng: random.Random) -> list[Document]:
    """Draw steps with compensations, a list, a long step, and a step that fails permanently."""
    first: Document = {"taskId": "a", "agentCapability": "quick", "compensateTaskId": "undo-a", **_ONCE}
    second: Document = {"taskId": "b", "agentCapability": "quick", "dependsOn": ["a"], "compensateTaskId": "undo-b"}
    each = {"taskId": "each", "agentCapability": "item", "forEach": list("abcd"), "concurrency": rng.choice((1, 2))}
    out = {"taskId": "out", "agentCapability": "long", "dependsOn": rng.choice(([], ["a"]))}
    fails = {"taskId": "fails", "agentCapability": "fails", "dependsOn": rng.choice((["a"], ["b"])), **_ONCE}
    steps = [first, second, {**each, **_ONCE}, {**out, **_ONCE}, fails]
    left = [step for step in steps if step["taskId"] not in rng.choice((("each",), ("out",), (), ()))]
    handlers = [{"taskId": name, "agentCapability": "undo", **_ONCE} for name in ("undo-a", "undo-b", "told")]
    return [*left, *handlers]


def _steerings(rng: random.Random, runs: int) -> list[Steering]:
    """Draw steerings of one run, one after another."""
    moves = rng.choice(_STEERED)
    times = itertools.accumulate((rng.uniform(1.0, 30.0) for _ in moves[1:]), initial=rng.uniform(0.0, 100.0))
    trigger, lasts_s = rng.randrange(runs), rng.choice((5.0, 30.0))
    steps = zip(moves, times, strict=False)
    return [Steering(move=move, trigger=trigger, at_s=at_s, lasts_s=lasts_s) for move, at_s in steps]


def _poison(rng: random.Random) -> Faults:
    return Faults(run_poisoned=rng.choice((0.02, 0.05)), actor_raises=rng.choice((0.0, 0.01)))


def _resumed(runs: int) -> list[Steering]:
    """Return operators who resume runs that were paused because their actors kept crashing."""
    times = (90.0, 160.0, 240.0)
    return [Steering(move=Move.RESUME, trigger=trigger, at_s=at_s) for trigger in range(runs) for at_s in times]


def _tolerated(rng: random.Random, scenario: Scenario) -> Scenario:
    """A step and its fallback may fail harmlessly, a later step fails the run, and the run is retried."""
    tasks: list[Document] = [
        {"taskId": "a", "agentCapability": "x", "fallbackTaskId": "instead", "continueOnFailure": True, **_ONCE},
        {"taskId": "instead", "agentCapability": "x", **_ONCE},
        {"taskId": "b", "agentCapability": "y", "dependsOn": ["a"], **_ONCE},
        {"taskId": "c", "agentCapability": "quick", "dependsOn": ["b"], "compensateTaskId": "undo", **_ONCE},
        {"taskId": "undo", "agentCapability": "quick", **_ONCE},
    ]
    rates = {"x": 0.8, "y": 0.6, "quick": 0.1}
    skills = {name: Skill(latency=_SOON, failure_rate=rate) for name, rate in rates.items()}
    return attrs.evolve(
        scenario,
        workflows=[{"id": "tolerated", "tasks": tasks}],
        agents=[AgentModel(name="a", count=2, kind=rng.choice(_KINDS), skills=skills)],
        triggers=_triggers(2),
        steerings=[
            Steering(move=Move.RETRY, trigger=trigger, at_s=at_s, when_ended=True)
            for trigger in range(2)
            for at_s in (0.0, 20.0, 60.0)
        ],
    )


def failing_at_once(rng: random.Random, scenario: Scenario) -> Scenario:
    """What failed fails at once as its run is retried, because it reads what is not there, and has a fallback."""
    tasks: list[Document] = [
        {
            "taskId": "a",
            "agentCapability": "x",
            "parameters": {"read": "${input.nothing}"},
            "dependsOn": rng.choice(([], ["before"], ["before"])),
            "fallbackTaskId": "instead",
        },
        {"taskId": "before", "agentCapability": "x", **_ONCE},
        {"taskId": "instead", "agentCapability": "y", **_ONCE},
    ]
    skills = {"x": Skill(latency=_SOON), "y": Skill(latency=_SOON, failure_rate=0.8)}
    runs = 2
    return attrs.evolve(
        scenario,
        workflows=[{"id": "failing-at-once", "tasks": tasks}],
        agents=[AgentModel(name="a", count=2, kind=rng.choice(_KINDS), skills=skills)],
        triggers=_triggers(runs),
        steerings=[
            Steering(move=Move.RETRY, trigger=trigger, at_s=at_s, when_ended=True)
            for trigger in range(runs)
            for at_s in (0.0, rng.uniform(5.0, 60.0))
        ],
        sweeps=[Sweep(at_s=rng.uniform(10.0, 60.0), replays=rng.random() < 0.5)],  # noqa: PLR2004 (half of them)
        faults=rng.choice((Faults(), Faults.usual("commit", "actor_raises"))),
        faults_until_s=60.0,
    )


def _triggers(count: int) -> list[Trigger]:
    return [Trigger(at_s=2.0 * number, payload={"number": number}) for number in range(count)]
