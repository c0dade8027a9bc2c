"""Worlds are played: what happens in them happens, what breaks is told, and what is told plays again."""

import functools
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from opscore.runtime.errors import InvalidDocument
from opscore.runtime.models import Missed, SessionStatus, TaskStatus
from opscore.runtime.simulation import (
    STANDARD,
    AgentModel,
    Calendar,
    Cordon,
    Faults,
    InvariantBroken,
    Invariants,
    Latency,
    Played,
    Scenario,
    Skill,
    Sweep,
    Trigger,
    WorldFailed,
    play,
)
from opscore.runtime.simulation.faults import UnknownFault, fault_meaning, fault_names
from opscore.runtime.simulation.invariants import check
from opscore.runtime.simulation.rows import Commit, Rows

SKILLS = {"x": Skill(latency=Latency("constant", 1.0)), "y": Skill(latency=Latency("constant", 2.0))}
CHAIN: dict[str, Any] = {
    "id": "chain",
    "tasks": [
        {"taskId": "a", "agentCapability": "x", "nextTaskId": "b", "leaseSeconds": 30, "timeoutSeconds": 100},
        {"taskId": "b", "agentCapability": "y", "leaseSeconds": 30, "timeoutSeconds": 100},
    ],
}
FLEET = [
    AgentModel(name="push", count=2, skills=SKILLS, answers_at_once=0.2, report_every_s=2.0),
    AgentModel(name="claim", kind="claim", skills=SKILLS),
    AgentModel(name="local", kind="local", skills=SKILLS),
]


def scenario(**changes: Any) -> Scenario:
    standard: dict[str, Any] = {
        "workflows": [CHAIN],
        "agents": FLEET,
        "triggers": [Trigger(at_s=number * 3.0, payload={"number": number}) for number in range(4)],
    }
    return Scenario(**{**standard, **changes})


def test_a_world_without_faults_completes_every_run() -> None:
    world = play(scenario())
    world.check()
    assert [session.status for session in world.sessions] == [SessionStatus.COMPLETED] * 4
    assert all(task.status is TaskStatus.COMPLETED and task.attempt == 1 for task in world.tasks)
    assert not world.faults
    assert world.elapsed_s < 60


@pytest.mark.parametrize("kind", ["push", "claim", "local"])
def test_every_kind_of_agent_does_its_work(kind: Any) -> None:
    world = play(scenario(agents=[AgentModel(kind=kind, skills=SKILLS)]))
    world.check()
    assert {task.agent_id for task in world.tasks} == {"agent"}


@pytest.mark.parametrize("name", fault_names())
def test_every_fault_happens_and_no_promise_is_broken_by_it(name: str) -> None:
    assert fault_meaning(name)
    faults = Faults.usual(name, times=25.0)
    assert faults.on() == (name,)
    happened = 0
    for seed in range(20):
        triggers = [Trigger(payload={}), Trigger(payload={}), Trigger(at_s=110.0, payload={})]
        world = play(scenario(seed=seed, faults=faults, faults_until_s=120.0, triggers=triggers))
        world.check()
        happened += world.faults[name]
        assert set(world.faults) <= {name}
        if happened:
            return
    pytest.fail(f"{name} has not happened")


def test_all_faults_at_once_and_every_run_still_ends() -> None:
    for seed in range(10):
        world = play(scenario(seed=seed, faults=Faults.usual(times=2.0)))
        world.check()
        assert len(world.sessions) == 4


def test_a_fleet_that_leaves_and_returns_is_waited_for() -> None:
    leaving = AgentModel(skills=SKILLS, leaves_at_s=2.5, returns_at_s=400.0)
    world = play(scenario(agents=[leaving]))
    world.check()
    assert all(session.status is SessionStatus.COMPLETED for session in world.sessions)
    assert world.elapsed_s > 400


@pytest.mark.parametrize("after", ["push", "claim", "local"])
@pytest.mark.parametrize("before", ["push", "claim", "local"])
def test_an_agent_that_comes_back_as_another_kind_goes_on(before: Any, after: Any) -> None:
    for seed in range(3):
        changing = AgentModel(kind=before, skills=SKILLS, leaves_at_s=4.5, returns_at_s=4.5 + seed, returns_as=after)
        world = play(scenario(seed=seed, agents=[changing], faults=Faults(process_dies=0.001), faults_until_s=40.0))
        world.check()
        assert all(session.status is SessionStatus.COMPLETED for session in world.sessions)


@pytest.mark.parametrize("replays", [False, True])
def test_dead_letters_are_discarded_or_tried_again(replays: bool) -> None:
    failing = AgentModel(skills={"x": Skill(failure_rate=1.0, retryable=False), "y": Skill()})
    world = play(scenario(agents=[failing], sweeps=[Sweep(at_s=60.0, replays=replays)]))
    world.check()
    assert [task.dead for task in world.tasks if task.status is TaskStatus.FAILED] == [replays] * 4
    assert {task.attempt for task in world.tasks if task.key == "a"} == {2 if replays else 1}


def test_a_cordoned_agent_is_left_alone_until_it_is_put_back() -> None:
    world = play(
        scenario(agents=[AgentModel(skills=SKILLS)], cordons=[Cordon(agent_id="agent", at_s=0.5, lasts_s=90.0)])
    )
    world.check()
    assert world.elapsed_s > 90


@pytest.mark.parametrize("missed", Missed)
def test_runs_that_start_by_themselves_are_played_through_deaths_and_pauses(missed: Missed) -> None:
    begun = deaths = 0
    for seed in range(6):
        world = play(
            scenario(
                seed=seed,
                saved=[{"id": "beat", "tasks": [{"taskId": "a", "agentCapability": "x"}]}],
                calendars=[
                    Calendar(workflow_id="beat", cron="*/10 * * * * *", missed=missed, lasts_s=200.0),
                    Calendar(workflow_id="beat", cron="5 * * * * *", missed=missed, pauses_after_s=70.0),
                    Calendar(workflow_id="beat", in_s=30.0, missed=missed),
                ],
                faults=Faults(process_dies=0.0008, commit_refused=0.05, commit_stalled=0.02),
                faults_until_s=150.0,
            )
        )
        world.check()
        begun += sum(session.workflow_id == "beat" for session in world.sessions)
        deaths += world.faults["process_dies"]
    assert deaths > 0
    assert begun > 6 * 5


def test_runs_that_nobody_can_do_are_told() -> None:
    world = play(scenario(agents=[], settle_s=100.0, faults_until_s=10.0))
    assert world.broken is not None
    assert world.broken.invariant == "everything_ends"
    with pytest.raises(WorldFailed, match="a ready"):
        world.check()


def test_a_trigger_that_is_never_accepted_is_told() -> None:
    nobody = Trigger(payload={"number": 4}, agent_id="nobody")
    world = play(scenario(triggers=[Trigger(payload={"number": 0}), nobody], settle_s=100.0, faults_until_s=10.0))
    with pytest.raises(WorldFailed, match=r"every_trigger_is_answered: trigger 1 was never accepted: .*'nobody'"):
        world.check()
    # What is refused for good has its answer.
    strict = {**CHAIN, "inputSchema": {"type": "object", "required": ["order"]}}
    refused = play(scenario(workflows=[strict], triggers=[Trigger(payload={})]))
    refused.check()
    assert list(refused.history.ledger.refused) == [0]


@pytest.mark.parametrize("place", ["workflows", "saved"])
def test_a_workflow_that_is_not_valid_is_refused_before_a_world_in_which_nothing_happens_passes(place: str) -> None:
    misspelt = {"id": "w", "tasks": [{"taskId": "a", "agentCapabilty": "x"}]}
    with pytest.raises(InvalidDocument, match="unknown field 'agentCapabilty'"):
        play(scenario(**{place: [misspelt]}))


@pytest.mark.parametrize("workflow", [1, -1])
def test_a_trigger_of_a_workflow_that_is_not_there_is_refused_before_the_world_begins(workflow: int) -> None:
    with pytest.raises(
        ValueError, match=f"trigger 0 starts workflow {workflow}, counted from 0, and the scenario has 1 "
    ):
        play(scenario(triggers=[Trigger(workflow=workflow)]))


# --- promises of one's own ------------------------------------------------------------------------------------


def b_is_never_first(commit: Commit, _: Rows) -> Iterator[str]:
    """A promise that a user makes: here one that can't be kept."""
    for change in commit.of("tasks"):
        if change.after is not None and change.after.key == "b" and change.after.status is TaskStatus.DISPATCHED:
            yield f"{change.key} is given to {change.after.agent_id}"


MINE = STANDARD + Invariants(on_commit=(b_is_never_first,))


def test_a_promise_of_ones_own_is_named_with_what_it_says() -> None:
    assert MINE.named()["b_is_never_first"] == "A promise that a user makes: here one that can't be kept."
    assert len(STANDARD.named()) > 30
    assert all(STANDARD.named().values()), "every promise says what it is"
    with pytest.raises(InvariantBroken, match="b_is_never_first: ses_"):
        check(MINE.on_commit, *_first_of(play(scenario(), MINE)))


def _first_of(world: Played) -> tuple[Any, Any]:
    assert world.broken is not None
    raise world.broken


def asserts(*_: object) -> None:
    assert not _, "nothing is ever looked at"


def errs(*_: object) -> Iterator[str]:
    yield {"reserve": "it is reserved"}["charge"]


@pytest.mark.parametrize("when", ["on_commit", "on_reply", "on_handed", "on_scan", "at_end"])
@pytest.mark.parametrize(("promise", "what"), [(asserts, "nothing is ever looked at"), (errs, "it raised KeyError")])
def test_a_promise_that_raises_is_broken_and_not_the_nodes_trouble(when: str, promise: Any, what: str) -> None:
    world = play(scenario(), STANDARD + Invariants(**{when: (promise,)}))
    with pytest.raises(WorldFailed, match=f"{promise.__name__}: .*{what}") as failed:
        world.check()
    assert isinstance(failed.value.__cause__, InvariantBroken)
    assert isinstance(failed.value.__cause__.__cause__, AssertionError | KeyError)


def test_a_promise_that_says_nothing_is_kept_and_one_without_a_name_or_docstring_is_told_as_it_is() -> None:
    def silent(*_: object) -> None:
        pass

    play(scenario(), STANDARD + Invariants(on_commit=(silent,), on_handed=(silent,), at_end=(silent,))).check()
    mine = Invariants(on_scan=(silent, functools.partial(errs, 1)))
    assert next(iter(mine.named().values())) == ""
    with pytest.raises(InvariantBroken, match=r"functools\.partial.*KeyError"):
        check(mine.on_scan)


def test_what_is_broken_is_told_with_seed_scenario_and_timeline() -> None:
    world = play(scenario(seed=11), MINE)
    with pytest.raises(WorldFailed) as failed:
        world.check()
    told = str(failed.value)
    assert "b_is_never_first" in told
    assert "seed 11" in told
    assert "session.started" in told
    assert f"world                    {world.broken}" in told


def test_what_breaks_a_promise_of_ones_own_is_told_with_the_place_where_that_has_to_be_given_again() -> None:
    with pytest.raises(WorldFailed) as failed:
        play(scenario(), MINE).check()
    told = str(failed.value)
    source = told[told.index("from opscore") : told.rindex("\n\n")]
    with pytest.raises(NameError, match="invariants"):
        exec(source, {})  # noqa: S102 (as a user would)
    with pytest.raises(WorldFailed, match="b_is_never_first: ses_"):
        exec(source, {"invariants": MINE})  # noqa: S102 (as a user would)


def test_a_timeline_is_not_filled_by_idle_agents_that_say_so_again_and_again() -> None:
    idle = [AgentModel(name="idle", count=5, skills={"z": Skill()})]
    world = play(scenario(agents=idle, triggers=[Trigger()], settle_s=3_600.0))
    lines = list(world.history.timeline())
    assert (
        lines[0]
        == f"… {len(world.history.events) - len(lines) + 1:,} reports that tell the same as the one before are left out"
    )
    assert any("session.started" in line for line in lines)
    assert sum("agent.reported" in line for line in lines) == 5
    # Nothing is left out of what is no such report.
    assert len([event for event in world.history.events if "agent.reported" not in event.what]) == len(lines) - 6


def test_the_scenario_that_is_told_is_python_that_makes_it_again() -> None:
    original = scenario(
        seed=5,
        triggers=[Trigger(key="k", payload=[1, {"a": None}], agent_id="push-0")],
        faults=Faults(process_dies=0.25),
        limits=attrs.evolve(Scenario().limits, agent_ttl_s=3.0),
    )
    names: dict[str, Any] = {}
    source = original.python()
    exec(source.replace("play(", "again = (", 1).replace(").check()", ")"), names)  # noqa: S102 (as a user would)
    assert attrs.asdict(names["again"]) == attrs.asdict(original)


def test_an_unknown_fault_is_refused_with_those_there_are() -> None:
    with pytest.raises(UnknownFault, match=r"'disc_full'.*disk_full"):
        Faults.usual("disc_full")
    with pytest.raises(ValueError, match="from 0 to 1"):
        Faults(process_dies=1.5)


def test_faults_are_chosen_by_the_word_that_they_begin_with() -> None:
    assert Faults.usual("disk").on() == ("disk_full", "disk_nearly_full")
    assert Faults.usual().without(fault_names()[1:]).on() == fault_names()[:1]
