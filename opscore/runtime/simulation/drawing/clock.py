"""Worlds that freeze, or whose wall clock is moved: some existing ones, and some made for it, with long waits.

Those made for it replace worlds that have neither features nor corners. Which worlds change is drawn from a separate
source, so that all other worlds stay as they are.
"""

import random
from typing import Any, Final

import attrs

from opscore.runtime.limits import DispatchLimit
from opscore.runtime.models import Missed
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel, Kind, Latency, Skill
from opscore.runtime.simulation.scenario import Calendar, Scenario, Trigger

_SHARE: Final = 0.06
_MADE_SHARE: Final = 0.12
_FROZEN_SHARE: Final = 0.08
_KINDS: Final[tuple[Kind, ...]] = ("push", "claim", "local")
_SAVED: Final = "by-itself"
_BY_ITSELF: Final = {"id": _SAVED, "tasks": [{"taskId": "only", "agentCapability": "z", "leaseSeconds": 5}]}


def with_clock(scenario: Scenario, *, is_plain: bool) -> Scenario:
    """Return the scenario, the same with a moved clock or freezes, or another one in its place.

    Args:
        scenario: the scenario as it was drawn.
        is_plain: whether nothing special was added to it, so that it may be replaced.
    """
    rng = random.Random(f"{scenario.seed}/clock")
    drawn = rng.random()
    if is_plain and drawn < _MADE_SHARE:
        return rng.choice((_long_waits, _long_waits, _seldom_asked))(rng, attrs.evolve(scenario, cordons=()))
    if is_plain and drawn < _MADE_SHARE + _FROZEN_SHARE:
        made = _long_waits(rng, attrs.evolve(scenario, cordons=()))
        return attrs.evolve(made, faults=attrs.evolve(made.faults, clock_moves=0.0, machine_freezes=0.01))
    if drawn > 1.0 - _SHARE:
        return attrs.evolve(scenario, faults=attrs.evolve(scenario.faults, clock_moves=rng.choice((0.2, 0.7))))
    if drawn > 1.0 - _SHARE - _FROZEN_SHARE:
        return attrs.evolve(scenario, faults=attrs.evolve(scenario.faults, machine_freezes=rng.choice((0.001, 0.01))))
    return scenario


def _long_waits(rng: random.Random, scenario: Scenario) -> Scenario:
    """Attempts take minutes, some agents send no heartbeats, gates open by time, and schedules start runs."""
    spans = {"leaseSeconds": rng.choice((30, 60)), "timeoutSeconds": rng.choice((150, 400, 3_600))}
    again = {"maxRetries": rng.choice((0, 2)), "initialDelaySeconds": 5, "jitter": False}
    tasks: list[dict[str, Any]] = [
        {"taskId": "a", "agentCapability": "x", "compensateTaskId": "undo-a"},
        {"taskId": "b", "agentCapability": "x", "dependsOn": ["a"], "compensateTaskId": "undo-b"},
        {"taskId": "last", "agentCapability": "y", "dependsOn": ["b"]},
        {"taskId": "undo-a", "agentCapability": "z"},
        {"taskId": "undo-b", "agentCapability": "z"},
    ]
    if rng.random() < 0.3:  # noqa: PLR2004 (some)
        spans["heartbeatSeconds"] = 20
    report_every_s = rng.choice((8.0, 30.0, 3_000.0))
    slow = Skill(latency=Latency("uniform", 20.0, 200.0))
    agents = [
        AgentModel(
            name=f"a{number}",
            kind=rng.choice(_KINDS),
            skills={"x": slow, "y": attrs.evolve(slow, failure_rate=0.5), "z": Skill()},
            report_every_s=report_every_s,
        )
        for number in range(3)
    ]
    calendar = Calendar(
        workflow_id=_SAVED,
        cron=rng.choice(("*/10 * * * * *", "* * * * *")),
        missed=rng.choice(list(Missed)),
        lasts_s=400.0,
        pauses_after_s=rng.choice((None, 60.0, 115.0)),
    )
    limit = DispatchLimit(per_interval=2, interval_s=40.0)
    limits = attrs.evolve(scenario.limits, capability_limits={"z": limit}, agent_ttl_s=rng.choice((0.0, 400.0)))
    return attrs.evolve(
        scenario,
        workflows=[{"id": "long-waits", "tasks": [{**task, **spans, "retry": again} for task in tasks]}],
        saved=[_BY_ITSELF],
        agents=agents,
        triggers=[Trigger(at_s=20.0 * number, payload={"number": number}) for number in range(3)],
        calendars=[calendar],
        faults=attrs.evolve(rng.choice((Faults(), Faults.usual("delivery", times=2.0))), clock_moves=0.8),
        faults_until_s=rng.choice((200.0, 400.0)),
        limits=limits,
    )


def _seldom_asked(rng: random.Random, scenario: Scenario) -> Scenario:
    """Agents hardly report, and many were missed by a push a while ago: only the node knows since when."""
    cron, lasts_s = rng.choice((("*/10 * * * * *", 100.0), ("*/10 * * * * *", 400.0), ("* * * * *", 400.0)))
    return attrs.evolve(
        scenario,
        workflows=[_BY_ITSELF],
        saved=[_BY_ITSELF],
        agents=[AgentModel(name="a", count=8, skills={"z": Skill()}, report_every_s=3_000.0)],
        triggers=[Trigger()],
        calendars=[Calendar(workflow_id=_SAVED, cron=cron, lasts_s=lasts_s)],
        faults=Faults(delivery_refused=0.5, clock_moves=0.8),
        faults_until_s=400.0,
    )


def set_back_and_resumed(rng: random.Random, scenario: Scenario) -> Scenario:
    """The clock keeps being moved, and schedules are paused shortly after a long time of starting runs."""
    document = {"id": _SAVED, "tasks": [{"taskId": "only", "type": "delay", "parameters": {"seconds": 0}}]}
    pauses_s = [rng.uniform(40.0, 200.0) for _ in range(4)]
    calendars = [
        Calendar(
            workflow_id=_SAVED,
            cron="*/20 * * * * *",
            missed=rng.choice(list(Missed)),
            pauses_after_s=pause_s,
            lasts_s=pause_s + rng.uniform(3.0, 30.0),
        )
        for pause_s in pauses_s
    ]
    return attrs.evolve(
        scenario,
        workflows=[document],
        saved=[document],
        agents=[AgentModel(name="a", skills={"z": Skill()})],
        triggers=[Trigger()],
        calendars=calendars,
        faults=Faults(clock_moves=1.0),
        faults_until_s=250.0,
        limits=attrs.evolve(scenario.limits, schedule_missed_max=2, sessions_open_max=100),
    )


def frozen_while_given_out(rng: random.Random, scenario: Scenario) -> Scenario:
    """Agents finish at the same moments, and machines freeze at these, for longer than attempts and disks may take."""
    again = {"maxRetries": 5, "initialDelaySeconds": 1, "jitter": False}
    task: dict[str, Any] = {
        "taskId": "each",
        "agentCapability": "x",
        "forEach": list(range(24)),
        "concurrency": 4,
        "leaseSeconds": 60,
        "timeoutSeconds": 20,
        "retry": again,
    }
    skill = Skill(latency=Latency("constant", rng.choice((1.0, 5.0))))
    return attrs.evolve(
        scenario,
        workflows=[{"id": "frozen", "tasks": [task]}],
        agents=[AgentModel(name="a", count=4, skills={"x": skill}, report_every_s=900.0)],
        triggers=[Trigger()],
        faults=Faults(machine_freezes=rng.choice((0.008, 0.03, 0.05))),
        faults_until_s=2_000.0,
        limits=attrs.evolve(scenario.limits, agent_ttl_s=0.0),
    )
