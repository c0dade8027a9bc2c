"""Hypothesis strategies for worlds: workflows, fleets, faults and whole scenarios, all of which shrink.

They need Hypothesis (`pip install opscore[simulation]`); nothing else in this package does:

    from hypothesis import given
    from opscore.runtime.simulation import play
    from opscore.runtime.simulation.strategies import scenarios


    @given(scenarios())
    def test_every_world_keeps_its_promises(scenario):
        play(scenario).check()

A failing world shrinks towards seed 0, one workflow of one task, one agent, one trigger and no fault; anything else
that is left is needed for the failure.
"""

import functools
from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import attrs
from hypothesis import strategies as st

from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.models import Move
from opscore.runtime.simulation.documents import CAPABILITIES, CODES, NAMED, definitions, schema_fields, values
from opscore.runtime.simulation.faults import Faults, fault_names
from opscore.runtime.simulation.fleet import AgentModel, Latency, Skill
from opscore.runtime.simulation.language import BELOW
from opscore.runtime.simulation.scenario import (
    SETTLE_S,
    SIMULATED_LIMITS,
    Cordon,
    Look,
    Scenario,
    Steering,
    Sweep,
    Telling,
    Trigger,
)

__all__ = [
    "CAPABILITIES",
    "CODES",
    "NAMED",
    "SETTLE_S",
    "agents",
    "definitions",
    "drawn_limits",
    "faults",
    "scenarios",
    "schema_fields",
    "skills",
    "values",
]


_PAIR: Final = "pair"
_OF_A_PAIR: Final = frozenset(agent_id for agent_id in NAMED if agent_id.startswith(f"{_PAIR}-"))
"""The ids of two agents of one kind, either of which drawn workflows may name."""


# --- agents -------------------------------------------------------------------------------------------------


@functools.cache
def skills() -> st.SearchStrategy[Skill]:
    """Draw skills: fast or slow, reliable or not."""
    latencies = st.sampled_from(
        (
            Latency(),
            Latency("constant", 0.0),
            Latency("exponential", 5.0),
            Latency("lognormal", 1.0, 1.5),
            Latency("uniform", 10.0, 90.0),
        )
    )
    return st.builds(
        Skill,
        latency=latencies,
        failure_rate=st.sampled_from((0.0, 1.0, 0.5, 0.2)),
        failure_code=st.sampled_from(CODES),
        retryable=st.sampled_from((True, False)),
        result=st.none() | values(),
    )


@functools.cache
def _models(name: str, count: int | None, *, stays: bool) -> st.SearchStrategy[AgentModel]:
    """Draw a kind of agents with any number of capabilities, or none."""
    leaving = st.sampled_from((None, 40.0)) if not stays else st.sampled_from((None, None, 20.0))
    return st.builds(
        _model,
        name=st.just(name),
        count=st.sampled_from((1, 2, 3)) if count is None else st.just(count),
        kind=st.sampled_from(("push", "claim", "local")),
        skills=st.dictionaries(st.sampled_from(CAPABILITIES), skills(), max_size=2),
        default=skills(),
        joins_at_s=st.sampled_from((0.0, 5.0, 200.0)),
        leaves_at_s=leaving,
        returns_at_s=st.just(500.0) if stays else st.none(),
        answers_at_once=st.sampled_from((0.0, 0.5, 1.0)),
        report_every_s=st.sampled_from((30.0, 3.0, 100.0)),
    )


def _model(**fields: Any) -> AgentModel:
    if fields["leaves_at_s"] is None:
        fields["returns_at_s"] = None
    return AgentModel(**fields)


@st.composite
def agents(draw: st.DrawFn, documents: Sequence[Mapping[str, Any]]) -> list[AgentModel]:
    """Draw fleets of every kind of agent, in which some agent can do each task of these workflows in the end.

    Some agents have too few capabilities, join late, leave for a while, or leave for ever.

    Args:
        documents: the workflows.
    """
    # The agent that is in every fleet is drawn first, so that a world with fewer tasks has the same agents, or fewer.
    tasks = [task for document in documents for task in document["tasks"]]
    named = {str(agent_id) for task in tasks if (agent_id := task.get("agentId"))}
    families = sorted({_PAIR if agent_id in _OF_A_PAIR else agent_id for agent_id in named})
    first, way = draw(_models(_unlike("agent", named), None, stays=True)), draw(skills())
    stays = draw(st.lists(st.booleans(), max_size=2))
    fleet = [
        first,
        *(draw(_models(_unlike(f"other{number}", named), None, stays=each)) for number, each in enumerate(stays)),
        *(draw(_models(name, 2 if name == _PAIR else 1, stays=True)) for name in families),
    ]
    steady = [place for place, model in enumerate(fleet) if _is_steady(model)]
    served = {capability for place in steady for capability in fleet[place].skills}
    missing = sorted({str(task["agentCapability"]) for task in tasks if task.get("agentCapability")} - served)
    place = draw(st.sampled_from(steady))
    fleet[place] = attrs.evolve(fleet[place], skills={**fleet[place].skills, **dict.fromkeys(missing, way)})
    return fleet


def _unlike(name: str, named: Collection[str]) -> str:
    """Return a name that gives none of its agents an id that a workflow names."""
    while any(agent_id.partition("-")[0] == name for agent_id in named):
        name += "x"
    return name


def _is_steady(model: AgentModel) -> bool:
    return model.leaves_at_s is None or model.returns_at_s is not None


# --- faults -------------------------------------------------------------------------------------------------


@functools.cache
def faults() -> st.SearchStrategy[Faults]:
    """Draw any number of faults, each at its usual rate or several times that."""
    often = st.sampled_from((1.0, 3.0, 8.0))
    chosen = st.lists(st.tuples(st.sampled_from(fault_names()), often), unique_by=lambda each: each[0])
    return chosen.map(_at_rates)


def _at_rates(chosen: list[tuple[str, float]]) -> Faults:
    return attrs.evolve(Faults(), **{name: getattr(Faults.usual(name, times=times), name) for name, times in chosen})


# --- scenarios ----------------------------------------------------------------------------------------------


@functools.cache
def dispatch_limits() -> st.SearchStrategy[DispatchLimit]:
    """Draw limits on how many tasks are dispatched at once or within an interval."""
    return st.builds(
        DispatchLimit,
        at_once=st.sampled_from((None, 1, 3)),
        per_interval=st.sampled_from((None, None, 2)),
        interval_s=st.sampled_from((5.0, 60.0)),
    )


@functools.cache
def drawn_limits() -> st.SearchStrategy[Limits]:
    """Draw limits low enough for a small world to reach them."""
    return st.builds(
        attrs.evolve,
        st.just(SIMULATED_LIMITS),
        sessions_open_max=st.sampled_from((100_000, 100_000, 1, 3)),
        agent_ttl_s=st.sampled_from((0.0, 0.0, 120.0, 10.0)),
        passivate_s=st.sampled_from((5.0, 0.5, 30.0)),
        passivate_beyond=st.sampled_from((10_000, 0, 2)),
        claim_grace_s=st.sampled_from((10.0, 1.0)),
        dispatch_attempts_max=st.sampled_from((10, 2)),
        line_window=st.sampled_from((1_000, 1, 3)),
        capability_limits=st.dictionaries(st.sampled_from(CAPABILITIES), dispatch_limits(), max_size=1),
        workflow_limits=st.dictionaries(st.sampled_from(("w", "below")), dispatch_limits(), max_size=1),
    )


def _triggers(workflows: Sequence[Mapping[str, Any]], steady: Sequence[str]) -> st.SearchStrategy[list[Trigger]]:
    """Draw triggers, some of which are repeated under the same key."""
    # A trigger takes few choices, so that Hypothesis can remove it as a whole.
    asked = [
        any(not (task.get("agentCapability") or task.get("agentId")) for task in each["tasks"]) for each in workflows
    ]
    agent_ids = [st.sampled_from(tuple(steady) if needed else (None, *steady)) for needed in asked]
    times = st.sampled_from((0.0, 1.0, 30.0, 0.25, 77.7, 200.0, 400.0))
    new = st.integers(0, len(workflows) - 1).flatmap(
        lambda workflow: st.builds(
            Trigger, workflow=st.just(workflow), at_s=times, payload=values(), agent_id=agent_ids[workflow]
        )
    )
    again = st.tuples(st.integers(0, 3), times)
    return st.builds(_told_again, st.lists(new, min_size=1, max_size=6), st.lists(again, max_size=3))


def _told_again(triggers: list[Trigger], again: list[tuple[int, float]]) -> list[Trigger]:
    """Return these triggers, and some of them once more under the same key."""
    triggers = list(triggers)
    for which, at_s in again:
        place = which % len(triggers)
        triggers[place] = attrs.evolve(triggers[place], key=triggers[place].key or f"key-{place}")
        triggers.append(attrs.evolve(triggers[place], at_s=at_s))
    return triggers


_LATER: Final = st.sampled_from((0.0, 1.0, 20.0, 100.0))


def _steerings(triggers: int) -> st.SearchStrategy[Steering]:
    return st.builds(
        Steering,
        move=st.sampled_from(Move),
        trigger=st.integers(0, triggers - 1),
        at_s=_LATER,
        lasts_s=st.sampled_from((5.0, 60.0)),
        below=st.booleans(),
    )


def _tellings(triggers: int, workflows: Sequence[Mapping[str, Any]]) -> st.SearchStrategy[Telling]:
    """Draw signals that some workflow waits for, and others that are refused."""
    waited_for = [
        task.get("parameters", {}).get("name", task["taskId"])
        for each in workflows
        for task in each["tasks"]
        if task.get("type") == "signal"
    ]
    names = st.sampled_from(tuple(dict.fromkeys([*waited_for, "go"])))
    return st.builds(Telling, name=names, trigger=st.integers(0, triggers - 1), at_s=_LATER, payload=values())


@st.composite
def scenarios(
    draw: st.DrawFn,
    *,
    seeds: st.SearchStrategy[int] | None = None,
    faults: st.SearchStrategy[Faults] = faults(),
    limits: st.SearchStrategy[Limits] | None = None,
    workflows_max: int = 2,
) -> Scenario:
    """Draw whole worlds, in which every run can end.

    Args:
        seeds: the seeds, which decide the order of events and everything that happens by chance.
        faults: the faults and their rates.
        limits: the limits of the nodes.
        workflows_max: the largest number of workflows.
    """
    workflows = draw(st.lists(definitions(), min_size=1, max_size=workflows_max))
    fleet = draw(agents([*workflows, BELOW]))
    steady = [agent_id for model in fleet if _is_steady(model) for agent_id in model.ids()]
    remote = [agent_id for model in fleet if model.kind != "local" for agent_id in model.ids()] or steady
    cordons = st.builds(
        Cordon,
        agent_id=st.sampled_from(remote),
        at_s=st.sampled_from((0.0, 3.0, 60.0)),
        lasts_s=st.sampled_from((5.0, 300.0)),
        drains=st.booleans(),
    )
    sweeps = st.builds(Sweep, at_s=_LATER, replays=st.booleans(), code=st.sampled_from((None, *CODES)))
    triggers = draw(_triggers(workflows, steady))
    return Scenario(
        saved=[BELOW],
        steerings=draw(st.lists(_steerings(len(triggers)), max_size=3)),
        tellings=draw(st.lists(_tellings(len(triggers), workflows), max_size=3)),
        seed=draw(st.integers(0, 2**32 - 1) if seeds is None else seeds),
        workflows=workflows,
        agents=fleet,
        triggers=triggers,
        cordons=draw(st.lists(cordons, max_size=2)),
        sweeps=draw(st.lists(sweeps, max_size=1)),
        looks=draw(st.lists(st.builds(Look, at_s=_LATER, limit=st.sampled_from((100, 1))), max_size=1)),
        faults=draw(faults),
        faults_until_s=draw(st.sampled_from((60.0, 300.0, 900.0))),
        settle_s=SETTLE_S,
        limits=draw(drawn_limits() if limits is None else limits),
    )
