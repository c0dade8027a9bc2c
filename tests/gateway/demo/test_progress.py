from collections import Counter

import pytest

from opscore.gateway.demo.progress import (
    AgentNote,
    AgentProgress,
    Outcome,
    RunProgress,
    TaskProgress,
    after_note,
    completed_ids,
    count_tasks,
    faults,
    half_way,
    read_note,
    read_run,
)
from opscore.gateway.demo.run import outcome_rows


def run_of(*statuses: str, session_id: str = "s-1", status: str = "running") -> RunProgress:
    tasks = tuple(
        TaskProgress(task_id=f"{session_id}.{number}", key=f"task_{number}", status=status, attempt=1)
        for number, status in enumerate(statuses)
    )
    return RunProgress(session_id=session_id, title="A run", status=status, tasks=tasks)


COMPLETED_RUN = run_of("completed", "completed", status="completed")
KEYS = {"s-1": ("task_1", "task_0")}
WORKS = Counter({"s-1.0": 1, "s-1.1": 1})


@pytest.mark.parametrize(
    ("statuses", "expected"),
    [
        (("completed", "running"), True),
        (("completed", "dispatched", "completed"), True),
        (("completed", "ready"), False),
        (("completed", "running", "pending"), False),
        (("completed", "completed"), False),
        ((), False),
    ],
)
def test_half_way_is_when_half_is_done_and_an_attempt_is_open(statuses: tuple[str, ...], expected: bool) -> None:
    assert half_way([run_of(*statuses)]) is expected


def test_half_way_looks_at_all_runs_together() -> None:
    assert half_way([COMPLETED_RUN, run_of("running", "pending")])
    assert not half_way([COMPLETED_RUN, run_of("running", "pending", "pending")])


def test_a_run_is_read_from_the_servers_answer() -> None:
    document = {
        "sessionId": "s-1",
        "workflowId": "w-1",
        "status": "completed",
        "tasks": [
            {
                "taskId": "t-1",
                "taskKey": "one",
                "status": "completed",
                "attempt": 2,
                "agentId": "scout",
                "x": 1,
            },
            {"taskId": "t-2", "taskKey": "two", "status": "pending"},
        ],
    }
    run = read_run(document, "A title")
    assert run == RunProgress(
        session_id="s-1",
        title="A title",
        status="completed",
        tasks=(
            TaskProgress(task_id="t-1", key="one", status="completed", attempt=2, agent_id="scout"),
            TaskProgress(task_id="t-2", key="two", status="pending"),
        ),
    )
    assert run.ended
    assert run.completed == 1
    assert count_tasks([run]) == {"completed": 1, "pending": 1}
    assert completed_ids([run]) == {"t-1"}


def test_nothing_is_wrong_when_each_task_completed_once() -> None:
    assert faults([COMPLETED_RUN], KEYS, WORKS) == ()


@pytest.mark.parametrize(
    ("run", "works", "fault"),
    [
        (run_of("completed", "completed", status="failed"), WORKS, "Run s-1 ended as failed."),
        (run_of("completed", status="completed"), WORKS, "Run s-1 has other tasks than its definition."),
        (run_of("completed", "failed", status="completed"), WORKS, "Task task_1 of run s-1 is failed."),
        (COMPLETED_RUN, Counter({"s-1.0": 2, "s-1.1": 1}), "Task s-1.0 was done 2 times."),
        (COMPLETED_RUN, Counter({"s-1.1": 1}), "Task s-1.0 was done 0 times."),
    ],
)
def test_whatever_is_wrong_is_said(run: RunProgress, works: Counter[str], fault: str) -> None:
    assert fault in faults([run], KEYS, works)


def test_a_task_that_is_there_twice_is_a_fault() -> None:
    found = faults([COMPLETED_RUN, COMPLETED_RUN], KEYS, WORKS)
    assert found == ("Task s-1.0 is there 2 times.", "Task s-1.1 is there 2 times.")


def test_a_note_of_an_agent_is_read_and_anything_else_is_passed_over() -> None:
    note = read_note('{"agent": "scout", "event": "took", "task": "Look", "attempt": 1}')
    assert note == AgentNote(agent_id="scout", event="took", facts={"task": "Look", "attempt": 1})
    assert read_note("a warning of some library") is None
    assert read_note("[]") is None
    assert read_note('{"agent": "scout"}') is None


def test_an_agent_is_shown_as_what_it_last_said() -> None:
    agent = AgentProgress(agent_id="scout", way="push", capabilities=())
    seen = []
    for event in ("ready", "took", "away", "back", "did", "away", "back", "again"):
        agent = after_note(agent, AgentNote(agent_id="scout", event=event, facts={"task": "Look"}))
        seen.append((agent.state, agent.task, agent.done))
    assert seen == [
        ("idle", "", 0),
        ("working", "Look", 0),
        ("retrying", "Look", 0),
        ("working", "Look", 0),
        ("idle", "", 1),
        ("retrying", "", 1),
        ("idle", "", 1),
        ("idle", "", 1),
    ]


def test_the_outcome_knows_what_the_kill_has_cost() -> None:
    at_kill = (run_of("completed", "completed", "running"),)
    outcome = Outcome(
        at_kill=at_kill,
        recovered=(run_of("completed", "running", "completed"),),
        runs=at_kill,
        agents=(AgentProgress(agent_id="scout", way="push", capabilities=(), done=3),),
        recovery_s=0.5,
        outage_s=1.5,
        took_s=10.0,
        faults=("One.", "Two."),
    )
    assert outcome.finished_before_kill == {"s-1.0", "s-1.1"}
    assert outcome.lost == {"s-1.1"}
    rows = dict(outcome_rows(outcome))
    assert rows["finished before the kill"] == "2, of which 1 were lost"
    assert rows["with an agent at the kill"] == "1"
    assert rows["tasks"] == "2 of 3 completed, in 3 attempts"
    assert rows["agents"] == "1 (scout 3)"
    assert rows["recovery"] == "0.50 s from start to ready (1.5 s of outage)"
    assert rows["done twice or not at all"] == "2"
