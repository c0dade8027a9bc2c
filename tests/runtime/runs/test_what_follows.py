"""What follows from where a run stands, where several rules meet."""

import gc
import random
import time
from collections.abc import Callable
from typing import Any

import attrs

from opscore.runtime.models import Failure, SessionStatus, Signal, TaskStatus
from opscore.runtime.runs import reviving, transitions
from opscore.runtime.runs.run import Ready, Run, Step
from opscore.runtime.runs.tallies import tallied
from tests.runtime.small_runs import (
    ERROR,
    FATAL,
    NOW,
    bounced,
    completed,
    dispatched,
    failed,
    found,
    run_of,
    statuses,
)

NEVER = {"retry": {"maxRetries": 0}}


def due(run: Run, what: str, now: float) -> Step:
    return transitions.due(run, what, now, random.Random(0))


def timed(decide: Callable[[], Step]) -> tuple[Step, float]:
    """A step, and the processor time that it took.

    Garbage is not collected meanwhile: that looks at all that other tests of the process left, and more often, the more
    is made.
    """
    gc.collect()
    gc.disable()
    try:
        began = time.process_time()
        return decide(), time.process_time() - began
    finally:
        gc.enable()


def test_a_long_list_is_tried_again_in_a_time_that_grows_with_it_and_not_with_its_square() -> None:
    def took_s(count: int) -> float:
        run = run_of(each(*range(count), concurrency=count))
        items = tuple(attrs.evolve(item, status=TaskStatus.FAILED, error=ERROR) for item in run.items[0])
        task = attrs.evolve(run.tasks[0], status=TaskStatus.FAILED, error=ERROR, dead=True)
        session = attrs.evolve(run.session, status=SessionStatus.FAILED, error=ERROR, ended_at=NOW)
        over = attrs.evolve(run, session=session, tasks=(task,), items={0: items}, tallies={0: tallied(items)})
        step, took_s = timed(lambda: reviving.revive(over, NOW))
        assert items_of(step.run) == ["ready"] * count
        return took_s

    assert took_s(8_000) < 16 * max(took_s(1_000), took_s(1_000))


def test_items_that_read_the_results_of_another_list_take_a_time_that_grows_with_it_and_not_with_its_square() -> None:
    def took_s(count: int) -> float:
        first = each(*range(count), concurrency=count)
        second = {
            **each(*range(count), concurrency=count),
            "taskId": "second",
            "dependsOn": ["each"],
            "parameters": {"before": "${tasks.each.result[index]}"},
            "when": "size(tasks.each.result) > 0",
        }
        run = run_of(first, second)
        items = tuple(attrs.evolve(item, status=TaskStatus.COMPLETED, result=item.item) for item in run.items[0])
        out = attrs.evolve(items[-1], status=TaskStatus.DISPATCHED, attempt=1, agent_id="a")
        line = (*items[:-1], out)
        almost = attrs.evolve(run, items={0: line}, tallies={0: tallied(line)})
        step, took_s = timed(lambda: transitions.complete(almost, out, count - 1, NOW))
        assert items_of(step.run, 1) == ["ready"] * count
        return took_s

    assert took_s(8_000) < 16 * max(took_s(1_000), took_s(1_000))


def told(run: Run, name: str, payload: Any) -> Run:
    signal = Signal(session_id="ses", signal_id="s", number=0, name=name, payload=payload, received_at=NOW)
    return transitions.signal(run, signal, NOW).run


def items_of(run: Run, ordinal: int = 0) -> list[str]:
    return [item.status.value for item in run.items.get(ordinal, ())]


def each(*values: Any, **fields: Any) -> dict[str, Any]:
    return {"taskId": "each", "dependsOn": [], "forEach": list(values), **NEVER, **fields}


# --- lists --------------------------------------------------------------------------------------------------


def test_signals_for_a_list_are_for_its_items_and_not_for_the_list_itself() -> None:
    run = run_of({"taskId": "each", "type": "signal", "forEach": ["x", "y"]})
    run = told(run, "each", 1)
    assert (statuses(run), items_of(run)) == (["running"], ["completed", "running"])
    assert told(run, "each", 2).session.result == {"each": [1, 2]}


def test_a_list_fails_by_the_item_that_failed_first_also_when_one_before_it_fails_later() -> None:
    run = dispatched(dispatched(run_of(each("x", "y")), "ses.0.0"), "ses.0.1")
    run = failed(run, "ses.0.1", ERROR).run
    run = transitions.fail(run, found(run, "ses.0.0"), FATAL, NOW + 1, random.Random(0)).run
    assert run.session.error == Failure(message="task 'each' failed: item 1 failed: it broke", code="broke")


def beside_a_failure(*values: str) -> Run:
    """A list whose first two items are out, in a run that fails by another step."""
    tasks = (
        each(*values, concurrency=2, compensateTaskId="undo"),
        {"taskId": "other", "dependsOn": [], **NEVER},
        {"taskId": "undo", **NEVER},
    )
    run = run_of(*tasks)
    for task_id in ("ses.0.0", "ses.0.1", "ses.1"):
        run = dispatched(run, task_id)
    return failed(run, "ses.1").run


def test_a_list_whose_last_items_end_while_its_run_fails_counts_and_is_undone() -> None:
    run = beside_a_failure("x", "y")
    assert statuses(run) == ["running", "failed", "pending"]
    run = completed(completed(run, "ses.0.0").run, "ses.0.1").run
    assert statuses(run) == ["completed", "failed", "ready"]
    assert completed(dispatched(run, "ses.2"), "ses.2").run.session.status is SessionStatus.FAILED


def test_a_list_that_still_has_items_to_begin_when_its_run_fails_is_cancelled_once_none_is_out() -> None:
    run = beside_a_failure("x", "y", "z")
    run = completed(run, "ses.0.0").run
    assert statuses(run)[0] == "running"
    run = completed(run, "ses.0.1").run
    assert (statuses(run), items_of(run)) == (["cancelled", "failed", "skipped"], ["completed", "completed"])


# --- fallbacks ----------------------------------------------------------------------------------------------


def test_a_fallback_that_fails_as_it_begins_does_no_harm_either_where_the_step_may_fail() -> None:
    run = run_of(
        {"taskId": "a", "fallbackTaskId": "f", "continueOnFailure": True, **NEVER},
        {"taskId": "b"},
        {"taskId": "f", "parameters": {"x": "${input.gone}"}},
    )
    run = failed(dispatched(run, "ses.0"), "ses.0").run
    assert (statuses(run), run.session.error) == (["failed", "ready", "failed"], None)


def dead_of(run: Run) -> list[str]:
    return [task.task_id for task in run.every() if task.dead]


def served_while_it_fails() -> Run:
    """A run that fails by another step while the fallback of its first one is out."""
    first = {"taskId": "first", "dependsOn": [], "fallbackTaskId": "instead", **NEVER}
    other = {"taskId": "other", "dependsOn": [], **NEVER}
    run = dispatched(dispatched(run_of(first, other, {"taskId": "instead", **NEVER}), "ses.0"), "ses.1")
    return failed(dispatched(failed(run, "ses.0").run, "ses.2"), "ses.1").run


def test_a_step_whose_fallback_is_done_while_its_run_fails_is_no_dead_letter() -> None:
    run = served_while_it_fails()
    assert dead_of(run) == ["ses.1"], "nobody knows yet whether the first one does any harm"
    run = completed(run, "ses.2").run
    assert (run.session.status, dead_of(run)) == (SessionStatus.FAILED, ["ses.1"])
    again = reviving.revive(run, NOW).run
    assert completed(dispatched(again, "ses.1"), "ses.1").run.session.status is SessionStatus.COMPLETED


def test_a_step_whose_fallback_fails_while_its_run_does_is_a_dead_letter_with_it() -> None:
    assert dead_of(failed(served_while_it_fails(), "ses.2").run) == ["ses.0", "ses.1", "ses.2"]


def test_an_item_without_which_its_list_goes_on_is_no_dead_letter_of_what_fails_beside_it() -> None:
    lenient = each("x", fallbackTaskId="instead", continueOnFailure=True)
    run = run_of(lenient, {"taskId": "other", "dependsOn": [], **NEVER}, {"taskId": "instead"})
    run = failed(dispatched(dispatched(run, "ses.0.0"), "ses.1"), "ses.0.0").run
    run = failed(run, "ses.1").run
    assert (statuses(run)[:2], dead_of(run)) == (["completed", "failed"], ["ses.1"])


# --- time ---------------------------------------------------------------------------------------------------


def test_a_run_whose_time_is_over_while_it_fails_has_what_is_out_taken_back() -> None:
    run = run_of(*({"taskId": key, "dependsOn": [], **NEVER} for key in "ab"), sessionTimeoutSeconds=60)
    failing = failed(dispatched(dispatched(run, "ses.0"), "ses.1"), "ses.0").run
    step = due(failing, "ses", NOW + 60)
    assert [task.task_id for task in step.revoked] == ["ses.1"]
    assert (statuses(step.run), step.run.session.status) == (["failed", "cancelled"], SessionStatus.FAILED)
    assert step.run.session.error == failing.session.error, "the first failure names it"


def test_a_run_that_is_tried_again_has_its_whole_time_anew_and_says_so_when_that_is_over() -> None:
    run = failed(dispatched(run_of({"taskId": "a", **NEVER}, sessionTimeoutSeconds=60), "ses.0"), "ses.0").run
    again = reviving.revive(run, NOW + 1_000).run
    assert again.session.due_at == NOW + 1_060
    error = due(again, "ses", NOW + 1_060).run.session.error
    assert error == Failure(message="it took longer than 60 s", code="session_timeout")


def test_a_delay_that_was_over_before_it_had_to_close_is_complete_however_late_that_is_seen() -> None:
    run = run_of({"taskId": "a", "type": "delay", "parameters": {"seconds": 5}, "scheduleToCloseSeconds": 7})
    assert statuses(due(run, "ses.0", NOW + 100).run) == ["completed"]
    run = run_of({"taskId": "a", "type": "delay", "parameters": {"seconds": 9}, "scheduleToCloseSeconds": 7})
    assert statuses(due(run, "ses.0", NOW + 100).run) == ["failed"]


def test_a_clock_that_is_set_back_has_no_step_undone_before_one_that_came_after_it() -> None:
    run = run_of(
        {"taskId": "a", "compensateTaskId": "not_a"},
        {"taskId": "b", "compensateTaskId": "not_b"},
        {"taskId": "c", **NEVER},
        {"taskId": "not_a"},
        {"taskId": "not_b"},
    )
    run = completed(dispatched(run, "ses.0"), "ses.0", now=NOW).run
    run = completed(dispatched(run, "ses.1"), "ses.1", now=NOW - 50).run
    assert statuses(failed(dispatched(run, "ses.2"), "ses.2").run)[3:] == ["pending", "ready"]


# --- order --------------------------------------------------------------------------------------------------


def test_of_two_that_begin_at_once_the_one_that_is_listed_first_takes_the_signal() -> None:
    waits: dict[str, Any] = {"type": "signal", "parameters": {"name": "go"}}
    run = run_of(
        {"taskId": "first"},
        {"taskId": "also"},
        {"taskId": "x", "dependsOn": ["first", "also"], **waits},
        {"taskId": "y", "dependsOn": ["first"], **waits},
    )
    run = completed(dispatched(told(run, "go", 1), "ses.1"), "ses.1").run
    run = completed(dispatched(run, "ses.0"), "ses.0").run
    assert statuses(run)[2:] == ["completed", "running"]


def test_what_comes_back_to_a_paused_run_gets_in_line_when_that_is_resumed() -> None:
    paused = transitions.pause(dispatched(run_of({"taskId": "a"}), "ses.0"), None, NOW).run
    step = bounced(paused, "ses.0")
    assert (statuses(step.run), step.effects) == (["ready"], ())
    resumed = transitions.resume(step.run, NOW)
    assert resumed.effects == (Ready(task=resumed.run.tasks[0]),)
