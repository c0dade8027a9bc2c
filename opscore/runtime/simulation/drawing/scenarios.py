"""Draws scenarios from a seed alone: as many different worlds as there are seeds, for long campaigns."""

import functools
import random
from collections.abc import Mapping
from typing import Any, Final

import attrs

from opscore.runtime.simulation.drawing.asking import with_asking
from opscore.runtime.simulation.drawing.changes import with_changes
from opscore.runtime.simulation.drawing.clock import with_clock
from opscore.runtime.simulation.drawing.corners import with_corners
from opscore.runtime.simulation.drawing.features import with_features
from opscore.runtime.simulation.drawing.growth import with_growth
from opscore.runtime.simulation.drawing.keeping import with_keeping
from opscore.runtime.simulation.drawing.names import with_names
from opscore.runtime.simulation.drawing.rotation import in_turn
from opscore.runtime.simulation.faults import Faults, fault_names
from opscore.runtime.simulation.fleet import AgentModel, Kind, Latency, Skill
from opscore.runtime.simulation.scenario import SETTLE_S, SIMULATED_LIMITS, Cordon, Scenario, Trigger

_CAPABILITIES: Final = ("x", "y", "z")
_GROUPS: Final = ("process", "commit", "disk", "actor", "delivery", "request", "agent")
_NAMED: Final = "named"
"""The id of the agent that tasks may name."""
_ONLY_IN_CORNERS: Final = frozenset(
    {"run_poisoned", "agent_claims_late", "clock_moves", "machine_freezes", "agent_forgets"}
)
"""Faults that were added later; only worlds made for them draw them, so that the worlds of other seeds don't change."""
_KINDS: Final[tuple[Kind, ...]] = ("push", "push", "claim", "local")
_BLOCK: Final = 300
"""The number of seeds among which plain worlds are counted."""
_TURNS_A_BLOCK: Final = 41
"""About as many of these are plain."""


def drawn(seed: int) -> Scenario:
    """Return the scenario of a seed, which is small, and unlike those of neighbouring seeds."""
    scenario, is_plain = _drawn_by_chance(seed)
    if is_plain:
        scenario = in_turn(scenario, _turn(seed))
    return with_asking(with_changes(scenario))


def _turn(seed: int) -> int:
    """Return the number of a plain world's turn: how many plain ones come before it, at least among near seeds."""
    block, place = divmod(seed, _BLOCK)
    return block * _TURNS_A_BLOCK + sum(map(_is_plain, range(seed - place, seed)))


@functools.lru_cache(maxsize=4 * _BLOCK)
def _is_plain(seed: int) -> bool:
    _, is_plain = _drawn_by_chance(seed)
    return is_plain


def _drawn_by_chance(seed: int) -> tuple[Scenario, bool]:
    """Return what chance makes of a seed, and whether that is plain: whether its turn decides what it is instead."""
    plain = _plain(seed)
    led = with_corners(with_features(plain))
    named = with_names(led, _NAMED)
    timed = with_clock(named, is_plain=led is plain)
    kept = with_keeping(timed, is_plain=led is plain and timed is named)
    grown = with_growth(kept, is_plain=led is plain and kept is named)
    return grown, led is plain and grown.workflows is named.workflows


def _plain(seed: int) -> Scenario:
    rng = random.Random(f"{seed}/scenario")
    workflows = [_workflow(rng, number) for number in range(rng.choice((1, 1, 2)))]
    agents = [*_agents(rng), _named(rng)]
    limits = attrs.evolve(
        SIMULATED_LIMITS,
        sessions_open_max=rng.choice((3, 100, 100)),
        agent_ttl_s=rng.choice((0.0, 0.0, 45.0)),
        claim_grace_s=rng.choice((2.0, 10.0)),
        dispatch_attempts_max=rng.choice((3, 10)),
        passivate_s=rng.choice((0.5, 1.0, 5.0, 30.0)),
        # Drawn from its own source, so that the draws that existed before it don't change.
        passivate_beyond=random.Random(f"{seed}/crowds").choice((10_000, 10_000, 0, 2)),
    )
    ids = [agent_id for model in agents if model.kind != "local" for agent_id in model.ids()]
    cordons = [Cordon(agent_id=rng.choice(ids), at_s=rng.uniform(0, 60), lasts_s=rng.choice((5.0, 90.0)))]
    return Scenario(
        seed=seed,
        workflows=workflows,
        agents=agents,
        triggers=_triggers(rng, len(workflows)),
        cordons=cordons if rng.random() < 0.25 else (),  # noqa: PLR2004 (seldom)
        faults=_faults(rng),
        faults_until_s=rng.choice((60.0, 200.0, 900.0)),
        settle_s=SETTLE_S,
        limits=limits,
    )


def _faults(rng: random.Random) -> Faults:
    """Draw no faults, all of them at low rates, or a few at high rates, of one group or of any."""
    kind = rng.randrange(5)
    if kind == 0:
        return Faults()
    if kind == 1:
        return Faults.usual(times=rng.choice((0.5, 1.0, 2.0))).without(_ONLY_IN_CORNERS)
    each = [name for name in fault_names() if name not in _ONLY_IN_CORNERS]
    names = _GROUPS if kind > 2 else each  # noqa: PLR2004 (in half of the worlds)
    chosen = rng.sample(names, rng.randint(1, 2 if kind > 2 else 4))  # noqa: PLR2004
    return Faults.usual(*chosen, times=rng.choice((1.0, 3.0, 10.0))).without(_ONLY_IN_CORNERS)


def _workflow(rng: random.Random, number: int) -> Mapping[str, Any]:
    tasks = [_task(rng, place) for place in range(rng.choice((1, 1, 2, 2, 3, 4, 5)))]
    shape = rng.choice(("listed", "chain", "graph", "graph"))
    if shape == "chain":
        for place, task in enumerate(tasks[1:]):
            tasks[place]["nextTaskId"] = task["taskId"]
    elif shape == "graph":
        for place, task in enumerate(tasks):
            before = [each["taskId"] for each in tasks[:place]]
            task["dependsOn"] = sorted(rng.sample(before, rng.randint(0, min(len(before), 3))))
        rng.shuffle(tasks)
    return {"id": f"workflow-{number}", "name": f"Workflow {number}", "tasks": tasks}


def _task(rng: random.Random, place: int) -> dict[str, Any]:
    task: dict[str, Any] = {
        "taskId": f"t{place}",
        "parameters": {"place": place},
        "leaseSeconds": rng.choice((5, 30, 30, 120)),
        "timeoutSeconds": rng.choice((20, 300, 300)),
        "priority": rng.choice((0, 0, 5, 9)),
        "retry": {
            "maxRetries": rng.randint(0, 3),
            "initialDelaySeconds": rng.choice((0, 1, 10)),
            "maxDelaySeconds": rng.choice((10, 60)),
            "jitter": rng.random() < 0.7,  # noqa: PLR2004 (mostly)
        },
    }
    who = rng.random()
    if who < 0.8:  # noqa: PLR2004 (mostly)
        task["agentCapability"] = rng.choice(_CAPABILITIES)
    elif who < 0.9:  # noqa: PLR2004 (seldom)
        task["agentId"] = _NAMED
    return task


def _agents(rng: random.Random) -> list[AgentModel]:
    """Draw agents of every kind; together with the named one they have all capabilities."""
    return [
        AgentModel(
            name=f"a{number}",
            count=rng.choice((1, 1, 2)),
            kind=rng.choice(_KINDS),
            skills=_skills(rng, rng.sample(_CAPABILITIES, rng.randint(1, 3))),
            answers_at_once=rng.choice((0.0, 0.0, 0.5)),
            report_every_s=rng.choice((5.0, 30.0, 900.0)),
            joins_at_s=rng.choice((0.0, 0.0, 5.0)),
        )
        for number in range(rng.choice((0, 1, 1, 2, 3)))
    ]


def _named(rng: random.Random) -> AgentModel:
    """Draw the agent with all capabilities, which is there in every world."""
    kind: Kind = rng.choice(("push", "push", "claim"))
    answers_at_once = rng.choice((0.0, 0.0, 0.7))
    return AgentModel(
        name=_NAMED,
        kind=kind,
        skills=_skills(rng, _CAPABILITIES),
        answers_at_once=answers_at_once,
        report_every_s=rng.choice((30.0, 900.0)),
    )


def _skills(rng: random.Random, capabilities: tuple[str, ...] | list[str]) -> dict[str, Skill]:
    latencies = (
        Latency("constant", 0.0),
        Latency("uniform", 0.1, 2.0),
        Latency("exponential", 5.0),
        Latency("constant", 40.0),
    )
    return {
        capability: Skill(
            latency=rng.choice(latencies),
            failure_rate=rng.choice((0.0, 0.0, 0.3)),
            retryable=rng.random() < 0.8,  # noqa: PLR2004 (mostly)
        )
        for capability in capabilities
    }


def _triggers(rng: random.Random, workflows: int) -> list[Trigger]:
    at_once = rng.random() < 0.4  # noqa: PLR2004 (often)
    triggers = [
        Trigger(
            at_s=0.0 if at_once else rng.uniform(0.0, 30.0),
            workflow=rng.randrange(workflows),
            payload={"number": number},
            agent_id=_NAMED,
        )
        for number in range(rng.choice((1, 2, 3, 6)))
    ]
    if rng.random() < 0.3:  # noqa: PLR2004 (often enough)
        # A client that sends its request twice under one key, before or after it is answered.
        first = attrs.evolve(triggers[0], key="twice")
        triggers = [first, attrs.evolve(first, at_s=first.at_s + rng.choice((0.0, 0.0, 5.0, 60.0))), *triggers[1:]]
    return triggers
