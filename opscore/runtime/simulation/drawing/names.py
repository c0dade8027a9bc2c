"""Adds labels, business keys, reasons and the agents of schedules to the requests of drawn scenarios.

Except for the agents, none of this changes what happens in a world. It is drawn from a separate source.
"""

import random
from collections.abc import Mapping
from typing import Any, Final

import attrs

from opscore.runtime.simulation.scenario import Scenario, Trigger

_SHARE: Final = 0.5
_OWN: Final = {"kind": "own", "team": "ops"}
"""The labels of a definition."""


def with_names(scenario: Scenario, agent_id: str) -> Scenario:
    """Return the scenario with the labels, keys, reasons and agents that its seed adds, if any.

    Args:
        scenario: the scenario as it was drawn.
        agent_id: an agent of it that has all capabilities.
    """
    rng = random.Random(f"{scenario.seed}/names")
    if rng.random() > _SHARE:
        return scenario
    given = rng.choice(({}, {"kind": "given"}, {"kind": "given", "more": "of it"}))
    present = any(model.name == agent_id for model in scenario.agents)
    return attrs.evolve(
        scenario,
        workflows=[{**document, "labels": _OWN} for document in scenario.workflows],
        triggers=[_named(trigger, given) for trigger in scenario.triggers],
        steerings=[
            attrs.evolve(steering, reason=f"{steering.move} {number}")
            for number, steering in enumerate(scenario.steerings)
        ],
        calendars=[
            attrs.evolve(calendar, agent_id=rng.choice((None, agent_id)) if present else None)
            for calendar in scenario.calendars
        ],
    )


def _named(trigger: Trigger, given: Mapping[str, str]) -> Trigger:
    """Name a trigger; triggers with the same idempotency key get the same names."""
    number: Any = trigger.payload["number"]
    return attrs.evolve(trigger, labels={**given, "number": str(number)}, business_key=f"order-{number % 2}")
