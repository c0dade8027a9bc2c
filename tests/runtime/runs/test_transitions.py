"""How a run moves: the two tables, explored to their ends, and how a session ends."""

import random
from collections.abc import Iterator
from typing import Any

import attrs
import pytest

from opscore.runtime.errors import SessionConflict
from opscore.runtime.models import (
    SESSION_ENDED,
    TASK_ENDED,
    TASK_WAITS,
    Failure,
    Move,
    Session,
    SessionStatus,
    Signal,
    Task,
    TaskStatus,
)
from opscore.runtime.runs import quarantine, steering, transitions
from opscore.runtime.runs.lifecycle import SESSION_TABLE, TASK_TABLE, ImpossibleTransition, SessionEvent, TaskEvent
from opscore.runtime.runs.run import DueAt, Ended, Ready, Run, RunAwaited, Step, Withdrawn
from tests.runtime.small_runs import (
    ERROR,
    FATAL,
    LIMITS,
    LOST,
    NOW,
    begun,
    bounced,
    completed,
    dispatched,
    failed,
    run_of,
    statuses,
)

# --- the tables ---------------------------------------------------------------------------------------------

LATER = NOW * 2
SIGNAL = Signal(session_id="ses", signal_id="s", number=0, name="a", received_at=NOW)
CHILD = Session(session_id="ses-0-1", workflow_id="x", definition_key="d", created_at=NOW)


def due(run: Run, what: str, now: float = LATER, child: Session | None = None) -> Step:
    return transitions.due(run, what, now, random.Random(0), child)


def moves(run: Run) -> Iterator[Run]:
    """Every run that one call can lead to."""
    yield attrs.evolve(run, session=quarantine.paused(run.session))
    for move in Move:
        try:
            step = steering.steered(run, move, None, NOW)
        except SessionConflict:
            continue
        if step is not None:
            yield step.run
    yield due(run, run.session.session_id).run
    for task in run.every():
        yield from moves_of(run, task)


def moves_of(run: Run, task: Task) -> Iterator[Run]:
    """What an actor can make of one task; it asks for nothing that it knows to be impossible."""
    rng = random.Random(0)
    yield due(run, task.task_id).run
    if task.key in run.definition.signals and not run.ended and not run.signals:
        yield transitions.signal(run, SIGNAL, NOW).run
    if task.awaits:
        yield transitions.fail(run, task, ERROR, NOW, rng, retryable=False).run
        ends = (SessionStatus.COMPLETED, SessionStatus.FAILED, SessionStatus.CANCELLED)
        for status in ends if task.child_session_id else ():
            yield due(run, task.task_id, NOW, child=attrs.evolve(CHILD, status=status)).run
    if task.status is TaskStatus.READY and run.session.status is not SessionStatus.PAUSED:
        yield transitions.dispatch(run, task, "agent", NOW).run
    if task.is_out:
        yield transitions.start(run, task, NOW).run
        yield transitions.complete(run, task, None, NOW).run
        yield transitions.fail(run, task, ERROR, NOW, rng).run
        yield transitions.bounce(run, task, LOST, NOW, rng, LIMITS).run


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
    tasks = tuple((task.status, task.retries, task.bounces, task.dead, task.agent_id) for task in run.every())
    return run.session.status, run.session.error, run.session.cancelled_at, run.signals, tasks


def small_runs() -> dict[str, Run]:
    once, never = {"retry": {"maxRetries": 1}}, {"retry": {"maxRetries": 0}}
    return {
        "nothing to do": run_of(),
        "a chain": run_of({"taskId": "a", **once}, {"taskId": "b", **never}),
        "side by side": run_of({"taskId": "a", "dependsOn": [], **once}, {"taskId": "b", "dependsOn": [], **never}),
        "a fallback": run_of(
            {"taskId": "a", "fallbackTaskId": "f", **never}, {"taskId": "b", **never}, {"taskId": "f", **never}
        ),
        "a failure that does no harm": run_of(
            {"taskId": "a", "continueOnFailure": True, **never}, {"taskId": "b", **never}
        ),
        "a saga": run_of(
            {"taskId": "a", "compensateTaskId": "c", **never},
            {"taskId": "b", **never},
            {"taskId": "c", **never},
            {"taskId": "n", **never},
            onFailure="n",
        ),
        "what no agent does": run_of(
            {"taskId": "b", "type": "delay", "dependsOn": [], "parameters": {"seconds": 5}},
            {"taskId": "a", "type": "signal", "dependsOn": ["b"], "timeoutSeconds": 5},
            {"taskId": "c", "type": "delay", "dependsOn": ["b"], "parameters": {"seconds": 0}},
        ),
        "a saga that no agent begins": run_of(
            {"taskId": "a", "type": "signal", "compensateTaskId": "c"},
            {"taskId": "b", "type": "signal", "timeoutSeconds": 5},
            {"taskId": "c", **never},
        ),
        "another run": run_of({"taskId": "a", "type": "workflow", "parameters": {"workflowId": "x"}, **once}),
        "an expression without a value": run_of(
            {"taskId": "b", "type": "delay", "parameters": {"seconds": 5}},
            {"taskId": "a", "when": "input.x", "fallbackTaskId": "f", **never},
            {"taskId": "f", **never},
        ),
        "times": run_of(
            {"taskId": "a", "scheduleToStartSeconds": 5, "scheduleToCloseSeconds": 50, **once}, sessionTimeoutSeconds=60
        ),
    }  # fmt: skip


@pytest.fixture(scope="module")
def steps() -> list[tuple[Run, Run]]:
    return [step for run in small_runs().values() for step in explored(run)]


def test_every_row_of_the_tables_is_travelled_and_nothing_beside_them(steps: list[tuple[Run, Run]]) -> None:
    task_moves = {
        (earlier.status, later.status)
        for before, after in steps
        for earlier, later in zip(before.tasks, after.tasks, strict=True)
        if earlier.status is not later.status
    }
    assert_travelled(task_moves, {(status, target) for (status, _), target in TASK_TABLE.items()})
    session_moves = {
        (before.session.status, after.session.status)
        for before, after in steps
        if before.session.status is not after.session.status
    }
    assert_travelled(session_moves, {(status, target) for (status, _), target in SESSION_TABLE.items()})


def assert_travelled(moved: set[tuple[Any, Any]], rows: set[tuple[Any, Any]]) -> None:
    """Every move is a row of the table, or some rows one after the other in one step; and each row is seen alone."""
    reached, further = set(rows), set(rows)
    while further:
        further = {(start, end) for start, middle in reached for again, end in rows if again == middle} - reached
        reached |= further
    assert moved <= reached
    assert rows - moved == set()


def test_a_pair_that_is_not_in_the_table_is_a_bug_and_says_so() -> None:
    run = run_of({"taskId": "a"})
    with pytest.raises(ImpossibleTransition, match=r"task ses.0 is ready and can't complete"):
        transitions.complete(run, run.tasks[0], None, NOW)
    with pytest.raises(ImpossibleTransition, match=r"session ses is started and can't resume"):
        transitions.resume(run, NOW)


def test_nothing_but_another_try_leads_out_of_an_end() -> None:
    assert {event for status, event in TASK_TABLE if status in TASK_ENDED} == {TaskEvent.REVIVE}
    out = {(status, event) for status, event in SESSION_TABLE if status in SESSION_ENDED}
    assert out == {(SessionStatus.FAILED, SessionEvent.REVIVE)}


def test_every_status_can_be_reached(steps: list[tuple[Run, Run]]) -> None:
    runs = [run for step in steps for run in step]
    assert {task.status for run in runs for task in run.tasks} == set(TaskStatus)
    assert {run.session.status for run in runs} == set(SessionStatus)


def test_a_run_that_has_ended_changes_no_more_unless_it_is_tried_again(steps: list[tuple[Run, Run]]) -> None:
    ended = [(before, after) for before, after in steps if before.ended]
    assert ended
    assert all(before == after or before.session.status is SessionStatus.FAILED for before, after in ended)
    revived = {after.session.status for before, after in ended if before != after}
    assert revived <= {SessionStatus.RUNNING, SessionStatus.FAILING, SessionStatus.FAILED, SessionStatus.COMPLETED}


def test_nothing_of_a_failing_run_waits_any_more_but_what_undoes_it(steps: list[tuple[Run, Run]]) -> None:
    unwinding = [run for _, run in steps if run.session.unwinding and run.session.status is not SessionStatus.PAUSED]
    assert any(not run.ended for run in unwinding)
    left = [(run, task) for run in unwinding for task in run.tasks if task.status in TASK_WAITS and task.key in "ab"]
    assert not left


def test_a_run_ends_only_when_none_of_its_tasks_can_move(steps: list[tuple[Run, Run]]) -> None:
    assert not [run for _, run in steps if run.ended and any(task.status not in TASK_ENDED for task in run.tasks)]


def test_whatever_stands_still_waits_for_somebody(steps: list[tuple[Run, Run]]) -> None:
    """No run is forgotten: it has ended, is paused, or something of it is out, in line or due."""
    for _, run in steps:
        alive = run.ended or run.session.status is SessionStatus.PAUSED
        assert alive or any(
            task.is_out or task.status is TaskStatus.READY or task.due_at or task.awaits for task in run.tasks
        )


def test_only_what_is_out_is_taken_from_an_agent() -> None:
    for run in small_runs().values():
        for before, _ in explored(run):
            if not before.ended:
                step = (
                    transitions.cancel(before, None, NOW) if before.session.cancelled_at is None else Step(run=before)
                )
                assert all(task.is_out for task in step.revoked)
                assert not any(task.is_out and task.key in "abf" for task in step.run.tasks)


def test_terminating_ends_a_run_from_wherever_it_stands_and_begins_nothing() -> None:
    for run in small_runs().values():
        for before, _ in explored(run):
            if not before.ended:
                step = transitions.terminate(before, "enough", NOW)
                assert step.run.session.status is SessionStatus.CANCELLED
                assert all(task.status in TASK_ENDED for task in step.run.tasks)
                assert {task.task_id for task in step.revoked} == {task.task_id for task in before.tasks if task.is_out}
                assert not [effect for effect in step.effects if isinstance(effect, Ready | RunAwaited)]
                assert {effect.due_at for effect in step.effects if isinstance(effect, DueAt)} <= {None}


# --- the session's end --------------------------------------------------------------------------------------


def test_a_workflow_without_tasks_is_complete_at_once() -> None:
    step = begun()
    assert (step.run.session.status, step.run.session.result) == (SessionStatus.COMPLETED, {})
    assert step.effects == (Ended(session=step.run.session),)


def test_a_completed_run_answers_the_results_of_its_last_tasks() -> None:
    run = run_of({"taskId": "a"}, {"taskId": "b", "dependsOn": ["a"]}, {"taskId": "c", "dependsOn": ["a"]})
    for task_id in ("ses.0", "ses.2", "ses.1"):
        run = completed(dispatched(run, task_id), task_id, {"of": task_id}).run
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
    ended = completed(step.run, "ses.1", "late")
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
    return attrs.evolve(run, session=quarantine.paused(run.session))


def test_a_quarantined_run_is_paused_and_says_why() -> None:
    run = paused(three_abreast())
    assert (run.session.status, run.session.reason) == (SessionStatus.PAUSED, "actor_crashed")


def test_open_attempts_of_a_paused_run_still_count_and_what_follows_waits_until_it_goes_on() -> None:
    run = paused(dispatched(run_of({"taskId": "a"}, {"taskId": "b"}), "ses.0"))
    ended = completed(run, "ses.0", 1).run
    assert (ended.session.status, statuses(ended)) == (SessionStatus.PAUSED, ["completed", "pending"])
    going = transitions.resume(ended, NOW)
    assert (going.run.session.status, going.run.session.reason) == (SessionStatus.RUNNING, None)
    assert statuses(going.run) == ["completed", "ready"]


def test_a_run_that_was_failing_when_it_was_paused_still_ends_failed() -> None:
    run = paused(failed(three_abreast(), "ses.0").run)
    assert run.session.status is SessionStatus.PAUSED
    ended = transitions.resume(completed(run, "ses.1").run, NOW).run
    assert (ended.session.status, ended.session.error) == (SessionStatus.FAILED, run.session.error)


@pytest.mark.parametrize("status", sorted(SESSION_ENDED))
def test_a_run_that_has_ended_is_never_paused(status: SessionStatus) -> None:
    session = attrs.evolve(run_of().session, status=status)
    assert quarantine.paused(session) == session
