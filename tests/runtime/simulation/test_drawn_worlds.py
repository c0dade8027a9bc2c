"""Worlds drawn by Hypothesis: every one keeps every promise, and one that does not shrinks to next to nothing."""

import random
from collections import Counter
from collections.abc import Iterator, Mapping
from typing import Any

import attrs
import pytest
from hypothesis import HealthCheck, Phase, find, given, seed, settings

from opscore.runtime.definitions.definition import parse
from opscore.runtime.models import Task
from opscore.runtime.runs import transitions
from opscore.runtime.runs.run import Run, Step
from opscore.runtime.simulation import AgentModel, Faults, Scenario, play
from opscore.runtime.simulation.drawing.scenarios import drawn
from opscore.runtime.simulation.faults import fault_names
from opscore.runtime.simulation.scenario import SIMULATED_LIMITS
from opscore.runtime.simulation.strategies import agents, definitions, faults, scenarios, schema_fields

SHORT = settings(max_examples=60, deadline=None, print_blob=True, suppress_health_check=list(HealthCheck))
LOOK = settings(
    max_examples=300, deadline=None, database=None, phases=[Phase.generate], suppress_health_check=list(HealthCheck)
)


@SHORT
@given(scenarios())
def test_every_drawn_world_keeps_every_promise(scenario: Scenario) -> None:
    play(scenario).check()


def named(value: Any, path: str = "") -> Iterator[str]:
    """The fields that a document names; what stands in free ones is none."""
    if isinstance(value, list):
        for item in value:
            yield from named(item, path)
    elif isinstance(value, Mapping):
        for name, item in value.items():
            yield f"{path}{name}"
            if f"{path}{name}" in {"tasks", "tasks.retry", "defaults", "defaults.retry"}:
                yield from named(item, f"{path}{name}.")


def test_drawn_workflows_are_valid_and_have_every_field_of_the_schema_in_every_order() -> None:
    seen: set[str] = set()
    edges: set[tuple[bool, bool]] = set()
    shapes: set[tuple[int, int]] = set()

    @seed(1)
    @LOOK
    @given(definitions())
    def look(document: dict[str, Any]) -> None:
        definition = parse(document, SIMULATED_LIMITS)
        seen.update(named(document))
        tasks = document["tasks"]
        edges.add((any(task.get("nextTaskId") for task in tasks), any(task.get("dependsOn") for task in tasks)))
        shapes.update((len(task.depends_on), len(definition.dependents[task.key])) for task in definition.tasks)

    look()
    assert seen == schema_fields()
    assert edges == {(chained, joined) for chained in (False, True) for joined in (False, True)}
    assert max(joined for joined, _ in shapes) > 1, "some task waits for several"
    assert max(fanned for _, fanned in shapes) > 1, "several tasks wait for one"


def test_every_fault_is_drawn_alone_and_with_others_seldom_and_often() -> None:
    seen: dict[str, set[float]] = {name: set() for name in fault_names()}
    together: set[int] = set()

    @seed(1)
    @LOOK
    @given(faults())
    def look(drawn: Faults) -> None:
        together.add(len(drawn.on()))
        for name in fault_names():
            seen[name].add(getattr(drawn, name))

    look()
    assert {0, 1, 2, 3} <= together
    assert [name for name, rates in seen.items() if 0.0 not in rates or len(rates) < 3] == []


def test_agents_of_every_kind_are_drawn_and_everything_is_served_by_somebody_who_stays() -> None:
    kinds: set[str] = set()

    @seed(1)
    @LOOK
    @given(scenarios())
    def look(scenario: Scenario) -> None:
        kinds.update(model.kind for model in scenario.agents)
        steady = [model for model in scenario.agents if model.leaves_at_s is None or model.returns_at_s is not None]
        skills = {name for model in steady for name in model.skills}
        ids = {agent_id for model in steady for agent_id in model.ids()}
        tasks = [task for document in scenario.workflows for task in document["tasks"]]
        assert {task["agentCapability"] for task in tasks if task.get("agentCapability")} <= skills
        assert {task["agentId"] for task in tasks if task.get("agentId")} <= ids
        assert {trigger.agent_id for trigger in scenario.triggers} - {None} <= ids

    look()
    assert kinds == {"push", "claim", "local"}


def test_agents_that_a_workflow_of_ones_own_names_are_there_under_just_their_ids() -> None:
    own = ["billing-bot", "agent", "other0-1", "pair-1", "ø 1"]
    document = {"id": "own", "tasks": [{"taskId": f"t{place}", "agentId": each} for place, each in enumerate(own)]}

    @seed(1)
    @settings(LOOK, max_examples=100)
    @given(agents([document]))
    def look(fleet: list[AgentModel]) -> None:
        ids = [agent_id for model in fleet for agent_id in model.ids()]
        assert set(own) <= set(ids)
        assert len(ids) == len(set(ids))

    look()


def test_a_planted_bug_is_found_and_shrinks_to_one_task_one_agent_one_trigger_and_no_fault(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    dispatch = transitions.dispatch

    def uncounted(run: Run, task: Task, agent_id: str, now: float) -> Step:
        # Not in every run: the first world that is drawn, which is the smallest, is well.
        step = dispatch(run, task, agent_id, now)
        if run.session.payload is None:
            return step
        return attrs.evolve(step, changed=tuple(attrs.evolve(each, attempt=0) for each in step.changed))

    monkeypatch.setattr(transitions, "dispatch", uncounted)
    found = find(
        scenarios(),
        lambda scenario: play(scenario).broken is not None,
        settings=settings(LOOK, phases=[Phase.generate, Phase.shrink]),
        random=random.Random(2),
    )
    broken = play(found).broken
    assert broken is not None
    assert broken.invariant == "attempts_count_dispatches"
    assert found.seed == 0
    assert found.faults == Faults()
    assert [len(document["tasks"]) for document in found.workflows] == [1]
    assert [len(model.ids()) for model in found.agents] == [1]
    assert len(found.triggers) == 1


def test_what_a_world_of_a_seed_starts_is_a_workflow() -> None:
    kinds = set[str]()
    for number in range(1_000):
        scenario = drawn(number)
        for document in (*scenario.workflows, *scenario.saved):
            kinds.add(parse(dict(document), scenario.limits).workflow_id)
    assert {"workflow-0", "corner", "signals", "long-waits", "short-memory"} <= kinds


IN_TURN = (
    "short-lines-0",
    "ready-together",
    "restarted",
    "frozen",
    "paused-above",
    "by-itself",
    "outlasting-functions",
    "calls",
    "late-answers",
    "failing-at-once",
    "stalled",
    "cancelled-functions",
    "full",
    "more-than-may-be",
)
"""The first workflow of each rare situation."""


@pytest.mark.parametrize("start", [0, 5_000_000])
def test_no_rare_situation_is_left_out_for_long(start: int) -> None:
    seen = Counter(drawn(number).workflows[0]["id"] for number in range(start, start + 600))
    assert [name for name in IN_TURN if seen[name] < 2] == []
