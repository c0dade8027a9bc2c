"""Campaigns: what came of many worlds, which faults are not survived, and the smallest world that shows it."""

from collections import Counter
from collections.abc import Callable
from typing import Any

import attrs
import pytest

from opscore.runtime.models import Move, SessionStatus
from opscore.runtime.simulation import (
    AgentModel,
    Faults,
    InvariantBroken,
    Invariants,
    Latency,
    Played,
    Scenario,
    Skill,
    Steering,
    Telling,
    Trigger,
    play,
)
from opscore.runtime.simulation.campaign import (
    Ending,
    Figures,
    Outcome,
    Run,
    Wrong,
    alone,
    campaign,
    weaknesses,
)
from opscore.runtime.simulation.rows import Commit, Rows
from opscore.runtime.simulation.shrinking import smallest

ORDERS: dict[str, Any] = {
    "id": "orders",
    "tasks": [
        {"taskId": "reserve", "agentCapability": "stock"},
        {"taskId": "charge", "agentCapability": "payment", "retry": {"maxRetries": 0}},
        {"taskId": "ship", "agentCapability": "stock"},
    ],
}
QUICK = Skill(latency=Latency("constant", 1.0))
FLEET = (
    AgentModel(name="stock", count=2, skills={"stock": QUICK}),
    AgentModel(name="payment", count=2, skills={"payment": QUICK}),
)
CALM = Scenario(workflows=(ORDERS,), agents=FLEET, triggers=tuple(Trigger(at_s=at * 5.0) for at in range(4)))
BREAKING = attrs.evolve(CALM, faults=Faults(agent_breaks=0.3, agent_answers_twice=0.3, delivery_repeated=0.2))


def judged(played: Played) -> Wrong | None:
    return Outcome.of(played).wrong()


def alike(scenario: Scenario) -> Callable[[Played], bool]:
    """Whether a world goes wrong as that of a scenario does."""
    first = judged(play(scenario))
    assert first is not None

    def fails(played: Played) -> bool:
        found = judged(played)
        return found is not None and found.kind == first.kind

    return fails


def outcome(*runs: Run, seed: int = 0, broken: str | None = None) -> Outcome:
    return Outcome(
        scenario=Scenario(seed=seed),
        runs=runs,
        attempts=3,
        retries=1,
        failures=0,
        lost=1,
        faults=Counter(agent_breaks=2),
        broken=broken,
        promise=None if broken is None else "a_promise",
        elapsed_s=10.0,
    )


def test_a_campaign_plays_each_seed_and_tells_of_each() -> None:
    told: list[int] = []
    outcomes = campaign(CALM, range(3, 6), on_outcome=lambda found: told.append(found.scenario.seed))
    assert told == [3, 4, 5] == [each.scenario.seed for each in outcomes]
    figures = Figures.of(outcomes)
    assert (figures.worlds, figures.runs, figures.completed, figures.completion_rate) == (3, 12, 12, 1.0)
    assert figures.well
    assert (figures.attempts, figures.retries, figures.failures, figures.lost) == (36, 0, 0, 0)
    # Three tasks of a second each, one after another.
    assert figures.percentile(50) == pytest.approx(3.0, abs=1.5)
    assert Figures.of(outcomes, within_s=1.0).late == 12
    assert not Figures.of(outcomes, within_s=1.0).well


def test_a_campaign_takes_what_makes_a_scenario_of_a_seed() -> None:
    (found,) = campaign(lambda seed: attrs.evolve(CALM, seed=seed, triggers=(Trigger(),)), [7])
    assert found.scenario.seed == 7
    assert [run.ending for run in found.runs] == [Ending.COMPLETED]


def test_runs_that_fail_are_told_with_their_reason() -> None:
    figures = Figures.of(campaign(BREAKING, range(4)))
    assert figures.endings[Ending.FAILED] > 0
    assert figures.completed + figures.endings[Ending.FAILED] == figures.runs == 16
    assert not figures.well
    assert figures.failures == figures.endings[Ending.FAILED]
    assert figures.retries > 0
    assert figures.faults["agent_breaks"] >= figures.failures + figures.retries
    assert sum(count for reason, count in figures.reasons.items() if "it broke" in reason) == figures.failures


def test_a_run_that_is_refused_for_good_is_told_with_the_reason_and_nobody_waits_for_it() -> None:
    strict = {**ORDERS, "inputSchema": {"type": "object"}}
    refused = attrs.evolve(CALM, workflows=[strict], triggers=[Trigger(payload=5), Trigger(payload={})])
    steered = attrs.evolve(refused, steerings=[Steering(move=Move.PAUSE)], tellings=[Telling(name="go")])
    found = Outcome.of(play(steered))
    assert [run.ending for run in found.runs] == [Ending.COMPLETED, Ending.NOT_STARTED]
    assert found.runs[1].why.startswith("it was refused: the input has 1 fault")
    assert "5 is not of type 'object'" in found.runs[1].why
    assert found.elapsed_s < 60.0


def test_attempts_that_are_lost_are_counted_and_spend_no_retry() -> None:
    figures = Figures.of(
        campaign(attrs.evolve(CALM, faults=Faults(agent_crashes=0.3), triggers=(Trigger(),)), range(8))
    )
    assert figures.well
    assert figures.lost > 0
    assert figures.retries == 0
    assert figures.attempts == figures.runs * 3 + figures.lost


def test_a_run_whose_agents_are_gone_for_good_has_not_ended_and_breaks_no_promise() -> None:
    gone = [attrs.evolve(FLEET[0], leaves_at_s=3.0), FLEET[1]]
    played = play(attrs.evolve(CALM, agents=gone, settle_s=3_600.0))
    assert played.broken is not None
    found = Outcome.of(played)
    assert found.broken is None
    assert Ending.UNENDED in {run.ending for run in found.runs}
    wrong = found.wrong()
    assert wrong is not None
    assert (wrong.kind, wrong.promise) == (Ending.UNENDED, False)
    assert "is ready" in wrong.why or "is dispatched" in wrong.why


def test_a_signal_that_nobody_sends_is_named_where_a_run_does_not_end() -> None:
    approval = {"taskId": "approve", "type": "signal", "parameters": {"name": "go"}}
    waits = Scenario(workflows=[{"id": "w", "tasks": [approval]}], triggers=[Trigger()], settle_s=3_600.0)
    (run,) = Outcome.of(play(waits)).runs
    assert (run.ending, run.why) == (Ending.UNENDED, "task approve waits for the signal 'go'")


def test_half_of_the_agents_that_leave_are_made_up_for_by_the_others() -> None:
    halved = tuple(attrs.evolve(model, leaves_at_s=3.0, leaving_share=0.5) for model in FLEET)
    tasks = [{name: value for name, value in task.items() if name != "retry"} for task in ORDERS["tasks"]]
    played = play(attrs.evolve(CALM, agents=halved, workflows=({**ORDERS, "tasks": tasks},)))
    assert {session.status for session in played.sessions} == {SessionStatus.COMPLETED}
    assert sum("is gone" in event.what for event in played.history.events) == 2


def test_runs_of_a_world_that_broke_a_promise_are_cut_short_and_count_neither_way() -> None:
    def nothing_completes(commit: Commit, _: Rows) -> Any:
        """Nothing ever completes."""
        yield from (record.entity_id for record in commit.records if record.kind == "session.completed")

    outcomes = campaign(CALM, [0], invariants=Invariants(on_commit=(nothing_completes,)))
    figures = Figures.of(outcomes)
    assert figures.broken[0][0] == 0
    assert figures.broken[0][1].startswith("nothing_completes: ")
    assert figures.endings[Ending.CUT_SHORT] == 3
    assert (figures.runs, figures.well) == (1, False)
    wrong = outcomes[0].wrong()
    assert wrong is not None
    assert (wrong.kind, wrong.promise) == ("nothing_completes", True)


def test_runs_take_as_long_as_they_take_wherever_the_clock_of_the_node_is_set_meanwhile() -> None:
    slow = (AgentModel(name="slow", count=4, skills={"x": Skill(latency=Latency("constant", 50.0))}),)
    one = {"id": "one", "tasks": [{"taskId": "a", "agentCapability": "x"}]}
    moved = Scenario(
        workflows=(one,),
        agents=slow,
        triggers=tuple(Trigger(at_s=at * 60.0) for at in range(5)),
        faults=Faults(clock_moves=1.0),
        faults_until_s=600.0,
    )
    outcomes = campaign(moved, range(6))
    figures = Figures.of(outcomes, within_s=55.0)
    assert figures.faults["clock_moves"] > 10
    assert figures.seconds == pytest.approx([50.0] * 30, abs=0.1)
    assert (figures.late, figures.well, figures.shortcomings) == (0, True, ())


def test_a_run_that_is_tried_again_took_as_long_as_to_its_last_end() -> None:
    never = attrs.evolve(FLEET[1], skills={"payment": attrs.evolve(QUICK, failure_rate=1.0)})
    again = Steering(move=Move.RETRY, when_ended=True, at_s=100.0)
    played = play(attrs.evolve(CALM, agents=(FLEET[0], never), triggers=(Trigger(),), steerings=(again,)))
    (run,) = Outcome.of(played).runs
    assert run.ending is Ending.FAILED
    assert run.seconds == pytest.approx(101.0, abs=2.0)


def test_runs_that_retention_has_removed_have_ended_all_the_same() -> None:
    forgetful = attrs.evolve(Scenario().limits, sessions_keep_s=5.0, idempotency_keep_s=5.0)
    late = (Trigger(), Trigger(), Trigger(at_s=4_000.0))
    (found,) = campaign(attrs.evolve(CALM, triggers=late, limits=forgetful, faults_until_s=4_100.0), [0])
    assert [run.ending for run in found.runs] == [Ending.COMPLETED] * 3
    assert found.attempts == 9


def test_figures_add_up() -> None:
    ended = [Run(ending=Ending.COMPLETED, seconds=float(seconds)) for seconds in range(1, 101)]
    figures = Figures.of(
        [
            outcome(*ended),
            outcome(Run(ending=Ending.PAUSED, why="why"), Run(ending=Ending.CUT_SHORT), seed=9, broken="x"),
        ],
        within_s=98.5,
    )
    assert [figures.percentile(percent) for percent in (0, 50, 95, 99, 100)] == [1.0, 50.0, 95.0, 99.0, 100.0]
    assert (figures.runs, figures.completed, figures.late) == (101, 100, 2)
    assert (figures.attempts, figures.retries, figures.lost, figures.virtual_s) == (6, 2, 2, 20.0)
    assert figures.faults == Counter(agent_breaks=4)
    assert figures.broken == ((9, "x"),)
    assert figures.reasons == Counter(why=1)
    assert figures.shortcomings == ("1 × why", "2 × took longer than it may", "seed 9: x")


def test_no_worlds_make_no_figures() -> None:
    figures = Figures.of([])
    assert (figures.completion_rate, figures.percentile(50), figures.runs) == (None, None, 0)


@pytest.mark.parametrize(
    ("runs", "kind"),
    [
        ((Run(ending=Ending.COMPLETED, seconds=5.0),), None),
        ((Run(ending=Ending.COMPLETED, seconds=11.0),), "late"),
        ((Run(ending=Ending.COMPLETED, seconds=11.0), Run(ending=Ending.FAILED, seconds=1.0)), Ending.FAILED),
        ((Run(ending=Ending.FAILED, seconds=1.0), Run(ending=Ending.UNENDED)), Ending.UNENDED),
        ((Run(ending=Ending.NOT_STARTED),), Ending.NOT_STARTED),
    ],
)
def test_what_is_wrong_with_an_outcome_is_its_worst(runs: tuple[Run, ...], kind: str | None) -> None:
    wrong = outcome(*runs).wrong(within_s=10.0)
    assert (wrong.kind if wrong is not None else None) == kind


def test_only_the_fault_that_is_enough_alone_is_named() -> None:
    found = list(weaknesses(BREAKING, range(4), judged))
    assert [each.fault for each in found] == ["agent_breaks"]
    assert found[0].scenario.faults == Faults(agent_breaks=0.3)
    assert judged(play(found[0].scenario)) == found[0].wrong


def test_what_goes_wrong_without_any_fault_is_said_first_and_alone() -> None:
    never = attrs.evolve(FLEET[1], skills={"payment": attrs.evolve(QUICK, failure_rate=1.0)})
    found = list(weaknesses(attrs.evolve(BREAKING, agents=(FLEET[0], never)), [0, 1], judged))
    assert [each.fault for each in found] == [None]


def test_one_of_the_faults_is_left_alone() -> None:
    assert alone(BREAKING.faults, "agent_breaks") == Faults(agent_breaks=0.3)


def test_a_failing_scenario_is_made_small_and_still_fails() -> None:
    failing = next(each.scenario for each in campaign(BREAKING, range(4)) if each.wrong() is not None)
    seen: list[Scenario] = []
    small = smallest(failing, judged, on_smaller=seen.append)
    assert seen[-1] == small
    assert judged(play(small)) is not None
    assert small.faults.on() == ("agent_breaks",)
    assert len(small.triggers) == 1
    assert [model.count for model in small.agents] == [1] * len(small.agents)
    tasks = [task["taskId"] for task in small.workflows[0]["tasks"]]
    assert "charge" in tasks
    assert len(tasks) < 3
    assert small.faults_until_s < failing.faults_until_s


def test_a_scenario_is_not_made_small_by_taking_away_who_does_the_work() -> None:
    never = attrs.evolve(FLEET[1], skills={"payment": attrs.evolve(QUICK, failure_rate=1.0)})
    small = smallest(attrs.evolve(CALM, agents=(FLEET[0], never)), judged)
    assert [model.name for model in small.agents] == ["payment"]
    assert [task["taskId"] for task in small.workflows[0]["tasks"]] == ["charge"]


def test_a_scenario_is_not_made_small_by_taking_away_who_tells_a_run_what_it_waits_for() -> None:
    approved = {
        "id": "approved",
        "tasks": [
            {"taskId": "approve", "type": "signal", "timeoutSeconds": 60},
            {"taskId": "second", "type": "signal"},
            {"taskId": "charge", "agentCapability": "payment"},
        ],
    }
    gone = attrs.evolve(FLEET[1], count=1, kind="claim", leaves_at_s=10.0)
    told = [Telling(name=name, trigger=run, at_s=20.0) for run in (0, 1) for name in ("approve", "second")]
    original = Scenario(
        workflows=(approved,), agents=(gone,), triggers=(Trigger(), Trigger()), tellings=told, settle_s=300.0
    )
    small = smallest(original, alike(original))
    wrong = judged(play(small))
    assert wrong is not None
    assert wrong.why == "a run has not ended: task charge is ready"
    # It takes the wait for its agent to be gone by then.
    assert [task["taskId"] for task in small.workflows[0]["tasks"]] == ["approve", "charge"]
    assert [telling.name for telling in small.tellings] == ["approve"]
    late = attrs.evolve(original, agents=FLEET, tellings=[attrs.evolve(each, at_s=60.5) for each in told])
    small = smallest(late, alike(late))
    assert [(each.name, each.at_s) for each in small.tellings] == [("approve", 60.5)]


def test_a_scenario_is_not_made_small_by_leaving_too_few_agents() -> None:
    few = attrs.evolve(CALM, triggers=(Trigger(),) * 8)

    def late(played: Played) -> object:
        return Outcome.of(played).wrong(within_s=7.5)

    assert late(play(few))
    assert [model.count for model in smallest(few, late).agents] == [2]
    hanging = attrs.evolve(CALM, triggers=(Trigger(),) * 4, faults=Faults(agent_hangs=0.3))
    small = smallest(hanging, late)
    assert small.faults.on() == ("agent_hangs",)
    assert not late(play(attrs.evolve(small, faults=Faults())))


def test_agents_of_a_run_below_are_not_taken_away() -> None:
    above = {"id": "above", "tasks": [{"taskId": "pack", "type": "workflow", "parameters": {"workflowId": "below"}}]}
    below = {
        "id": "below",
        "tasks": [{"taskId": "box", "agentCapability": "stock"}, {"taskId": "go", "type": "signal"}],
    }
    waits = Scenario(workflows=(above,), saved=(below,), agents=FLEET, triggers=(Trigger(),), settle_s=300.0)
    small = smallest(waits, alike(waits))
    assert [model.name for model in small.agents] == ["stock"]


def test_no_more_worlds_are_played_than_allowed() -> None:
    count = 0

    def counted(_: Played) -> bool:
        nonlocal count
        count += 1
        return False

    assert smallest(BREAKING, counted, plays=7) == BREAKING
    assert count == 7


def test_tasks_are_taken_out_of_chains_and_graphs() -> None:
    tasks = [
        {"taskId": "a", "agentCapability": "stock", "nextTaskId": "b"},
        {"taskId": "b", "agentCapability": "stock", "nextTaskId": "c"},
        {"taskId": "c", "agentCapability": "stock"},
    ]
    graph = [
        {"taskId": "a", "agentCapability": "stock", "dependsOn": []},
        {"taskId": "b", "agentCapability": "stock", "dependsOn": ["a"]},
        {"taskId": "c", "agentCapability": "stock", "dependsOn": ["b"]},
    ]
    for shape in (tasks, graph):
        scenario = Scenario(workflows=({"id": "w", "tasks": shape},), agents=FLEET, triggers=(Trigger(),))
        small = smallest(scenario, lambda played: {"a", "c"} <= {task.key for task in played.tasks})
        left = small.workflows[0]["tasks"]
        assert [task["taskId"] for task in left] == ["a", "c"]
        assert left[0].get("nextTaskId") == "c" or left[1].get("dependsOn") == ["a"]


def test_a_promise_can_be_what_is_shrunk_for() -> None:
    def nobody_breaks(commit: Commit, _: Rows) -> Any:
        """No attempt ever fails."""
        yield from (record.entity_id for record in commit.records if record.kind == "task.failed")

    invariants = Invariants(on_commit=(nobody_breaks,))
    failing = next(
        each.scenario for each in campaign(BREAKING, range(6), invariants=invariants) if each.broken is not None
    )
    small = smallest(failing, lambda played: played.broken is not None, invariants=invariants, promise=True)
    broken = play(small, invariants).broken
    assert isinstance(broken, InvariantBroken)
    assert broken.invariant == "nobody_breaks"
    assert len(small.triggers) == 1
