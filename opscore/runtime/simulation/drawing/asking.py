"""Adds requests to some worlds: keys with other content, drains, searches, retries by error code, schedules twice.

Which worlds get them is drawn from a separate source, so that all other worlds stay as they are.
"""

import random
from typing import Final

import attrs

from opscore.runtime.models import Missed
from opscore.runtime.simulation.scenario import Cordon, Look, Scenario, Sweep

_SHARE: Final = 0.12
_EACH: Final = 0.5
_FAILED: Final = "task_failed"


def with_asking(scenario: Scenario) -> Scenario:
    """Return the scenario, or the same with more requests."""
    rng = random.Random(f"{scenario.seed}/asking")
    if scenario.calendars:
        missed_max = random.Random(f"{scenario.seed}/missed").choice((1, 3, 100))
        scenario = attrs.evolve(scenario, limits=attrs.evolve(scenario.limits, schedule_missed_max=missed_max))
    if rng.random() > _SHARE:
        return scenario
    for addition in (_keyed, _drained, _looked_at, _swept, _scheduled_twice):
        if rng.random() < _EACH:
            scenario = addition(rng, scenario)
    return scenario


def _keyed(rng: random.Random, scenario: Scenario) -> Scenario:
    """Repeat a trigger under its key, which has no explicit body, with the same content or with another one."""
    first = attrs.evolve(scenario.triggers[0], key="asked", says_body=False)
    others = [
        first,
        attrs.evolve(first, payload={"number": 99}),
        attrs.evolve(first, labels={"kind": "other"}),
        attrs.evolve(first, business_key="other"),
    ]
    if first.agent_id is not None and all(_is_able(task) for task in scenario.workflows[first.workflow]["tasks"]):
        others += 2 * [attrs.evolve(first, agent_id=None)]
    chosen = [attrs.evolve(rng.choice(others), at_s=first.at_s + rng.choice((0.0, 0.0, 5.0, 60.0))) for _ in range(2)]
    return attrs.evolve(scenario, triggers=[first, *scenario.triggers[1:], *chosen])


def _is_able(task: object) -> bool:
    """Whether a task needs no agent of its run."""
    return isinstance(task, dict) and any(task.get(field) for field in ("agentCapability", "agentId", "type"))


def _drained(rng: random.Random, scenario: Scenario) -> Scenario:
    ids = [agent_id for model in scenario.agents if model.kind != "local" for agent_id in model.ids()]
    drains = [
        Cordon(agent_id=rng.choice(ids), at_s=rng.uniform(0.0, 60.0), lasts_s=rng.choice((5.0, 90.0)), drains=True)
        for _ in range(2 if ids else 0)
    ]
    return attrs.evolve(scenario, cordons=[*scenario.cordons, *drains])


def _looked_at(rng: random.Random, scenario: Scenario) -> Scenario:
    wanted: tuple[dict[str, str], ...] = ({"kind": "own"}, {"kind": "given"}, {"team": "ops", "number": "0"}, {})
    looks = [
        Look(
            at_s=rng.uniform(0.0, 120.0),
            labels=rng.choice(wanted),
            business_key=rng.choice((None, "order-0", "order-1")),
            limit=rng.choice((1, 2, 100)),
        )
        for _ in range(3)
    ]
    return attrs.evolve(scenario, looks=looks)


def _swept(rng: random.Random, scenario: Scenario) -> Scenario:
    sweeps = [Sweep(at_s=rng.uniform(10.0, 300.0), code=rng.choice((_FAILED, _FAILED, "timeout"))) for _ in range(2)]
    limits = attrs.evolve(scenario.limits, replays_max=rng.choice((1, 1, 2, 100)))
    return attrs.evolve(scenario, sweeps=[*scenario.sweeps, *sweeps], limits=limits)


def _scheduled_twice(rng: random.Random, scenario: Scenario) -> Scenario:
    calendars = [attrs.evolve(each, other=rng.choice((None, *Missed))) for each in scenario.calendars]
    return attrs.evolve(scenario, calendars=calendars)
