"""Promises about runs: the order of their steps, their ends, and their unwinding."""

import functools
from collections.abc import Iterator
from typing import Any

from opscore.runtime.definitions.definition import Role, TaskDefinition
from opscore.runtime.journal.tables import OPEN_SESSIONS, SESSIONS, TASKS
from opscore.runtime.models import SESSION_ENDED, TASK_ENDED, Failure, Session, SessionStatus, Task, TaskStatus
from opscore.runtime.runs.lifecycle import SESSION_TABLE
from opscore.runtime.runs.transitions import CRASHED
from opscore.runtime.simulation.rows import Commit, Rows

CALM_S = 5.0
_SESSION_MOVES = {(before, after) for (before, _), after in SESSION_TABLE.items()}
_BEGUN = frozenset(TaskStatus) - {TaskStatus.PENDING, TaskStatus.SKIPPED, TaskStatus.CANCELLED}
_WAITS = (TaskStatus.READY, TaskStatus.PENDING, TaskStatus.PENDING_RETRY)
_AT_THE_END = (Role.COMPENSATION, Role.ON_FAILURE)


def sessions_move_by_the_table(commit: Commit, rows: Rows) -> Iterator[str]:
    """A session changes its status only as the transition table says, and never after its end unless it is retried."""
    for change in commit.of(SESSIONS.name):
        before, after = change.before, change.after
        if before is None or after is None:
            continue
        retried = before.status is SessionStatus.FAILED and change.key in rows.ledger.retried
        if before.status in SESSION_ENDED and not retried:
            yield f"session {change.key} is {before.status}, and changes"
        elif before.status != after.status and after.status not in _reached(before.status):
            yield f"session {change.key} goes from {before.status} to {after.status}"


@functools.cache
def _reached(status: SessionStatus) -> set[SessionStatus]:
    """Return the statuses that one commit can reach, through up to three transitions: a failing run may end at once."""
    reached: set[SessionStatus] = set()
    further = {end for start, end in _SESSION_MOVES if start == status}
    for _ in range(3):
        reached |= further
        further = {end for start, end in _SESSION_MOVES if start in further and start not in SESSION_ENDED}
    return reached


def order_follows_the_graph(commit: Commit, rows: Rows) -> Iterator[str]:
    """A step begins in the very commit in which the last of its dependencies is over, and not before."""
    for session_id in {change.key.partition(".")[0] for change in (*commit.of(TASKS.name), *commit.of(SESSIONS.name))}:
        session = rows.sessions.get(session_id)
        if session is None or session.unwinding:
            continue
        tasks = {task.key: task for task in rows.tasks_of(session_id)}
        for definition in rows.definition(session).tasks:
            task = tasks.get(definition.key)
            if task is None:
                yield f"session {session_id} has no task {definition.key}"
            elif definition.role is Role.STEP:
                yield from _in_order(session, task, definition, tasks, rows)


def _in_order(
    session: Session, task: Task, definition: TaskDefinition, tasks: dict[str, Task], rows: Rows
) -> Iterator[str]:
    missing = sorted(key for key in definition.depends_on if not is_over(tasks[key], tasks, rows))
    if missing and task.status is not TaskStatus.PENDING:
        yield f"task {task.task_id} is {task.status} while {', '.join(missing)} is not over"
    if not missing and task.status is TaskStatus.PENDING and session.status is not SessionStatus.PAUSED:
        yield f"task {task.task_id} is pending, and nothing it depends on is"
    skipped = bool(definition.depends_on) and all(
        tasks[key].status is TaskStatus.SKIPPED for key in definition.depends_on
    )
    if definition.when is not None and not skipped:
        # Only the tests' interpreter evaluates conditions; it checks these steps.
        return
    if skipped != (task.status is TaskStatus.SKIPPED) and not missing and task.status is not TaskStatus.PENDING:
        yield f"task {task.task_id} is {task.status}, and all it depends on was {'' if skipped else 'not '}skipped"


def is_over(task: Task, tasks: dict[str, Task], rows: Rows) -> bool:
    """Whether a step no longer holds up its dependents: it is complete or skipped, or its failure is harmless."""
    return task.status in (TaskStatus.COMPLETED, TaskStatus.SKIPPED) or harmless(task, tasks, rows)


def harmless(task: Task, tasks: dict[str, Task], rows: Rows) -> bool:
    """Whether a step has failed without failing its run: its fallback succeeded, or it has `continueOnFailure`."""
    if task.status is not TaskStatus.FAILED:
        return False
    definition = rows.task_definition(task)
    instead = None if definition.fallback is None else tasks[definition.fallback].status
    return instead is TaskStatus.COMPLETED or (definition.continue_on_failure and instead in (None, TaskStatus.FAILED))


def handlers_begin_when_they_are_called_for(commit: Commit, rows: Rows) -> Iterator[str]:
    """A fallback begins only after its step failed permanently, and compensations only when the run unwinds.

    Compensations wait until no other attempt of the run is out. They undo only completed steps, the last one first.
    The `onFailure` task comes after all of them, and does not run if the run was cancelled.
    """
    for before, after in commit.moved_tasks:
        definition = rows.task_definition(after)
        if definition.role is Role.STEP or before.status is not TaskStatus.PENDING or after.status not in _BEGUN:
            continue
        session, tasks = rows.sessions[after.session_id], {each.key: each for each in rows.tasks_of(after.session_id)}
        steps = [each for each in rows.definition(session).tasks if each.role is Role.STEP]
        if definition.role is Role.FALLBACK:
            (step,) = (each for each in steps if each.fallback == after.key)
            if tasks[step.key].status is not TaskStatus.FAILED:
                yield f"fallback {after.task_id} begins, and {step.key} is {tasks[step.key].status}"
            continue
        if not session.unwinding:
            yield f"{definition.role} {after.task_id} begins, and its session is {session.status}"
        every = rows.every_task_of(after.session_id)
        out = [each.task_id for each in every if each.is_out and _role(each, rows) not in _AT_THE_END]
        if out:
            yield f"{definition.role} {after.task_id} begins while {', '.join(out)} is out"
        yield from _in_reverse(after, definition, session, tasks, rows)


def _in_reverse(
    task: Task, definition: TaskDefinition, session: Session, tasks: dict[str, Task], rows: Rows
) -> Iterator[str]:
    steps = [each for each in rows.definition(session).tasks if each.role is Role.STEP]
    undone = [step for step in steps if step.compensation and tasks[step.key].status is TaskStatus.COMPLETED]
    if definition.role is Role.ON_FAILURE:
        if session.cancelled_at is not None:
            yield f"{task.task_id} begins, and its session is cancelled"
        first = undone
    else:
        mine = next((step for step in undone if step.compensation == task.key), None)
        if mine is None:
            yield f"compensation {task.task_id} begins, and what it undoes was not completed"
            return
        # If the clock was moved, only the dependents of a step are sure to have come after it.
        later = _after(mine.key, steps)
        ended_at = tasks[mine.key].ended_at or 0
        by_time = "clock_moves" not in rows.faults
        first = [
            step for step in undone if step.key in later or (by_time and (tasks[step.key].ended_at or 0) > ended_at)
        ]
    for step in first:
        if tasks[step.compensation or ""].status not in TASK_ENDED:
            yield f"{task.task_id} begins before {step.compensation}, which undoes what was completed later"


def _after(key: str, steps: list[TaskDefinition]) -> set[str]:
    """Return the steps that depend on one, directly or through others."""
    found: set[str] = set()
    further = {key}
    while further:
        further = {step.key for step in steps if not further.isdisjoint(step.depends_on)} - found
        found |= further
    return found


def sessions_end_whole(commit: Commit, rows: Rows) -> Iterator[str]:
    """A session ends after all its tasks: completed if all steps are over, else cancelled or failed with a cause."""
    for change in commit.of(SESSIONS.name):
        session: Session | None = change.after
        if session is None:
            continue
        if (session.ended_at is not None) != (session.status in SESSION_ENDED):
            yield f"session {change.key} is {session.status}, and its end is {session.ended_at}"
        if session.status not in SESSION_ENDED:
            continue
        tasks = rows.tasks_of(change.key)
        every = rows.every_task_of(change.key)
        left = [f"{task.task_id} is {task.status}" for task in every if task.status not in TASK_ENDED]
        if left:
            yield f"session {change.key} is {session.status} while {', '.join(left)}"
        dead = [task.task_id for task in every if task.dead and _role(task, rows) not in _AT_THE_END]
        if dead and session.error is None:
            yield f"session {change.key} is {session.status} without an error, and {', '.join(dead)} is a dead letter"
        if session.status is SessionStatus.COMPLETED:
            yield from _complete(session, tasks, rows)
        else:
            yield from _undone(session, {task.key: task for task in tasks}, rows)


def _complete(session: Session, tasks: list[Task], rows: Rows) -> Iterator[str]:
    definition = rows.definition(session)
    by_key = {task.key: task for task in tasks}
    steps = [each for each in definition.tasks if each.role is Role.STEP]
    unfinished = [each.key for each in steps if not is_over(by_key[each.key], by_key, rows)]
    if unfinished or session.unwinding:
        yield f"session {session.session_id} is complete, and {', '.join(unfinished) or 'it has failed'} is not"
    needed = {key for step in steps for key in step.depends_on}
    items = [task for task in rows.every_task_of(session.session_id) if task.item is not None]
    expected = {
        step.key: _result(by_key[step.key], by_key, step, items)
        for step in steps
        if step.key not in needed and by_key[step.key].status is not TaskStatus.SKIPPED
    }
    if session.result is not None and definition.outputs is None and session.result != expected:
        yield f"session {session.session_id} answers {session.result!r}, its last tasks {expected!r}"


def _result(task: Task, tasks: dict[str, Task], definition: TaskDefinition, items: list[Task]) -> Any:
    if task.items is not None and task.status is TaskStatus.COMPLETED:
        return [item.result for item in items if item.ordinal == task.ordinal]
    replaced = task.status is TaskStatus.FAILED and definition.fallback is not None
    return tasks[definition.fallback or ""].result if replaced else task.result


def lists_are_gone_through_in_bounds(commit: Commit, rows: Rows) -> Iterator[str]:
    """A `forEach` task runs at most `concurrency` items at a time, each once, and completes when all are done."""
    above = {(task.session_id, task.ordinal) for task in _changed_items(commit)}
    for session_id, ordinal in above:
        line = [task for task in rows.every_task_of(session_id) if task.ordinal == ordinal]
        task, begun = line[0], line[1:]
        definition = rows.task_definition(task)
        under_way = [item for item in begun if item.status not in TASK_ENDED and item.status is not TaskStatus.PENDING]
        if len(under_way) > definition.concurrency:
            yield f"{len(under_way)} items of {task.task_id} are under way, and {definition.concurrency} may be"
        if [item.item for item in begun] != list(range(len(begun))):
            yield f"the items of {task.task_id} are {[item.item for item in begun]}"
        done = len(begun) == len(task.items or ()) and len(under_way) == 0
        if task.status is TaskStatus.COMPLETED and not done:
            yield f"task {task.task_id} is complete with {len(begun)} items of {len(task.items or ())}"


def lists_fail_by_the_first_failure(commit: Commit, rows: Rows) -> Iterator[str]:
    """A `forEach` task fails by its first failed item, after which none of its items begins or is retried.

    If the run is paused, items that were taken back wait, and are cancelled when it is resumed.
    """
    for before, after in commit.moved_tasks:
        if after.item is None and (after.items is None or after.status is not TaskStatus.FAILED):
            continue
        line = (task for task in rows.every_task_of(after.session_id) if task.ordinal == after.ordinal)
        failed = [task for task in line if task.item is not None and task.status is TaskStatus.FAILED]
        if not failed or rows.task_definition(after).continue_on_failure:
            continue
        first = min(failed, key=lambda task: task.ended_at or 0.0)
        waits = after.status is TaskStatus.READY and rows.sessions[after.session_id].status is not SessionStatus.PAUSED
        if after.item is not None and (waits or after.status in (TaskStatus.PENDING_RETRY, TaskStatus.DISPATCHED)):
            yield f"item {after.task_id} goes from {before.status} to {after.status}, and {first.task_id} has failed"
        message = "" if after.error is None else after.error.message
        if after.item is None and message.startswith("item ") and not message.startswith(f"item {first.item} failed"):
            yield f"list {after.task_id} failed by {message!r}, and {first.task_id} failed first"


def _changed_items(commit: Commit) -> Iterator[Task]:
    for change in commit.of(TASKS.name):
        if change.after is not None and (change.after.item is not None or change.after.items is not None):
            yield change.after


def _undone(session: Session, tasks: dict[str, Task], rows: Rows) -> Iterator[str]:
    """Check a run that ended without completing."""
    cancelled = session.status is SessionStatus.CANCELLED
    if cancelled != (session.cancelled_at is not None):
        yield f"session {session.session_id} is {session.status}, and was cancelled at {session.cancelled_at}"
    error = session.error
    by_itself = error is not None and (_timed_out(error) or error.message.startswith("outputs: "))
    if not cancelled and not by_itself and not any(task.status is TaskStatus.FAILED for task in tasks.values()):
        yield f"session {session.session_id} has failed, and none of its tasks has"
    for step in rows.definition(session).tasks:
        undone_by = tasks.get(step.compensation or "")
        done = tasks[step.key].status is TaskStatus.COMPLETED
        if undone_by is None or (done and undone_by.status is TaskStatus.CANCELLED and _was_terminated(session, rows)):
            continue
        if done != (undone_by.status in _BEGUN):
            stands = f"{tasks[step.key].status}, and {undone_by.key} {undone_by.status}"
            yield f"{step.key} of session {session.session_id} is {stands}"


def _was_terminated(session: Session, rows: Rows) -> bool:
    return session.status is SessionStatus.CANCELLED and session.session_id in rows.ledger.terminated


def failing_sessions_start_nothing(commit: Commit, rows: Rows) -> Iterator[str]:
    """Once a session fails or is cancelled, only tasks that undo it are released, retried or dispatched."""
    for before, after in commit.moved_tasks:
        session = rows.sessions.get(after.session_id)
        if session is None or not session.unwinding or _role(after, rows) in _AT_THE_END:
            continue
        if after.status in (TaskStatus.READY, TaskStatus.PENDING_RETRY, TaskStatus.DISPATCHED):
            yield f"task {after.task_id} goes from {before.status} to {after.status}, and its session is failing"
    for change in commit.of(SESSIONS.name):
        session = change.after
        if session is None or not session.unwinding or session.status is SessionStatus.PAUSED:
            continue
        for task in rows.every_task_of(change.key):
            if _role(task, rows) is Role.STEP and task.status in _WAITS:
                yield f"session {change.key} is {session.status}, and {task.key} is still {task.status}"


def _timed_out(error: Failure) -> bool:
    """Whether the run's own timeout is over; an error from a child run has the same code, but another message."""
    return error.code == "session_timeout" and not error.message.startswith("task ")


def cancelling_calls_everything_back(commit: Commit, rows: Rows) -> Iterator[str]:
    """The commit that cancels a session, or ends it by its timeout, leaves none of its attempts open."""
    for change in commit.of(SESSIONS.name):
        before, after = change.before, change.after
        if after is None or before is None:
            continue
        cancelled = before.cancelled_at is None and after.cancelled_at is not None
        timed_out = before.error is None and after.error is not None and _timed_out(after.error)
        if cancelled or timed_out:
            for task in rows.every_task_of(change.key):
                if (task.is_out or task.awaits) and _role(task, rows) not in _AT_THE_END:
                    yield f"session {change.key} is {after.status}, and {task.key} is still {task.status}"


def cancelled_runs_keep_their_reason(commit: Commit, rows: Rows) -> Iterator[str]:
    """A cancelled run keeps the reason of its cancellation, which only a crash of its actor may replace."""
    for change in commit.of(SESSIONS.name):
        before, after = change.before, change.after
        if before is None or after is None or before.cancelled_at is None or CRASHED in (before.reason, after.reason):
            continue
        if before.reason != after.reason:
            yield f"session {change.key} was cancelled for {before.reason!r}, and now that is {after.reason!r}"


def nothing_is_out_once_the_time_is_over(rows: Rows) -> Iterator[str]:
    """In calm times no attempt of a step is out once its run's timeout is over, whatever the run's error is."""
    if not rows.calm_for(CALM_S):
        return
    for session_id in rows.unfinished:
        session = rows.sessions[session_id]
        if session.due_at is None or session.status is SessionStatus.PAUSED:
            continue
        over_for_s = rows.now() - max(session.due_at, rows.touched.get(session_id, 0.0))
        for task in rows.every_task_of(session_id) if over_for_s > CALM_S else ():
            if task.is_out and _role(task, rows) not in _AT_THE_END:
                yield f"the time of session {session_id} is over, and {task.key} is {task.status}"


def unfinished_sessions_are_listed(commit: Commit, rows: Rows) -> Iterator[str]:
    """The index of unfinished sessions lists exactly the unfinished sessions."""
    for change in (*commit.of(SESSIONS.name), *commit.of(OPEN_SESSIONS.name)):
        session = rows.sessions.get(change.key)
        unfinished = session is not None and session.status not in SESSION_ENDED
        if unfinished != (change.key in rows.unfinished):
            stands = "is gone" if session is None else f"is {session.status}"
            yield f"session {change.key} {stands}, and is {'not ' if unfinished else ''}among the unfinished"


def runs_below_have_their_input(commit: Commit, rows: Rows) -> Iterator[str]:
    """A child run begins with the input that the parameters of its parent task specify."""
    for change in commit.of(SESSIONS.name):
        session: Session | None = change.after
        if change.before is not None or session is None or session.parent_task_id is None:
            continue
        definition = rows.task_definition(rows.tasks[session.parent_task_id])
        if definition.filled.constant and session.payload != definition.parameters.get("input"):
            yield f"session {change.key} begins with {session.payload!r}, and {session.parent_task_id} asks otherwise"


def runs_and_what_waits_for_them_agree(rows: Rows) -> Iterator[str]:
    """In calm times every task that waits for a child run has one, and every child run has a task that waits for it.

    This is not checked where either run is paused, because its actor kept crashing; an operator has to resume it.
    """
    if not rows.calm_for(CALM_S):
        return
    now = rows.now()
    for task in rows.running():
        child_id = task.child_session_id
        if not task.awaits or child_id is None or (task.started_at or 0.0) > now - CALM_S:
            continue
        if rows.sessions[task.session_id].status is SessionStatus.PAUSED:
            continue
        child = rows.sessions.get(child_id)
        if child is None:
            yield f"task {task.task_id} waits for session {child_id}, which has not begun"
        elif child.ended_at is not None and child.ended_at < now - CALM_S:
            yield f"task {task.task_id} waits for session {child_id}, which has {child.status}"
    for session_id in rows.unfinished:
        session = rows.sessions[session_id]
        above = rows.tasks.get(session.parent_task_id or "")
        waited_for = above is not None and above.awaits and above.child_session_id == session_id
        over_for_s = now - (_waits_no_more_since(above) or now)
        if above is None or waited_for or session.cancelled_at is not None or over_for_s <= CALM_S:
            continue
        if SessionStatus.PAUSED not in (session.status, rows.sessions[above.session_id].status):
            yield f"session {session_id} goes on, and {above.task_id} waits for it no longer"


def _waits_no_more_since(above: Task | None) -> float | None:
    """Return when a task ended, or began to wait for another run; None if unknown."""
    if above is None:
        return None
    return above.started_at if above.awaits else above.ended_at


def _role(task: Task, rows: Rows) -> Role:
    return rows.task_definition(task).role
