"""Promises about failures: why a run fails, and which of its tasks are dead letters."""

from collections.abc import Iterator
from typing import Final

from opscore.runtime.definitions.definition import Role, TaskDefinition
from opscore.runtime.journal.tables import SESSIONS, TASKS, session_of
from opscore.runtime.models import SESSION_ENDED, Failure, Session, Task, TaskStatus
from opscore.runtime.runs.lifecycle import KIND_DISCARDED
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.promises.sessions import harmless
from opscore.runtime.simulation.promises.tasks import decided_at
from opscore.runtime.simulation.rows import Change, Commit, Rows

_EPSILON_S: Final = 1e-6
_AT_THE_END: Final = (Role.COMPENSATION, Role.ON_FAILURE)


def runs_fail_by_what_failed(commit: Commit, rows: Rows) -> Iterator[str]:
    """A run's error is that of a permanently failed task, its timeout or its outputs, and never changes."""
    for change in commit.of(SESSIONS.name):
        before, after = change.before, change.after
        if after is None:
            continue
        # A run that changes after its end is being retried, and no longer has an error.
        had_ended = before is not None and before.status in SESSION_ENDED
        error = None if before is None or had_ended else before.error
        if error == after.error or (had_ended and before == after):
            continue
        if error is not None:
            yield f"session {change.key} failed by {error.message!r}, and now by {after.error}"
        elif after.error not in _causes(change, commit, rows) and not _has_no_result(after, rows):
            yield f"session {change.key} fails by {after.error}, and nothing of it failed so"


def _causes(change: Change, commit: Commit, rows: Rows) -> Iterator[Failure]:
    """Yield the errors with which a run may fail, given the state of its tasks."""
    tasks = {task.key: task for task in rows.tasks_of(change.key)}
    definition = rows.definition(change.after)
    for step in definition.tasks:
        task = tasks[step.key]
        if step.role is Role.STEP and _is_served_no_more(step, tasks) and not harmless(task, tasks, rows):
            cause = task.error or Failure(message="unknown")
            yield Failure(message=f"task {step.key!r} failed: {cause.message}", code=cause.code)
    due_at = None if change.before is None else change.before.due_at
    if due_at is not None and due_at <= decided_at(commit, change.key) + _EPSILON_S:
        yield Failure(message=f"it took longer than {definition.session_timeout_s:g} s", code="session_timeout")


def _is_served_no_more(step: TaskDefinition, tasks: dict[str, Task]) -> bool:
    """Whether a step has failed, and so has its fallback, if it has one."""
    keys = (step.key,) if step.fallback is None else (step.key, step.fallback)
    return all(tasks[key].status is TaskStatus.FAILED for key in keys)


def _has_no_result(session: Session, rows: Rows) -> bool:
    """Whether a run has failed because its outputs have no value."""
    by_outputs = session.error is not None and session.error.message.startswith("outputs: ")
    return by_outputs and rows.definition(session).outputs is not None


def dead_letters_are_what_failed(commit: Commit, rows: Rows) -> Iterator[str]:
    """When a run ends, its dead letters are the permanent failures of its handlers, and of its steps if it failed."""
    for change in commit.of(SESSIONS.name):
        session: Session | None = change.after
        if session is None or session.status not in SESSION_ENDED or change.before == session:
            continue
        tasks = {task.key: task for task in rows.tasks_of(change.key)}
        for task in rows.every_task_of(change.key):
            if task.dead != _failed_for_good(task, session, tasks, rows):
                stands = "a dead letter" if task.dead else "no dead letter"
                yield f"session {change.key} is {session.status}, and {task.task_id}, {task.status}, is {stands}"


def dead_letters_stay_until_somebody_acts(commit: Commit, rows: Rows) -> Iterator[str]:
    """A dead letter stays one until it is discarded or its run is retried, and a discarded one never returns."""
    for change in commit.of(TASKS.name):
        before, after = change.before, change.after
        if before is None or after is None or before.dead == after.dead:
            continue
        said = {record.kind for record in commit.records if record.entity_id == change.key}
        if before.dead and before.status is after.status and KIND_DISCARDED not in said:
            # A run that is cancelled after it was retried has no dead letters, whatever had failed.
            if not _is_tried_again(change.key, rows):
                yield f"task {change.key} is no dead letter any more, and nobody discarded it"
        elif after.dead and (change.key, after.ended_at) in rows.ledger.discarded:
            yield f"task {change.key} was discarded, and is a dead letter again"


def discards_are_durable(reply: Reply, rows: Rows) -> Iterator[str]:
    """A dead letter whose discard was acknowledged is discarded on the disk, and stays so unless its run is retried."""
    if reply.call != "discard":
        return
    task: Task = reply.value
    stored = rows.tasks.get(task.task_id)
    if task.dead or (stored is not None and stored.dead and stored.ended_at == task.ended_at):
        yield f"task {task.task_id} is discarded, and is a dead letter"
    rows.ledger.discarded.add((task.task_id, task.ended_at))


def _is_tried_again(task_id: str, rows: Rows) -> bool:
    return session_of(task_id) in rows.ledger.retried


def _failed_for_good(task: Task, session: Session, tasks: dict[str, Task], rows: Rows) -> bool:
    """Whether a task failed permanently and made its run fail, or is a handler that failed permanently."""
    if task.status is not TaskStatus.FAILED:
        return False
    definition = rows.task_definition(task)
    if definition.role in _AT_THE_END:
        return True
    if session.cancelled_at is not None:
        # A cancelled run cannot be retried, whatever failed before or after.
        return False
    if session.error is None or (task.item is not None and definition.continue_on_failure):
        return False
    # An item fails with its list, and a fallback with the step that it replaces.
    served = (each.key for each in rows.definition(session).tasks if each.fallback == task.key)
    step = tasks[next(served, task.key)]
    return not harmless(step, tasks, rows)
