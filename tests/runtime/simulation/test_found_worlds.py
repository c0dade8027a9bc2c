"""Worlds that once broke a promise, too rare among drawn ones to be met again soon."""

import attrs
import pytest

from opscore.runtime.journal.tables import REVISIONS, SESSIONS, TASKS, Revision
from opscore.runtime.limits import Limits
from opscore.runtime.models import Move, Session, SessionStatus, Task, TaskStatus
from opscore.runtime.simulation import AgentModel, Faults, Latency, Scenario, Skill, Steering, Trigger, play
from opscore.runtime.simulation.history import Ledger
from opscore.runtime.simulation.promises.outside import everything_ends
from opscore.runtime.simulation.rows import Rows
from opscore.runtime.store import Submission


@pytest.mark.parametrize("seed", [49, 225, 258, 280, 360])
def test_a_run_whose_actor_starts_again_before_it_begins_counts_among_the_unfinished(seed: int) -> None:
    world = play(
        Scenario(
            seed=seed,
            workflows=[{"id": "w", "tasks": [{"taskId": "a", "agentCapability": "y"}]}],
            agents=[AgentModel(name="a", count=2, skills={"y": Skill()})],
            triggers=[Trigger(at_s=10.0 + number / 2, payload=number) for number in range(6)],
            # Its actor can't read while the disk stalls, is restarted, and finds what it is to begin in its mailbox.
            faults=Faults(commit_stalled=0.3, commit_split=0.3),
            limits=Limits(sessions_open_max=3, close_grace_s=0.1, passivate_s=5.0),
        )
    )
    world.check()
    assert world.faults["commit_stalled"] > 0


@pytest.mark.parametrize("seed", [23, 128, 132])
def test_an_agent_is_tried_again_though_who_suspected_it_did_not_learn_of_the_commit(seed: int) -> None:
    world = play(
        Scenario(
            seed=seed,
            workflows=[{"id": "w", "tasks": [{"taskId": "a", "agentCapability": "y", "leaseSeconds": 60}]}],
            # It says nothing by itself, so nothing but the end of its suspicion has it tried.
            agents=[AgentModel(name="a", skills={"y": Skill()}, report_every_s=900.0)],
            triggers=[Trigger(at_s=10.0 + number, payload=number) for number in range(4)],
            faults=Faults(commit_stalled=0.04, agent_hangs=0.7),
            faults_until_s=2_000.0,
            limits=Limits(close_grace_s=0.1, passivate_s=1.0, dispatch_attempts_max=100),
        )
    )
    world.check()
    assert world.faults["commit_stalled"] > 0


@pytest.mark.parametrize("seed", [121, 799, 1300, 1377])
def test_a_task_that_was_given_out_unheard_and_lost_waits_behind_who_came_before(seed: int) -> None:
    retry = {"maxRetries": 5, "initialDelaySeconds": 1, "maxDelaySeconds": 1, "jitter": False}
    patient = {"taskId": "a", "agentCapability": "y", "leaseSeconds": 120}
    urgent = {"taskId": "a", "agentCapability": "y", "leaseSeconds": 30, "priority": 9, "retry": retry}
    world = play(
        Scenario(
            seed=seed,
            # The disk falls silent at a retry of the urgent one, and a patient one is offered to the agent meanwhile.
            workflows=[{"id": "patient", "tasks": [patient]}, {"id": "urgent", "tasks": [urgent]}],
            agents=[AgentModel(name="a", skills={"y": Skill()}, report_every_s=900.0)],
            triggers=[Trigger(at_s=10.0), Trigger(at_s=11.0), Trigger(at_s=12.0, workflow=1)],
            faults=Faults(commit_stalled=0.02, agent_hangs=1.0),
            faults_until_s=2_000.0,
            limits=Limits(close_grace_s=0.1, passivate_s=5.0, dispatch_attempts_max=2),
        )
    )
    world.check()
    assert world.faults["commit_stalled"] > 0


@pytest.mark.parametrize("seed", [31, 64, 106])
def test_a_claimer_that_has_its_answer_claims_no_more_though_nobody_heard_that_it_hung_up(seed: int) -> None:
    world = play(
        Scenario(
            seed=seed,
            workflows=[{"id": "w", "tasks": [{"taskId": "a", "agentCapability": "y"}]}],
            agents=[AgentModel(name="a", kind="claim", skills={"y": Skill()})],
            triggers=[Trigger(at_s=10.0 * number, payload=number) for number in range(6)],
            # A claim that is made again under its id, and given up, does take back what an earlier call was handed.
            faults=Faults(agent_claims_again=0.5, request_lost=0.2, request_overlaps=0.2),
        )
    )
    world.check()
    assert world.faults["agent_claims_again"] > 0


@pytest.mark.parametrize("seed", [13, 19, 27])
def test_an_item_that_is_taken_back_with_its_paused_run_is_called_off_when_that_goes_on(seed: int) -> None:
    again = {"leaseSeconds": 120, "retry": {"maxRetries": 0}}
    each = {"taskId": "each", "agentCapability": "x", "forEach": [1, 2, 3], "concurrency": 3, **again}
    skill = Skill(latency=Latency("uniform", 1.0, 60.0), failure_rate=0.5)
    world = play(
        Scenario(
            seed=seed,
            workflows=[{"id": "w", "tasks": [each]}],
            agents=[AgentModel(name="a", count=3, skills={"x": skill})],
            triggers=[Trigger()],
            # One item has failed for good, others are out, and the run's actor keeps crashing.
            steerings=[Steering(move=Move.RESUME, at_s=90.0)],
            faults=Faults(run_poisoned=0.1),
            faults_until_s=80.0,
        )
    )
    world.check()
    assert world.faults["run_poisoned"] > 0
    taken_back = [task for task in world.tasks if task.error is not None and task.error.code == "lost"]
    assert {task.status for task in taken_back} == {TaskStatus.CANCELLED}


def test_a_run_may_wait_for_one_that_is_quarantined() -> None:
    document = {"id": "w", "tasks": [{"taskId": "b", "type": "workflow", "parameters": {"workflowId": "below"}}]}
    above = Session(
        session_id="above", workflow_id="w", definition_key="d", status=SessionStatus.RUNNING, created_at=1.0
    )
    waits = Task(
        task_id="above.0",
        session_id="above",
        key="b",
        ordinal=0,
        status=TaskStatus.RUNNING,
        child_session_id="below",
    )
    below = attrs.evolve(above, session_id="below", status=SessionStatus.PAUSED, reason="actor_crashed")
    for faults, held_up in (({"actor_raises"}, True), (set[str](), False)):
        rows = Rows(limits=Limits(), ledger=Ledger(), faults=frozenset(faults), now=lambda: 2.0)
        writes = (SESSIONS.put(above), SESSIONS.put(below), TASKS.put(waits))
        revision = REVISIONS.put(Revision(definition_key="d", document=document))
        rows.follow(Submission(writes=(revision, *writes)), 1)
        assert bool(list(everything_ends(rows))) is not held_up


def test_a_call_may_be_repeated_after_a_failure_that_its_agent_gave_the_code_of_a_timeout() -> None:
    call = {"type": "tool", "agentCapability": "x", "parameters": {"tool": "adder", "arguments": {}}}
    world = play(
        Scenario(
            workflows=[{"id": "w", "tasks": [{"taskId": "a", "retry": {"maxRetries": 1}, **call}]}],
            agents=[AgentModel(name="a", skills={"x": Skill(failure_rate=1.0, failure_code="timeout")})],
            triggers=[Trigger()],
        )
    )
    world.check()
    assert sum("pending_retry" in line for line in world.history.timeline()) == 1
