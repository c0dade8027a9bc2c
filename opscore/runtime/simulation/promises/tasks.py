"""What every commit has to keep of tasks and sessions."""

from collections.abc import Iterator
from typing import Any

from opscore.runtime.models import (
    SESSION_ENDED,
    TASK_ENDED,
    TASK_OPEN,
    Record,
    Session,
    SessionStatus,
    Task,
    TaskStatus,
)
from opscore.runtime.simulation.rows import Change, Commit, Rows
from opscore.runtime.tables import OPEN_SESSIONS, SESSIONS, TASKS
from opscore.runtime.transitions import SESSION_TABLE, TASK_TABLE

_TASK_MOVES = {(before, after) for (before, _), after in TASK_TABLE.items()}
_SESSION_MOVES = {(before, after) for (before, _), after in SESSION_TABLE.items()}
_EPSILON_S = 1e-6
FAILURE_MESSAGE = "it failed"
"""What simulated agents say of a failure of their own."""


def moved_tasks(commit: Commit) -> Iterator[tuple[Task, Task]]:
    """The tasks that a commit moved from one status to another, before and after."""
    for change in commit.of(TASKS.name):
        if change.before is not None and change.after is not None and change.before.status != change.after.status:
            yield change.before, change.after


def decided_at(commit: Commit, entity_id: str) -> float:
    """When it was decided what a commit says of an entity; the commit itself may have waited for its disk."""
    return next((record.at for record in commit.records if record.entity_id == entity_id), commit.at)


def tasks_move_by_the_table(commit: Commit, rows: Rows) -> Iterator[str]:
    """Every move of a task is a row of the transition table; what has ended stays as it is."""
    for change in commit.of(TASKS.name):
        before, after = change.before, change.after
        if before is None or after is None:
            continue
        if before.status in TASK_ENDED and before != after:
            yield f"task {change.key} has {before.status}, and changes"
        elif before.status != after.status and (before.status, after.status) not in _TASK_MOVES:
            yield f"task {change.key} goes from {before.status} to {after.status}"


def sessions_move_by_the_table(commit: Commit, rows: Rows) -> Iterator[str]:
    """Every move of a session is a row of the transition table; what has ended stays as it is."""
    for change in commit.of(SESSIONS.name):
        before, after = change.before, change.after
        if before is None or after is None:
            continue
        if before.status in SESSION_ENDED:
            yield f"session {change.key} is {before.status}, and changes"
        elif before.status != after.status and not _session_may(before.status, after.status):
            yield f"session {change.key} goes from {before.status} to {after.status}"


def _session_may(before: SessionStatus, after: SessionStatus) -> bool:
    """Whether a move, or two in one commit (the last failure both fails and settles), leads there."""
    steps = {end for start, end in _SESSION_MOVES if start == before}
    return after in steps or any((step, after) in _SESSION_MOVES for step in steps)


def attempts_count_dispatches(commit: Commit, rows: Rows) -> Iterator[str]:
    """Each dispatch has the next attempt number, and nothing else changes it."""
    for change in commit.of(TASKS.name):
        before, after = change.before, change.after
        if after is None:
            continue
        known = 0 if before is None else before.attempt
        goes_out = after.status in TASK_OPEN and (before is None or before.status not in TASK_OPEN)
        if after.attempt != known + goes_out:
            yield f"task {change.key} goes from attempt {known} to {after.attempt}, and is {after.status}"


def attempts_end_once(commit: Commit, rows: Rows) -> Iterator[str]:
    """An attempt comes to one end, and to no other after that."""
    for before, _ in moved_tasks(commit):
        ends = rows.ends.get((before.task_id, before.attempt), [])
        if len(ends) > 1:
            yield f"attempt {before.attempt} of {before.task_id} ended as {' and '.join(ends)}"


def order_follows_the_graph(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task is released when everything it depends on is complete, in that very commit, and not before."""
    for session_id in {change.key.partition(".")[0] for change in commit.of(TASKS.name)}:
        session = rows.sessions.get(session_id)
        if session is None or session.error is not None:
            continue
        tasks = {task.key: task for task in rows.tasks_of(session_id)}
        done = {key for key, task in tasks.items() if task.status is TaskStatus.COMPLETED}
        for definition in rows.definition(session).tasks:
            task = tasks.get(definition.key)
            if task is None:
                yield f"session {session_id} has no task {definition.key}"
                continue
            missing = set(definition.depends_on) - done
            if missing and task.status is not TaskStatus.PENDING:
                yield f"task {task.task_id} is {task.status} while {', '.join(sorted(missing))} is not complete"
            if not missing and task.status is TaskStatus.PENDING:
                yield f"task {task.task_id} is pending, and nothing it depends on is"


def retries_follow_the_policy(commit: Commit, rows: Rows) -> Iterator[str]:
    """A failure spends one retry and waits as the policy says; the last one fails the task, and none before it."""
    for before, after in moved_tasks(commit):
        policy = rows.task_definition(after).retry
        if after.status is TaskStatus.PENDING_RETRY:
            if after.retries != before.retries + 1 or after.retries > policy.max_retries:
                yield f"task {after.task_id} waits for retry {after.retries} of {policy.max_retries}"
            longest = min(
                policy.initial_delay_s * policy.backoff_coefficient ** (after.retries - 1), policy.max_delay_s
            )
            delay = (after.due_at or 0.0) - decided_at(commit, after.task_id)
            shortest = 0.0 if policy.jitter else longest
            if not shortest - _EPSILON_S <= delay <= longest + _EPSILON_S:
                yield f"task {after.task_id} waits {delay:g} s, and may wait from {shortest:g} to {longest:g}"
            if after.error is not None and (_failed_for_good(after, rows) or after.error.code in policy.non_retryable):
                yield f"task {after.task_id} waits for a retry, and failed for good: {after.error.message}"
        elif before.status is TaskStatus.PENDING_RETRY and after.status is TaskStatus.READY:
            early = (before.due_at or 0.0) - decided_at(commit, after.task_id)
            if early > _EPSILON_S:
                yield f"task {after.task_id} is released {early:g} s before its delay is over"
        elif after.status is TaskStatus.FAILED and not _may_fail(before, after, rows):
            yield f"task {after.task_id} failed with {before.retries} of {policy.max_retries} retries spent"
        elif after.retries != before.retries and after.status is not TaskStatus.FAILED:
            yield f"task {after.task_id} goes to {after.status}, and that spends a retry"


def _may_fail(before: Task, after: Task, rows: Rows) -> bool:
    policy = rows.task_definition(after).retry
    code = None if after.error is None else after.error.code
    session = rows.sessions[after.session_id]
    another = any(task.status is TaskStatus.FAILED for task in rows.tasks_of(session.session_id) if task != after)
    spent = before.retries >= policy.max_retries
    for_good = code in policy.non_retryable or code in ("result_not_json", "result_too_large")
    return spent or another or for_good or _failed_for_good(after, rows)


def _failed_for_good(task: Task, rows: Rows) -> bool:
    """Whether its agent has ended the attempt as one that no retry helps."""
    said = rows.ledger.said.get((task.task_id, task.attempt), ())
    message = None if task.error is None else task.error.message
    return any(what == "fail for good" and message == FAILURE_MESSAGE for _, what, _ in said)


def losses_are_bounded(commit: Commit, rows: Rows) -> Iterator[str]:
    """An attempt that is lost or undelivered spends no retry, within `dispatch_attempts_max` of them in a row."""
    for before, after in moved_tasks(commit):
        if before.status not in TASK_OPEN or after.status is not TaskStatus.READY:
            continue
        if rows.sessions[after.session_id].status is SessionStatus.PAUSED and before.bounces == after.bounces:
            continue
        if after.bounces != before.bounces + 1 or after.bounces >= rows.limits.dispatch_attempts_max:
            yield f"task {after.task_id} is back in the queue after {after.bounces} losses, {before.bounces} before"


def sessions_end_whole(commit: Commit, rows: Rows) -> Iterator[str]:
    """A session ends when its tasks have: complete when all are, failed with what failed; nothing of it goes on."""
    for change in commit.of(SESSIONS.name):
        session: Session | None = change.after
        if session is None:
            continue
        if (session.ended_at is not None) != (session.status in SESSION_ENDED):
            yield f"session {change.key} is {session.status}, and its end is {session.ended_at}"
        if session.status not in SESSION_ENDED:
            continue
        tasks = rows.tasks_of(change.key)
        left = [f"{task.key} is {task.status}" for task in tasks if task.status not in TASK_ENDED]
        if left:
            yield f"session {change.key} is {session.status} while {', '.join(left)}"
        if session.status is SessionStatus.COMPLETED:
            yield from _complete(session, tasks, rows)
        if session.status is SessionStatus.FAILED and not any(task.status is TaskStatus.FAILED for task in tasks):
            yield f"session {change.key} has failed, and none of its tasks has"


def _complete(session: Session, tasks: list[Task], rows: Rows) -> Iterator[str]:
    definition = rows.definition(session)
    if any(task.status is not TaskStatus.COMPLETED for task in tasks) or len(tasks) != len(definition.tasks):
        yield f"session {session.session_id} is complete, and not all of its {len(definition.tasks)} tasks are"
    needed = {key for task in definition.tasks for key in task.depends_on}
    expected = {task.key: task.result for task in tasks if task.key not in needed}
    if session.result is not None and session.result != expected:
        yield f"session {session.session_id} answers {session.result!r}, its last tasks {expected!r}"


def failed_sessions_start_nothing(commit: Commit, rows: Rows) -> Iterator[str]:
    """Once a task's failure has decided a session, nothing of it is released, retried or given out."""
    for before, after in moved_tasks(commit):
        session = rows.sessions.get(after.session_id)
        if session is None or session.error is None:
            continue
        if after.status in (TaskStatus.READY, TaskStatus.PENDING_RETRY, TaskStatus.DISPATCHED):
            yield f"task {after.task_id} goes from {before.status} to {after.status}, and its session is failing"
    for change in commit.of(SESSIONS.name):
        if change.after is not None and change.after.error is not None:
            for task in rows.tasks_of(change.key):
                if task.status in (TaskStatus.READY, TaskStatus.PENDING, TaskStatus.PENDING_RETRY):
                    yield f"session {change.key} is {change.after.status}, and {task.key} is still {task.status}"


def unfinished_sessions_are_listed(commit: Commit, rows: Rows) -> Iterator[str]:
    """The index of unfinished sessions holds those, and no others."""
    for change in (*commit.of(SESSIONS.name), *commit.of(OPEN_SESSIONS.name)):
        session = rows.sessions.get(change.key)
        unfinished = session is not None and session.status not in SESSION_ENDED
        if unfinished != (change.key in rows.unfinished):
            stands = "is gone" if session is None else f"is {session.status}"
            yield f"session {change.key} {stands}, and is {'not ' if unfinished else ''}among the unfinished"


def admission_is_bounded(commit: Commit, rows: Rows) -> Iterator[str]:
    """No more sessions are unfinished than `sessions_open_max`, but for those that were being started at the time."""
    begun = [change for change in commit.of(SESSIONS.name) if change.before is None and change.after is not None]
    if begun and len(rows.unfinished) > rows.limits.sessions_open_max:
        yield f"{len(rows.unfinished)} sessions are unfinished, and {rows.limits.sessions_open_max} may be"


def records_tell_every_change(commit: Commit, rows: Rows) -> Iterator[str]:
    """Each change of a status has its record in the same commit, and each record its change."""
    told = [(record.entity_id, record.kind) for record in commit.records if record.entity in ("task", "session")]
    changed = [
        *_statuses(commit.of(TASKS.name), "task"),
        *_statuses(commit.of(SESSIONS.name), "session"),
    ]
    for entity_id, kind in changed:
        if (entity_id, kind) not in told:
            yield f"{entity_id} is {kind} now, and no record tells of it"
    for entity_id, kind in told:
        row: Task | Session | None = rows.tasks.get(entity_id) or rows.sessions.get(entity_id)
        last = [each for who, each in told if who == entity_id][-1]
        if row is not None and kind == last and not kind.endswith(f".{row.status}"):
            yield f"a record tells {kind} of {entity_id}, which is {row.status}"
    yield from _attempts_told(commit.records, rows)


def _statuses(changes: list[Change], entity: str) -> Iterator[tuple[str, str]]:
    for change in changes:
        status = None if change.before is None else change.before.status
        if change.after is not None and change.after.status != status:
            yield change.key, f"{entity}.{change.after.status}"


def _attempts_told(records: tuple[Record, ...], rows: Rows) -> Iterator[str]:
    for record in records:
        task = rows.tasks.get(record.entity_id)
        attempt: Any = record.data.get("attempt")
        if record.entity == "task" and task is not None and attempt is not None and attempt != task.attempt:
            yield f"a record tells {record.kind} of attempt {attempt}, and {record.entity_id} is at {task.attempt}"


def decisions_come_before_commits(commit: Commit, rows: Rows) -> Iterator[str]:
    """No record is younger than its commit."""
    if any(record.at > commit.at + _EPSILON_S for record in commit.records):
        yield "a record is younger than its commit"


def keys_keep_their_sessions(commit: Commit, rows: Rows) -> Iterator[str]:
    """An idempotency key leads to one session for as long as it is kept, and that session is there."""
    for change in commit.of("idempotency"):
        if change.before is not None and change.after is not None and change.before != change.after:
            yield f"the key of session {change.before.trigger.session_id} leads to another one now"
        if change.after is not None and change.after.trigger.session_id not in rows.sessions:
            yield f"a key leads to session {change.after.trigger.session_id}, which is not there"
