"""What failures and losses of attempts cost: retries, their delays, and the bound on losses in a row."""

import random

from opscore.runtime.models import Failure, SessionStatus, TaskStatus
from opscore.runtime.runs import transitions
from opscore.runtime.runs.run import DueAt, Ready, Run, Step
from tests.runtime.small_runs import ERROR, FATAL, LIMITS, NOW, bounced, dispatched, failed, run_of, statuses


def due(run: Run, what: str, now: float) -> Step:
    return transitions.due(run, what, now, random.Random(0))


def failures_until_the_end(run: Run, error: Failure = ERROR) -> tuple[Run, list[float]]:
    """Fail a run's only task again and again; answers how long each retry was put off."""
    delays: list[float] = []
    for _ in range(100):
        step = failed(dispatched(run, "ses.0"), "ses.0", error)
        if step.run.ended:
            return step.run, delays
        (retry,) = step.effects
        assert isinstance(retry, DueAt)
        assert retry.due_at is not None
        delays.append(retry.due_at - NOW)
        run = due(step.run, "ses.0", retry.due_at).run
    raise AssertionError("it never ended")


def test_three_retries_are_made_when_nothing_is_said() -> None:
    run, delays = failures_until_the_end(run_of({"taskId": "a"}))
    assert len(delays) == 3
    assert (run.tasks[0].attempt, run.tasks[0].retries) == (4, 4)
    assert run.session.status is SessionStatus.FAILED
    assert run.session.error == Failure(message="task 'a' failed: it broke", code="broke")


def test_a_task_without_retries_fails_the_session_with_its_first_failure() -> None:
    run, delays = failures_until_the_end(run_of({"taskId": "a", "retry": {"maxRetries": 0}}))
    assert (delays, run.tasks[0].attempt) == ([], 1)


def test_a_code_that_is_not_retryable_fails_at_once() -> None:
    run, delays = failures_until_the_end(run_of({"taskId": "a", "retry": {"nonRetryable": ["fatal"]}}), FATAL)
    assert (delays, run.session.status, run.tasks[0].error) == ([], SessionStatus.FAILED, FATAL)


def test_another_code_than_the_ones_that_are_not_retryable_is_retried() -> None:
    _, delays = failures_until_the_end(run_of({"taskId": "a", "retry": {"nonRetryable": ["fatal"]}}), ERROR)
    assert len(delays) == 3


def test_an_agent_can_say_that_trying_again_is_no_use() -> None:
    step = failed(dispatched(run_of({"taskId": "a"}), "ses.0"), "ses.0", retryable=False)
    assert statuses(step.run) == ["failed"]


def test_without_jitter_the_delay_doubles_up_to_its_maximum() -> None:
    retry = {"maxRetries": 5, "initialDelaySeconds": 2, "backoffCoefficient": 3, "maxDelaySeconds": 20, "jitter": False}
    _, delays = failures_until_the_end(run_of({"taskId": "a", "retry": retry}))
    assert delays == [2.0, 6.0, 18.0, 20.0, 20.0]


def test_jitter_draws_each_delay_from_the_whole_of_its_ceiling() -> None:
    run = dispatched(run_of({"taskId": "a", "retry": {"initialDelaySeconds": 8}}), "ses.0")
    delays = []
    for seed in range(200):
        (retry,) = failed(run, "ses.0", seed=seed).effects
        assert isinstance(retry, DueAt)
        assert retry.due_at is not None
        delays.append(retry.due_at - NOW)
    assert all(0.0 < delay <= 8.0 for delay in delays)
    assert min(delays) < 0.8
    assert max(delays) > 7.2
    assert 3.0 < sum(delays) / len(delays) < 5.0


def test_the_time_of_a_retry_is_in_the_row_as_it_is_in_the_effect() -> None:
    step = failed(dispatched(run_of({"taskId": "a"}), "ses.0"), "ses.0")
    assert step.effects == (DueAt(what="ses.0", due_at=step.run.tasks[0].due_at or 0.0),)


def test_a_retry_that_is_called_too_early_or_for_no_such_task_changes_nothing() -> None:
    run = failed(dispatched(run_of({"taskId": "a", "retry": {"jitter": False}}), "ses.0"), "ses.0").run
    assert due(run, "ses.0", NOW + 0.99) == Step(run=run)
    for nobody in ("ses.7", "ses.0.3", "other.0", "ses.x"):
        assert due(run, nobody, NOW + 1.0) == Step(run=run)
    assert statuses(due(run, "ses.0", NOW + 1.0).run) == ["ready"]


# --- losses -------------------------------------------------------------------------------------------------


def test_a_lost_attempt_goes_back_to_the_queue_and_spends_no_retry() -> None:
    step = bounced(dispatched(run_of({"taskId": "a", "retry": {"maxRetries": 0}}), "ses.0"), "ses.0")
    task = step.run.tasks[0]
    assert (task.status, task.attempt, task.retries) == (TaskStatus.READY, 1, 0)
    assert step.effects == (Ready(task=task),)


def test_as_many_losses_in_a_row_as_dispatch_attempts_max_spend_a_retry() -> None:
    run = run_of({"taskId": "a"})
    for _ in range(LIMITS.dispatch_attempts_max):
        run = bounced(dispatched(run, "ses.0"), "ses.0").run
    assert (statuses(run), run.tasks[0].retries, run.tasks[0].bounces) == (["pending_retry"], 1, 0)


def test_a_failure_between_losses_begins_their_count_anew() -> None:
    run = run_of({"taskId": "a"})
    for _ in range(LIMITS.dispatch_attempts_max - 1):
        run = bounced(dispatched(run, "ses.0"), "ses.0").run
    run = failed(dispatched(run, "ses.0"), "ses.0").run
    run = due(run, "ses.0", NOW + 1_000).run
    assert statuses(bounced(dispatched(run, "ses.0"), "ses.0").run) == ["ready"]
