"""Worlds with short retention: some existing ones, and some made for it, in which runs end all the time.

Those made for it replace worlds to which nothing special was added. Which worlds change is drawn from a separate
source, so that all other worlds stay as they are.
"""

import random
from collections.abc import Sequence
from typing import Any, Final

import attrs

from opscore.runtime.limits import Limits
from opscore.runtime.models import Missed, Move
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Kind, Latency, Skill
from opscore.runtime.simulation.scenario import Calendar, Scenario, Steering, Telling, Trigger

_SHARE: Final = 0.05
_MADE_SHARE: Final = 0.06
_KINDS: Final[tuple[Kind, ...]] = ("push", "claim", "local")
_BELOW: Final = "below"


def with_keeping(scenario: Scenario, *, is_plain: bool) -> Scenario:
    """Return the scenario, the same with retention limits, or another one in its place.

    Args:
        scenario: the scenario as it was drawn.
        is_plain: whether nothing special was added to it, so that it may be replaced.
    """
    rng = random.Random(f"{scenario.seed}/keeping")
    drawn = rng.random()
    if is_plain and drawn < _MADE_SHARE:
        return _short_memory(rng, attrs.evolve(scenario, cordons=()))
    if drawn > 1.0 - _SHARE:
        return attrs.evolve(scenario, limits=_limits(rng, scenario.limits))
    return scenario


def _limits(rng: random.Random, limits: Limits) -> Limits:
    return attrs.evolve(
        limits,
        sessions_keep_s=rng.choice((0.0, 20.0, 150.0)),
        sessions_ended_max=rng.choice((0, 1, 4)),
        idempotency_keep_s=rng.choice((0.0, 30.0, 200.0)),
        records_keep_s=rng.choice((0.0, 100.0)),
        records_max=rng.choice((0, 20)),
    )


def _short_memory(rng: random.Random, scenario: Scenario) -> Scenario:
    """Runs end all the time, with child runs and with or without keys; some are steered, signalled and retried late."""
    only = {"agentCapability": "x", "leaseSeconds": 30, "retry": {"maxRetries": 0}}
    below: dict[str, Any] = {"id": _BELOW, "tasks": [{"taskId": "deep", **only}]}
    call = {"type": "workflow", "parameters": {"workflowId": _BELOW, "input": {}}}
    tasks: list[dict[str, Any]] = [
        {"taskId": "first", **only},
        {"taskId": "sub", **call, "retry": {"maxRetries": 1, "initialDelaySeconds": rng.choice((1, 90))}},
        {"taskId": "told", "type": "signal", "parameters": {}, "timeoutSeconds": rng.choice((20, 200))},
        {"taskId": "last", **only, "dependsOn": ["sub", "told"]},
    ]
    skill = Skill(latency=Latency("uniform", 0.1, 20.0), failure_rate=rng.choice((0.0, 0.3)))
    count = 4
    moves = (Move.PAUSE, Move.RETRY, Move.RETRY, Move.CANCEL, Move.RESET)
    cron = rng.choice(("*/10 * * * * *", "*/30 * * * * *"))
    return attrs.evolve(
        scenario,
        workflows=[{"id": "short-memory", "tasks": tasks}],
        saved=[below],
        agents=[AgentModel(name=f"a{number}", kind=rng.choice(_KINDS), skills={"x": skill}) for number in range(3)],
        triggers=[
            Trigger(at_s=rng.uniform(0.0, 200.0), payload={"number": number}, key=rng.choice((None, "one")))
            for number in range(count)
        ],
        steerings=[
            Steering(
                move=rng.choice(moves),
                trigger=rng.randrange(count),
                at_s=rng.uniform(0.0, 300.0),
                lasts_s=rng.choice((30.0, 200.0)),
                when_ended=rng.random() < 0.5,  # noqa: PLR2004 (half of them)
            )
            for _ in range(5)
        ],
        tellings=[Telling(name="told", trigger=trigger, at_s=rng.uniform(0.0, 100.0)) for trigger in range(count)],
        calendars=[Calendar(workflow_id=_BELOW, cron=cron, missed=rng.choice(list(Missed)), lasts_s=500.0)],
        faults=rng.choice((Faults(), scenario.faults)),
        faults_until_s=400.0,
        limits=_limits(rng, scenario.limits),
    )


def kept_by_age(rng: random.Random, scenario: Scenario) -> Scenario:
    """Finished runs are kept for seconds, except the child run of one that is paused; then hardly any run ends."""
    # The last one begins once all others should be gone; before it, there is a minute in which nothing can be removed.
    times = (rng.uniform(0.0, 10.0), rng.uniform(0.0, 10.0), rng.uniform(125.0, 150.0), 460.0)
    limits = attrs.evolve(
        scenario.limits, sessions_keep_s=20.0, sessions_ended_max=0, idempotency_keep_s=30.0, sessions_open_max=100
    )
    return attrs.evolve(_paused_above(rng, scenario, times), limits=limits)


def kept_by_number(rng: random.Random, scenario: Scenario) -> Scenario:
    """Few finished runs are kept: the oldest have keys, the others none, and one is the child of a paused run."""
    keyed = rng.choice((2, 3, 4))
    limits = attrs.evolve(
        scenario.limits,
        sessions_keep_s=0.0,
        sessions_ended_max=keyed + rng.choice((0, 1)),
        idempotency_keep_s=400.0,
        sessions_open_max=100,
    )
    cron = rng.choice(("*/10 * * * * *", "*/20 * * * * *"))
    return attrs.evolve(
        _paused_above(rng, scenario, [rng.uniform(0.0, 5.0) for _ in range(keyed)]),
        calendars=[Calendar(workflow_id=_BELOW, cron=cron, at_s=15.0, lasts_s=150.0)],
        limits=limits,
    )


def _paused_above(rng: random.Random, scenario: Scenario, others_at_s: Sequence[float]) -> Scenario:
    """Pause a run for minutes before its child run ends; other runs begin at the given times."""
    only = {"agentCapability": "x", "leaseSeconds": 30}
    call = {"type": "workflow", "parameters": {"workflowId": _BELOW, "input": {}}}
    skill = Skill(latency=Latency("uniform", 3.0, 8.0))
    others = enumerate(others_at_s, start=1)
    return attrs.evolve(
        scenario,
        workflows=[
            {"id": "paused-above", "tasks": [{"taskId": "sub", **call}]},
            {"id": "beside", "tasks": [{"taskId": "only", **only}]},
        ],
        saved=[{"id": _BELOW, "tasks": [{"taskId": "deep", **only}]}],
        agents=[AgentModel(name="a", count=2, kind=rng.choice(_KINDS), skills={"x": skill})],
        triggers=[
            Trigger(payload={"number": 0}),
            *(Trigger(at_s=at_s, workflow=1, payload={"number": number}) for number, at_s in others),
        ],
        steerings=[Steering(move=Move.PAUSE, at_s=rng.uniform(0.0, 2.0), lasts_s=200.0)],
        faults=Faults(),
    )
