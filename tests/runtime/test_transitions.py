"""How a run moves: the two tables, explored to their ends, and how a session ends."""

import random
from collections.abc import Callable, Iterator
from functools import partial
from typing import Any

import attrs
import pytest

from opscore.runtime import transitions
from opscore.runtime.models import SESSION_ENDED, TASK_ENDED, TASK_OPEN, Failure, SessionStatus, TaskStatus
from opscore.runtime.transitions import (
    SESSION_TABLE,
    TASK_TABLE,
    Ended,
    ImpossibleTransition,
    Run,
    SessionEvent,
    Step,
    TaskEvent,
    Withdrawn,
)
from tests.runtime.runs import ERROR, FATAL, LIMITS, LOST, NOW, begun, bounced, dispatched, failed, run_of, statuses

# --- the tables ---------------------------------------------------------------------------------------------

SUBJECT, SIBLING = "ses.0", "ses.1"


def with_subject(status: TaskStatus, *, waits: bool, retries_left: bool) -> Run:
    """A running session whose first task is in that status, beside one that an agent has."""
    run = run_of(
        {"taskId": "subject", "dependsOn": ["sibling"] if waits else [], "retry": {"maxRetries": int(retries_left)}},
        {"taskId": "sibling", "dependsOn": [], "retry": {"maxRetries": 0}},
    )
    run = dispatched(run, SIBLING)
    subject = attrs.evolve(run.tasks[0], status=status, attempt=1, due_at=NOW)
    return attrs.evolve(run, tasks=(subject, run.tasks[1]))


def cancelled_by_its_sibling(run: Run) -> Step:
    """The sibling's failure cancels what waits; what is out with an agent is cancelled when it comes back."""
    failing = failed(run, SIBLING).run
    return bounced(failing, SUBJECT) if failing.tasks[0].status in TASK_OPEN else Step(run=failing)


def released(run: Run) -> Step:
    return transitions.retry_due(transitions.complete(run, SIBLING, None, NOW).run, SUBJECT, NOW)


HAPPENINGS: dict[TaskEvent, Callable[[Run], Step]] = {
    TaskEvent.RELEASE: released,
    TaskEvent.DISPATCH: lambda run: transitions.dispatch(run, SUBJECT, "agent", NOW),
    TaskEvent.START: lambda run: transitions.start(run, SUBJECT, NOW),
    TaskEvent.COMPLETE: lambda run: transitions.complete(run, SUBJECT, None, NOW),
    TaskEvent.RETRY: lambda run: failed(run, SUBJECT),
    TaskEvent.FAIL: lambda run: failed(run, SUBJECT),
    TaskEvent.REQUEUE: lambda run: bounced(run, SUBJECT),
    TaskEvent.CANCEL: cancelled_by_its_sibling,
}
CHANGE_NOTHING = {TaskEvent.RELEASE, TaskEvent.CANCEL}
"""Events that the run raises by itself, and only where they apply."""


@pytest.mark.parametrize("event", TaskEvent)
@pytest.mark.parametrize("status", TaskStatus)
def test_a_task_moves_as_its_table_says_and_in_no_other_way(status: TaskStatus, event: TaskEvent) -> None:
    waits = status is TaskStatus.PENDING
    run = with_subject(status, waits=waits, retries_left=event is TaskEvent.RETRY)
    expected = TASK_TABLE.get((status, event))
    if expected is not None:
        assert HAPPENINGS[event](run).run.tasks[0].status is expected
    elif event in CHANGE_NOTHING or (status, event) == (TaskStatus.RUNNING, TaskEvent.START):
        assert HAPPENINGS[event](run).run.tasks[0] == run.tasks[0]
    else:
        with pytest.raises(ImpossibleTransition, match=f"{SUBJECT} is {status}"):
            HAPPENINGS[event](run)


def test_nothing_leads_out_of_an_end() -> None:
    assert not [row for row in TASK_TABLE if row[0] in TASK_ENDED]
    assert not [row for row in SESSION_TABLE if row[0] in SESSION_ENDED]


def moves(run: Run) -> Iterator[Run]:
    """Every run that one call can lead to."""
    rng = random.Random(0)
    yield attrs.evolve(run, session=transitions.quarantine(run.session))
    for task in run.tasks:
        if run.session.status is not SessionStatus.PAUSED:
            # Pause stops new dispatch: the session's actor makes no offer then.
            yield from attempted(partial(transitions.dispatch, run, task.task_id, "agent", NOW))
        yield from attempted(partial(transitions.start, run, task.task_id, NOW))
        yield from attempted(partial(transitions.complete, run, task.task_id, None, NOW))
        yield from attempted(partial(transitions.fail, run, task.task_id, ERROR, NOW, rng))
        yield from attempted(partial(transitions.bounce, run, task.task_id, LOST, NOW, rng, LIMITS))
        yield from attempted(partial(transitions.retry_due, run, task.task_id, NOW * 2))


def attempted(move: Callable[[], Step]) -> Iterator[Run]:
    try:
        yield move().run
    except ImpossibleTransition:
        return


def explored(start: Run) -> Iterator[tuple[Run, Run]]:
    """Every run that calls can reach from a first one, and the steps between them."""
    waiting, seen = [start], {shape(start)}
    while waiting:
        run = waiting.pop()
        for following in moves(run):
            yield run, following
            if shape(following) not in seen:
                seen.add(shape(following))
                waiting.append(following)


def shape(run: Run) -> Any:
    tasks = tuple((task.status, task.retries, task.bounces) for task in run.tasks)
    return run.session.status, run.failing, tasks


def small_runs() -> list[Run]:
    retry = {"retry": {"maxRetries": 1}}
    return [
        run_of(),
        run_of({"taskId": "a", **retry}, {"taskId": "b", **retry}),
        run_of({"taskId": "a", "dependsOn": [], **retry}, {"taskId": "b", "dependsOn": [], **retry}),
    ]


def test_every_row_of_the_tables_is_travelled_and_nothing_beside_them() -> None:
    steps = [step for run in small_runs() for step in explored(run)]
    task_moves = {
        (earlier.status, later.status)
        for before, after in steps
        for earlier, later in zip(before.tasks, after.tasks, strict=True)
        if earlier.status is not later.status
    }
    assert task_moves == {(status, target) for (status, _), target in TASK_TABLE.items()}
    session_moves = {
        (before.session.status, after.session.status)
        for before, after in steps
        if before.session.status is not after.session.status
    }
    rows = {(status, target) for (status, _), target in SESSION_TABLE.items()}
    # A failure settles in the same step when no attempt is out; a run without tasks is complete when it begins.
    at_once = {(status, SessionStatus.FAILED) for (status, event) in SESSION_TABLE if event is SessionEvent.FAIL}
    assert session_moves - rows == at_once - rows
    assert rows - session_moves == {(SessionStatus.STARTED, SessionStatus.COMPLETED)}
    assert run_of().session.status is SessionStatus.COMPLETED


def test_every_status_can_be_reached_but_the_ones_that_no_release_sets_yet() -> None:
    runs = [run for first in small_runs() for step in explored(first) for run in step] + small_runs()
    assert {task.status for run in runs for task in run.tasks} == set(TaskStatus) - {TaskStatus.SKIPPED}
    beyond = {SessionStatus.CANCELLING, SessionStatus.CANCELLED}
    assert {run.session.status for run in runs} == set(SessionStatus) - beyond


def test_a_run_that_has_ended_changes_no_more_whatever_is_said_to_it() -> None:
    ended = [(before, after) for first in small_runs() for before, after in explored(first) if before.ended]
    assert ended
    assert all(before == after for before, after in ended)


def test_nothing_of_a_failing_run_waits_any_more() -> None:
    waiting = {TaskStatus.PENDING, TaskStatus.READY, TaskStatus.PENDING_RETRY}
    failing = [run for first in small_runs() for _, run in explored(first) if run.failing]
    assert any(not run.ended for run in failing)
    assert not [run for run in failing if any(task.status in waiting for task in run.tasks)]


def test_a_run_ends_only_when_none_of_its_tasks_can_move() -> None:
    for first in small_runs():
        for _, run in explored(first):
            assert not run.ended or all(task.status in TASK_ENDED for task in run.tasks)


# --- the session's end --------------------------------------------------------------------------------------


def test_a_workflow_without_tasks_is_complete_at_once() -> None:
    step = begun()
    assert (step.run.session.status, step.run.session.result) == (SessionStatus.COMPLETED, {})
    assert step.effects == (Ended(session=step.run.session),)


def test_a_completed_run_answers_the_results_of_its_last_tasks() -> None:
    run = run_of({"taskId": "a"}, {"taskId": "b", "dependsOn": ["a"]}, {"taskId": "c", "dependsOn": ["a"]})
    for task_id in ("ses.0", "ses.2", "ses.1"):
        run = transitions.complete(dispatched(run, task_id), task_id, {"of": task_id}, NOW).run
    assert run.session.result == {"b": {"of": "ses.1"}, "c": {"of": "ses.2"}}


def three_abreast() -> Run:
    run = run_of(
        *({"taskId": key, "dependsOn": [], "retry": {"maxRetries": 0}} for key in "abc"),
        {"taskId": "d", "dependsOn": ["a"]},
    )
    return dispatched(dispatched(run, "ses.0"), "ses.1")


def test_the_first_failure_withdraws_what_waits_and_lets_open_attempts_end() -> None:
    step = failed(three_abreast(), "ses.0")
    assert statuses(step.run) == ["failed", "dispatched", "cancelled", "cancelled"]
    assert step.run.session.status is SessionStatus.FAILING
    assert [effect.task.task_id for effect in step.effects if isinstance(effect, Withdrawn)] == ["ses.2"]
    ended = transitions.complete(step.run, "ses.1", "late", NOW)
    assert (ended.run.tasks[1].result, ended.run.session.status) == ("late", SessionStatus.FAILED)
    assert ended.effects == (Ended(session=ended.run.session),)


def test_the_first_failure_names_the_sessions_error_also_when_others_follow() -> None:
    run = failed(failed(three_abreast(), "ses.0").run, "ses.1", FATAL).run
    assert run.session.error == Failure(message="task 'a' failed: it broke", code="broke")
    assert statuses(run)[:2] == ["failed", "failed"]


def test_a_failing_run_retries_nothing_and_queues_nothing_again() -> None:
    failing = failed(three_abreast(), "ses.0").run
    assert statuses(bounced(failing, "ses.1").run)[1] == "cancelled"
    assert bounced(failing, "ses.1").run.session.status is SessionStatus.FAILED


# --- quarantine ---------------------------------------------------------------------------------------------


def paused(run: Run) -> Run:
    return attrs.evolve(run, session=transitions.quarantine(run.session))


def test_a_quarantined_run_is_paused_and_says_why() -> None:
    run = paused(three_abreast())
    assert (run.session.status, run.session.reason) == (SessionStatus.PAUSED, "actor_crashed")


def test_open_attempts_of_a_paused_run_still_count() -> None:
    run = paused(dispatched(run_of({"taskId": "a"}), "ses.0"))
    assert transitions.complete(run, "ses.0", 1, NOW).run.session.status is SessionStatus.COMPLETED


def test_a_run_that_was_failing_when_it_was_paused_still_ends_failed() -> None:
    run = paused(failed(three_abreast(), "ses.0").run)
    assert run.session.status is SessionStatus.PAUSED
    ended = transitions.complete(run, "ses.1", None, NOW).run
    assert (ended.session.status, ended.session.error) == (SessionStatus.FAILED, run.session.error)


@pytest.mark.parametrize("status", sorted(SESSION_ENDED))
def test_a_run_that_has_ended_is_never_paused(status: SessionStatus) -> None:
    session = attrs.evolve(run_of().session, status=status)
    assert transitions.quarantine(session) == session
