"""Promises about tasks: their transitions, attempts, retries and records."""

import functools
from collections.abc import Iterator
from typing import Any

import attrs

from opscore.runtime.definitions.definition import Role, TaskKind
from opscore.runtime.journal.tables import SESSIONS, TASKS, session_of
from opscore.runtime.models import (
    SESSION_ENDED,
    TASK_ENDED,
    Record,
    Session,
    SessionStatus,
    Task,
    TaskStatus,
)
from opscore.runtime.runs.lifecycle import KIND_DEAD, KIND_DISCARDED, TASK_TABLE
from opscore.runtime.simulation.promises.keeping import key_is_over
from opscore.runtime.simulation.rows import Change, Commit, Rows

_TASK_MOVES = {(before, after) for (before, _), after in TASK_TABLE.items()}
_NEVER_RETRIED = frozenset(
    {
        "result_not_json",
        "result_too_large",
        "schedule_to_start",
        "schedule_to_close",
        "too_many_runs",
        "workflow_not_found",
        "cancelled",
        "expression_failed",
        "expression_exhausted",
    }
)
"""The error codes that are never retried."""
_NO_RETRY_HELPS = (TaskKind.SIGNAL, TaskKind.DELAY)
_EPSILON_S = 1e-6
COMMITS_WITHIN_S = 400.0
"""How long a commit may wait for its disk."""
FAILURE_MESSAGE = "it failed"
"""The message with which simulated agents report a failure of their own."""


def decided_at(commit: Commit, entity_id: str) -> float:
    """Return when a commit's change to an entity was decided; the commit itself may have waited for its disk."""
    return next((record.at for record in commit.records if record.entity_id == entity_id), commit.at)


def tasks_move_by_the_table(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task changes its status only as the transition table says, and after its end only if its run is retried."""
    for change in commit.of(TASKS.name):
        before, after = change.before, change.after
        if before is None or after is None:
            continue
        if before.status in TASK_ENDED and before != after and attrs.evolve(before, dead=after.dead) != after:
            if before.session_id not in rows.ledger.retried:
                yield f"task {change.key} has {before.status}, and changes"
            elif before.status is TaskStatus.COMPLETED and _is_kept(after, rows):
                yield f"task {change.key} was completed, and begins anew"
        if before.status != after.status and not _may_move(before.status, after.status):
            yield f"task {change.key} goes from {before.status} to {after.status}"


def _is_kept(task: Task, rows: Rows) -> bool:
    """Whether a retried run keeps this task if it was completed: all but the `onFailure` task."""
    return rows.task_definition(task).role is not Role.ON_FAILURE


@functools.cache
def _may_move(before: TaskStatus, after: TaskStatus) -> bool:
    """Whether one commit can lead there: a retried task may begin, and a ready one be dispatched, in the same one."""
    steps = {end for start, end in _TASK_MOVES if start == before}
    if before in TASK_ENDED:
        steps |= {end for start, end in _TASK_MOVES if start is TaskStatus.PENDING}
    return after in steps or (TaskStatus.READY in steps and after is TaskStatus.DISPATCHED)


def attempts_count_dispatches(commit: Commit, rows: Rows) -> Iterator[str]:
    """Each dispatch takes the next attempt number, and nothing else changes it."""
    for change in commit.of(TASKS.name):
        before, after = change.before, change.after
        if after is None:
            continue
        known = 0 if before is None else before.attempt
        handed = after.is_out and (before is None or not before.is_out)
        child = after.child_session_id is not None and after.child_session_id != (before and before.child_session_id)
        goes_out = handed or child
        if after.attempt != known + goes_out:
            yield f"task {change.key} goes from attempt {known} to {after.attempt}, and is {after.status}"


def attempts_end_once(commit: Commit, rows: Rows) -> Iterator[str]:
    """An attempt ends once."""
    for before, _ in commit.moved_tasks:
        ends = rows.ends.get((before.task_id, before.attempt), [])
        if len(ends) > 1:
            yield f"attempt {before.attempt} of {before.task_id} ended as {' and '.join(ends)}"


def retries_follow_the_policy(commit: Commit, rows: Rows) -> Iterator[str]:
    """A failure uses up one retry and waits as the policy says, and a task fails only when no retry is allowed."""
    for before, after in commit.moved_tasks:
        policy = rows.task_definition(after).retry
        if after.status is TaskStatus.PENDING_RETRY:
            if rows.task_definition(after).kind in _NO_RETRY_HELPS:
                yield f"task {after.task_id} waits for a retry, and for what no retry brings"
            if after.retries != before.retries + 1 or after.retries > policy.max_retries:
                yield f"task {after.task_id} waits for retry {after.retries} of {policy.max_retries}"
            longest = min(
                policy.initial_delay_s * policy.backoff_coefficient ** (after.retries - 1), policy.max_delay_s
            )
            delay = (after.due_at or 0.0) - decided_at(commit, after.task_id)
            shortest = 0.0 if policy.jitter else longest
            closes = after.closes_at is not None and after.due_at == after.closes_at
            if not (0 if closes else shortest) - _EPSILON_S <= delay <= longest + _EPSILON_S:
                yield f"task {after.task_id} waits {delay:g} s, and may wait from {shortest:g} to {longest:g}"
            if after.error is not None and (_failed_for_good(after, rows) or after.error.code in policy.non_retryable):
                yield f"task {after.task_id} waits for a retry, and failed for good: {after.error.message}"
        elif before.status is TaskStatus.PENDING_RETRY and after.status is TaskStatus.READY:
            early = (before.due_at or 0.0) - decided_at(commit, after.task_id)
            if early > _EPSILON_S:
                yield f"task {after.task_id} is released {early:g} s before its delay is over"
        elif after.status is TaskStatus.FAILED and not _may_fail(before, after, commit, rows):
            yield f"task {after.task_id} failed with {before.retries} of {policy.max_retries} retries spent"
        elif before.status in TASK_ENDED:
            continue
        elif after.retries != before.retries and after.status is not TaskStatus.FAILED:
            yield f"task {after.task_id} goes to {after.status}, and that spends a retry"


def _may_fail(before: Task, after: Task, commit: Commit, rows: Rows) -> bool:
    definition = rows.task_definition(after)
    policy = definition.retry
    code = None if after.error is None else after.error.code
    session = rows.sessions[after.session_id]
    spent = before.retries >= policy.max_retries
    never_again = code == "outcome_unknown" and definition.kind is TaskKind.TOOL and not definition.idempotent
    for_good = code in policy.non_retryable or code in _NEVER_RETRIED or never_again
    closed = after.closes_at is not None and decided_at(commit, after.task_id) >= after.closes_at
    waited = after.items is not None or (before.awaits and definition.kind is not TaskKind.WORKFLOW)
    called_off = after.item is not None and _another_item_failed(after, rows)
    return spent or session.unwinding or for_good or closed or waited or called_off or _failed_for_good(after, rows)


def _another_item_failed(item: Task, rows: Rows) -> bool:
    line = (task for task in rows.every_task_of(item.session_id) if task.ordinal == item.ordinal)
    return any(each.status is TaskStatus.FAILED and each.item not in (None, item.item) for each in line)


def _failed_for_good(task: Task, rows: Rows) -> bool:
    """Whether the agent reported the failure as one that must not be retried."""
    said = rows.ledger.said.get((task.task_id, task.attempt), ())
    message = None if task.error is None else task.error.message
    return any(what == "fail for good" and message == FAILURE_MESSAGE for _, what, _ in said)


def losses_are_bounded(commit: Commit, rows: Rows) -> Iterator[str]:
    """A lost or undelivered attempt uses up no retry, as long as fewer than `dispatch_attempts_max` come in a row.

    An attempt that ends in another way starts the count anew.
    """
    for before, after in commit.moved_tasks:
        if after.status in (TaskStatus.PENDING_RETRY, TaskStatus.COMPLETED) and after.bounces:
            yield f"task {after.task_id} is {after.status}, and {after.bounces} losses in a row still count"
        if not before.is_out or after.status is not TaskStatus.READY:
            continue
        given_back = any(
            record.kind == "agent.given_back" and record.entity_id == before.agent_id for record in commit.records
        )
        if given_back:
            if after.bounces != before.bounces:
                yield f"task {after.task_id} is given back by a process that stops, and that counts as a loss"
            continue
        taken_back = rows.sessions[after.session_id].status is SessionStatus.PAUSED or (
            after.error is not None and after.error.code == "reset"
        )
        if taken_back and before.bounces == after.bounces:
            continue
        if after.bounces != before.bounces + 1 or after.bounces >= rows.limits.dispatch_attempts_max:
            yield f"task {after.task_id} is back in the queue after {after.bounces} losses, {before.bounces} before"


def tasks_begin_anew(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task that a retried run repeats has all its retries again, and no result or error from before."""
    for before, after in commit.moved_tasks:
        if before.status not in TASK_ENDED or after.status in TASK_ENDED:
            continue
        if after.retries or after.bounces:
            yield f"task {after.task_id} begins anew with {after.retries} retries and {after.bounces} losses"
        if after.dead or after.result is not None or after.error is not None:
            yield f"task {after.task_id} begins anew, and what came of it before is still there"


def completed_tasks_have_no_error(commit: Commit, rows: Rows) -> Iterator[str]:
    """A completed task has no error, even if earlier attempts failed."""
    for _, after in commit.moved_tasks:
        if after.status is TaskStatus.COMPLETED and after.error is not None:
            yield f"task {after.task_id} is complete, and its error is {after.error.message!r}"


def admission_is_bounded(commit: Commit, rows: Rows) -> Iterator[str]:
    """No run is triggered while `sessions_open_max` are unfinished; child and retried runs are exempt."""
    begun = [change for change in commit.of(SESSIONS.name) if change.before is None and change.after is not None]
    if not begun or len(rows.unfinished) <= rows.limits.sessions_open_max:
        return
    triggered = [
        session_id
        for session_id in rows.unfinished
        if rows.sessions[session_id].parent_task_id is None and session_id not in rows.ledger.retried
    ]
    if len(triggered) > rows.limits.sessions_open_max:
        yield f"{len(triggered)} sessions are unfinished, and {rows.limits.sessions_open_max} may be"


def records_tell_every_change(commit: Commit, rows: Rows) -> Iterator[str]:
    """Each change of a status has a record in the same commit, and each record of one its change."""
    told = [(record.entity_id, record.kind) for record in commit.records if record.entity in ("task", "session")]
    changed = [
        *_statuses(commit.of(TASKS.name), "task"),
        *_statuses(commit.of(SESSIONS.name), "session"),
    ]
    for entity_id, kind in changed:
        if (entity_id, kind) not in told:
            yield f"{entity_id} is {kind} now, and no record tells of it"
    for entity_id, kind in told:
        if kind == KIND_DEAD or (kind == KIND_DISCARDED and _may_be_discarded(entity_id, rows)):
            continue
        row: Task | Session | None = rows.tasks.get(entity_id) or rows.sessions.get(entity_id)
        last = [each for who, each in told if who == entity_id][-1]
        if row is not None and kind == last and not kind.endswith(f".{row.status}"):
            yield f"a record tells {kind} of {entity_id}, which is {row.status}"
    yield from _attempts_told(commit.records, rows)


def _may_be_discarded(task_id: str, rows: Rows) -> bool:
    """Whether a task's run has ended, or was cancelled, which discards the dead letters from before."""
    session = rows.session(session_of(task_id))
    return session is not None and (session.cancelled_at is not None or session.status in SESSION_ENDED)


def _statuses(changes: list[Change], entity: str) -> Iterator[tuple[str, str]]:
    for change in changes:
        status = None if change.before is None else change.before.status
        if change.after is not None and change.after.status != status:
            yield change.key, f"{entity}.{change.after.status}"


def _attempts_told(records: tuple[Record, ...], rows: Rows) -> Iterator[str]:
    # If a task changes several times in one commit, its last record has its final state.
    for record in {record.entity_id: record for record in records}.values():
        task = rows.tasks.get(record.entity_id)
        attempt: Any = record.data.get("attempt")
        if record.entity == "task" and task is not None and attempt is not None and attempt != task.attempt:
            yield f"a record tells {record.kind} of attempt {attempt}, and {record.entity_id} is at {task.attempt}"


def decisions_come_before_commits(commit: Commit, rows: Rows) -> Iterator[str]:
    """No record has a later time than its commit, unless the clock was set back in between."""
    if not rows.clock_moved_within(COMMITS_WITHIN_S) and any(
        record.at > commit.at + _EPSILON_S for record in commit.records
    ):
        yield "a record is younger than its commit"


def keys_keep_their_sessions(commit: Commit, rows: Rows) -> Iterator[str]:
    """An idempotency key leads to one session until it expires, and that session is stored."""
    for change in commit.of("idempotency"):
        moved = change.before is not None and change.after is not None and change.before != change.after
        if moved and not key_is_over(change.before.trigger.session_id, rows):
            yield f"the key of session {change.before.trigger.session_id} leads to another one now"
        if change.after is not None and change.after.trigger.session_id not in rows.sessions:
            yield f"a key leads to session {change.after.trigger.session_id}, which is not there"
