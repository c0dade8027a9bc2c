"""The transitions of a run: pure functions from a run and an event to the next run and its effects.

Nothing here waits, reads a clock or writes: time and randomness are arguments, and what has to happen is returned as
effects. A function changes what its event is about; the consequences are decided in one place, `progress`.
"""

import random
from typing import Any

from opscore.runtime.definitions.definition import AT_THE_END, Definition, TaskDefinition, TaskKind
from opscore.runtime.delivery import TIMEOUT
from opscore.runtime.evolving import evolve
from opscore.runtime.identity import numbered
from opscore.runtime.limits import Limits
from opscore.runtime.models import SESSION_ENDED, TASK_ENDED, Failure, Session, SessionStatus, Signal, Task, TaskStatus
from opscore.runtime.runs import items, progress, releasing
from opscore.runtime.runs.lifecycle import SessionEvent, TaskEvent
from opscore.runtime.runs.run import Draft, Run, Step
from opscore.runtime.values import RESULT_TOO_LARGE

TOO_MANY_RUNS = "too_many_runs"
"""The code of a task that would have exceeded `runs_below_max`, and of every parent run that fails because of it."""
CRASHED = "actor_crashed"
"""The reason of a run that was paused because its actor crashed too often."""


def begin(session: Session, definition: Definition, now: float) -> Step:
    """Start a run: its first tasks become ready; a run without tasks is completed at once."""
    if definition.session_timeout_s is not None:
        session = evolve(session, due_at=now + definition.session_timeout_s)
    tasks = tuple(
        Task(
            task_id=numbered(session.session_id, task.ordinal, len(definition.tasks)),
            session_id=session.session_id,
            key=task.key,
            ordinal=task.ordinal,
        )
        for task in definition.tasks
    )
    draft = Draft(Run(session=session, tasks=tasks, definition=definition), now)
    progress.follow(draft)
    return draft.step(begins=True)


# --- attempts -----------------------------------------------------------------------------------------------


def may_begin(run: Run, task: Task, now: float) -> bool:
    """Whether a task may be given to an agent: it waits for one, and neither its time nor its run's is over."""
    if task.status is not TaskStatus.READY or run.session.status is SessionStatus.PAUSED:
        return False
    # Compensations and `onFailure` may run after the run's own time is over.
    runs_until = None if run.task_definition(task).role in AT_THE_END else run.session.due_at
    over_at = releasing.earliest(task.due_at, runs_until)
    return over_at is None or now < over_at


def dispatch(run: Run, task: Task, agent_id: str, now: float) -> Step:
    """Give a ready task to an agent, as a new attempt."""
    draft = Draft(run, now)
    draft.move(
        task,
        TaskEvent.DISPATCH,
        attempt=task.attempt + 1,
        agent_id=agent_id,
        dispatched_at=now,
        started_at=None,
        due_at=None,
    )
    if run.session.status is SessionStatus.STARTED:
        draft.move_session(SessionEvent.DISPATCH)
    return draft.step()


def start(run: Run, task: Task, now: float) -> Step:
    """Note the agent's first sign of life; a task that is running already stays as it is."""
    draft = Draft(run, now)
    if task.status is not TaskStatus.RUNNING:
        draft.move(task, TaskEvent.START, started_at=now)
    return draft.step()


def complete(run: Run, task: Task, result: Any, now: float) -> Step:
    """End the current attempt with a result, and release the tasks that waited for it."""
    draft = Draft(run, now)
    draft.end(task, TaskEvent.COMPLETE, result=result, bounces=0, error=None)
    progress.follow(draft)
    return draft.step()


def fail(run: Run, task: Task, error: Failure, now: float, rng: random.Random, *, retryable: bool = True) -> Step:
    """End the current attempt as failed: the task is retried after a backoff, or fails with all that follows."""
    draft = Draft(run, now)
    _fail(draft, task, error, rng, retryable=retryable)
    progress.follow(draft)
    return draft.step()


def _fail(draft: Draft, task: Task, error: Failure, rng: random.Random, *, retryable: bool = True) -> None:
    definition = draft.of(task)
    policy = definition.retry
    if error.code == TIMEOUT and _closed_first(draft, task):
        error = _not_closed(draft, task)
    failures = task.retries + 1
    spent = failures > policy.max_retries or not retryable or _closed(draft, task) or error.code in policy.non_retryable
    if spent or _called_off(draft, task):
        draft.end(task, TaskEvent.FAIL, retries=failures, error=error)
        return
    due_at = releasing.earliest(draft.now + policy.backoff().delay_s(failures, rng), task.closes_at)
    draft.move(task, TaskEvent.RETRY, retries=failures, error=error, due_at=due_at, bounces=0)


def bounce(
    run: Run, task: Task, error: Failure, now: float, rng: random.Random, limits: Limits, *, counts: bool = True
) -> Step:
    """End the current attempt as lost or undelivered; of `dispatch_attempts_max` in a row, the last spends a retry."""
    bounces = task.bounces + counts
    if counts and bounces >= limits.dispatch_attempts_max:
        return fail(run, task, error, now, rng)
    draft = Draft(run, now)
    if _called_off(draft, task):
        draft.end(task, TaskEvent.CANCEL, error=error)
    else:
        _requeue(draft, task, error, bounces=bounces)
    progress.follow(draft)
    return draft.step()


def _requeue(draft: Draft, task: Task, error: Failure | None, **changes: Any) -> None:
    """Put a task back in line: `scheduleToStartSeconds` begin anew, `scheduleToCloseSeconds` do not."""
    due_at = releasing.earliest(releasing.start_by(draft.of(task), draft.now), task.closes_at)
    draft.move(task, TaskEvent.REQUEUE, error=error, due_at=due_at, **releasing.in_line(draft, task), **changes)


def _called_off(draft: Draft, task: Task) -> bool:
    """Whether a task gets no further attempt, because its list has failed, or its run has failed or was cancelled."""
    unwanted = draft.session.unwinding and draft.of(task).role not in AT_THE_END
    return unwanted or items.are_called_off(draft, task)


# --- time ---------------------------------------------------------------------------------------------------


def due(run: Run, what: str, now: float, rng: random.Random, child: Session | None = None) -> Step:
    """Act on a time that may have come; if it has not, or no longer matters, nothing changes.

    Args:
        run: the run.
        what: the id of the task whose time it is, or that of the session.
        now: the time.
        rng: for the backoff of a retry.
        child: the child run that the task waits for, as it is now.
    """
    draft = Draft(run, now)
    if run.session.status is not SessionStatus.PAUSED:
        if what == run.session.session_id:
            _session_due(draft)
        else:
            task = run.find(what)
            if task is not None and task.awaits:
                _await_over(draft, task, rng, child)
            elif task is not None and task.due_at is not None and task.due_at <= now:
                _wait_over(draft, task)
        progress.follow(draft)
    return draft.step()


def _session_due(draft: Draft) -> None:
    due_at = draft.session.due_at
    if due_at is None or due_at > draft.now:
        return
    if not draft.session.unwinding:
        took = f"it took longer than {draft.definition.session_timeout_s:g} s"
        progress.fail_session(draft, Failure(message=took, code="session_timeout"))
    _call_back(draft)


def _await_over(draft: Draft, task: Task, rng: random.Random, child: Session | None) -> None:
    """End the wait for a signal, a delay or a child run, if it is over."""
    definition = draft.of(task)
    over = task.due_at is not None and task.due_at <= draft.now
    if child is not None and child.status is SessionStatus.COMPLETED:
        draft.end(task, TaskEvent.COMPLETE, result=child.result, error=None)
    elif child is not None and child.status in SESSION_ENDED:
        error = child.error or Failure(message="the run was cancelled", code="cancelled")
        again = child.status is SessionStatus.FAILED and error.code not in (TOO_MANY_RUNS, RESULT_TOO_LARGE)
        _fail(draft, task, error, rng, retryable=again)
    elif over and task.due_at == task.closes_at:
        # Of two times that have passed, the earlier one decides, however late this is called.
        draft.end(task, TaskEvent.FAIL, error=_not_closed(draft, task))
    elif over and definition.kind is TaskKind.DELAY:
        draft.end(task, TaskEvent.COMPLETE)
    elif over and definition.kind is TaskKind.SIGNAL:
        waited = f"the signal {definition.signal!r} did not come within {definition.timeout_s:g} s"
        draft.end(task, TaskEvent.FAIL, error=Failure(message=waited, code=TIMEOUT))
    elif over:
        _fail(draft, task, Failure(message=f"its run took longer than {definition.timeout_s:g} s", code=TIMEOUT), rng)


def _closed(draft: Draft, task: Task) -> bool:
    return task.closes_at is not None and task.closes_at <= draft.now


def _closed_first(draft: Draft, task: Task) -> bool:
    """Whether an attempt that timed out was ended by `scheduleToCloseSeconds` and not by its own timeout."""
    if not _closed(draft, task) or task.closes_at is None or task.dispatched_at is None:
        return False
    timeout_s = draft.of(task).timeout_s
    return timeout_s is None or task.closes_at <= task.dispatched_at + timeout_s


def _not_closed(draft: Draft, task: Task) -> Failure:
    last = f"; its last failure: {task.error.message}" if task.error is not None else ""
    allowed_s = draft.of(task).schedule_to_close_s
    return Failure(message=f"it did not end within {allowed_s:g} s{last}", code="schedule_to_close")


def _wait_over(draft: Draft, task: Task) -> None:
    """End a task's wait for its next attempt: by that attempt, or because it waited for too long."""
    definition = draft.of(task)
    if task.status not in (TaskStatus.READY, TaskStatus.PENDING_RETRY):
        return
    if _closed(draft, task):
        draft.end(task, TaskEvent.FAIL, error=_not_closed(draft, task))
    elif task.status is TaskStatus.PENDING_RETRY:
        releasing.release(draft, task)
    else:
        error = Failure(
            message=f"{_not_taken(definition)} it within {definition.schedule_to_start_s:g} s{_limited(task)}",
            code="schedule_to_start",
        )
        draft.end(task, TaskEvent.FAIL, error=error)


def _limited(task: Task) -> str:
    """Name what the task may have waited for besides an agent, as far as its run knows."""
    key = task.concurrency_key
    return "" if key is None else f"; its concurrencyKey {key!r} allows one open attempt at a time"


def _not_taken(definition: TaskDefinition) -> str:
    if definition.capability is not None:
        return f"no agent with the capability {definition.capability!r} took"
    who = "the session's agent" if definition.agent_id is None else f"agent {definition.agent_id!r}"
    return f"{who} did not take"


# --- signals ------------------------------------------------------------------------------------------------


def signal(run: Run, signal: Signal, now: float) -> Step:
    """Give a run a signal: it completes the first task that waits for it, or is kept until one does."""
    draft = Draft(run, now)
    draft.add_signal(signal)
    waiting = (task for task in run.every() if task.awaits and _is_for(run, task, signal))
    task = min(waiting, key=lambda task: task.started_at or 0.0, default=None)
    if task is not None:
        draft.take_signal(signal.name, task)
        draft.end(task, TaskEvent.COMPLETE, result=signal.payload)
        progress.follow(draft)
    return draft.step()


def _is_for(run: Run, task: Task, signal: Signal) -> bool:
    definition = run.task_definition(task)
    # A `forEach` task waits for its items; it is the items that wait for signals.
    return task.items is None and definition.kind is TaskKind.SIGNAL and definition.signal == signal.name


# --- steering -----------------------------------------------------------------------------------------------


def cancel(run: Run, reason: str | None, now: float) -> Step:
    """Cancel the run: its open attempts are taken from their agents, then the completed steps are undone."""
    draft = Draft(run, now)
    _cancel(draft, reason)
    progress.follow(draft)
    return draft.step()


def terminate(run: Run, reason: str | None, now: float) -> Step:
    """End the run at once: open attempts are taken from their agents, and what was not undone yet stays as it is."""
    draft = Draft(run, now)
    if draft.session.cancelled_at is None:
        _cancel(draft, reason)
    elif draft.session.status is SessionStatus.PAUSED:
        _resume(draft)
    for handler in tuple(progress.handlers(draft)):
        if handler.is_out:
            draft.revoke(handler)
        if handler.status not in TASK_ENDED:
            draft.end(handler, TaskEvent.CANCEL)
    progress.follow(draft)
    return draft.step()


def _cancel(draft: Draft, reason: str | None) -> None:
    draft.move_session(SessionEvent.CANCEL, cancelled_at=draft.now, reason=reason, due_at=None)
    _call_back(draft)
    for task in draft.every():
        if task.dead and draft.of(task).role not in AT_THE_END:
            # A cancelled run can't be retried, so tasks that failed in it before are no longer dead letters.
            draft.change(task, dead=False)


def _call_back(draft: Draft) -> None:
    """Take every open attempt from its agent, except those of compensations and `onFailure`."""
    for task in draft.every():
        if task.is_out and draft.of(task).role not in AT_THE_END:
            draft.revoke(task)
            draft.end(task, TaskEvent.CANCEL)


def pause(run: Run, reason: str | None, now: float) -> Step:
    """Pause the run: nothing is given out and delays are held; open attempts may still end."""
    draft = Draft(run, now)
    # A cancelled run keeps the reason of its cancellation; that of the pause is in its history.
    kept = run.session.reason if run.session.cancelled_at is not None else reason
    draft.move_session(SessionEvent.PAUSE, reason=kept)
    return draft.step()


def resume(run: Run, now: float) -> Step:
    """Continue a paused run, with everything that happened meanwhile."""
    draft = Draft(run, now)
    _resume(draft)
    progress.follow(draft)
    return draft.step()


def _resume(draft: Draft) -> None:
    event, reason = SessionEvent.RESUME, None
    if draft.session.cancelled_at is not None:
        event = SessionEvent.RESUME_CANCELLING
        reason = draft.session.reason if draft.session.reason != CRASHED else None
    elif draft.session.error is not None:
        event = SessionEvent.RESUME_FAILING
    draft.move_session(event, reason=reason)


def reset(run: Run, now: float) -> Step:
    """Take the open attempts from their agents, and put the tasks back in line; a paused run is resumed."""
    draft = Draft(run, now)
    if run.session.status is SessionStatus.PAUSED:
        _resume(draft)
    for task in run.every():
        if task.is_out:
            draft.revoke(task)
            _requeue(draft, task, Failure(message="the run was reset", code="reset"))
    progress.follow(draft)
    return draft.step()
