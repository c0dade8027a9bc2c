"""Changes some worlds: agents come back as another kind, or operators sweep the dead letters.

Which worlds change is drawn from a separate source, so that all other worlds stay as they are.
"""

import random
from typing import Final

import attrs

from opscore.runtime.simulation.fleet import AgentModel, Kind, Latency
from opscore.runtime.simulation.scenario import Scenario, Sweep

_CHANGING_SHARE: Final = 0.06
_SWEPT_SHARE: Final = 0.06
_AT_WORK_SHARE: Final = 0.6
_KINDS: Final[tuple[Kind, ...]] = ("push", "claim", "local")


def with_changes(scenario: Scenario) -> Scenario:
    """Return the scenario, or the same with agents that change their kind, or with operators who sweep."""
    rng = random.Random(f"{scenario.seed}/changes")
    drawn = rng.random()
    if drawn < _CHANGING_SHARE:
        changing = attrs.evolve(scenario, agents=[_changing(rng, model) for model in scenario.agents])
        return _at_work(rng, changing) if rng.random() < _AT_WORK_SHARE else changing
    if drawn > 1.0 - _SWEPT_SHARE:
        return attrs.evolve(scenario, sweeps=_sweeps(rng))
    return scenario


def _changing(rng: random.Random, model: AgentModel) -> AgentModel:
    """Let an agent leave after a while, and return as another kind at once or soon, unless it already leaves."""
    if model.leaves_at_s is not None:
        return model
    leaves_at_s = model.joins_at_s + rng.uniform(1.0, 90.0)
    returns_at_s = leaves_at_s + rng.choice((0.0, 0.5, 5.0, 60.0))
    return attrs.evolve(model, leaves_at_s=leaves_at_s, returns_at_s=returns_at_s, returns_as=rng.choice(_KINDS))


def _at_work(rng: random.Random, scenario: Scenario) -> Scenario:
    """Make the agents, mostly functions, slow, so that they are at work as they change, and let the process die."""
    slow = Latency("uniform", 20.0, 200.0)
    agents = [
        attrs.evolve(
            model,
            kind=rng.choice(("local", "local", model.kind)),
            returns_as=rng.choice(("push", "claim", model.returns_as)),
            skills={name: attrs.evolve(skill, latency=slow) for name, skill in model.skills.items()},
            report_every_s=rng.choice((5.0, 15.0)),
        )
        for model in scenario.agents
    ]
    return attrs.evolve(scenario, agents=agents, faults=attrs.evolve(scenario.faults, process_dies=0.002))


def _sweeps(rng: random.Random) -> list[Sweep]:
    return [
        Sweep(at_s=rng.uniform(10.0, 600.0), replays=rng.random() < 0.4)  # noqa: PLR2004 (some of them)
        for _ in range(rng.choice((1, 2, 4)))
    ]
