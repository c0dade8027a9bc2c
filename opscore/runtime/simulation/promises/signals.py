"""Promises about signals: each is numbered, and goes to one task that waits for its name."""

from collections.abc import Iterator

from opscore.runtime.definitions.definition import TaskKind
from opscore.runtime.journal.tables import SIGNALS, TASKS
from opscore.runtime.models import Signal, Task, TaskStatus
from opscore.runtime.simulation.rows import Commit, Rows


def signals_are_numbered_as_they_come(commit: Commit, rows: Rows) -> Iterator[str]:
    """The signals of a run are numbered from 0 in the order in which they came, without gaps or duplicates."""
    for session_id in {change.after.session_id for change in commit.of(SIGNALS.name) if change.before is None}:
        numbers = sorted(signal.number for signal in rows.signals.values() if signal.session_id == session_id)
        if numbers != list(range(len(numbers))):
            yield f"the signals of session {session_id} are numbered {numbers}"


def signals_are_taken_once_and_in_order(commit: Commit, rows: Rows) -> Iterator[str]:
    """A signal becomes the result of one task that waits for its name, in the order in which signals came."""
    for change in commit.of(SIGNALS.name):
        before, after = change.before, change.after
        if after is None:
            continue
        if before is not None and before.taken_by is not None and before != after:
            yield f"signal {change.key} was for {before.taken_by}, and changes"
        if after.taken_by is None or (before is not None and before.taken_by is not None):
            continue
        task = rows.tasks.get(after.taken_by)
        if task is None or task.status is not TaskStatus.COMPLETED or task.result != after.payload:
            yield f"signal {change.key} is for {after.taken_by}, which has not got it"
        yield from _out_of_turn(after, rows)


def _out_of_turn(signal: Signal, rows: Rows) -> Iterator[str]:
    for other in rows.signals.values():
        same = other.session_id == signal.session_id and other.name == signal.name
        if same and other.number < signal.number and other.taken_by is None:
            yield f"signal {signal.signal_id} of {signal.session_id} is taken before {other.signal_id}"


def signals_find_who_waits(commit: Commit, rows: Rows) -> Iterator[str]:
    """No task waits for a signal that has come and that no other task has taken."""
    for change in (*commit.of(SIGNALS.name), *commit.of(TASKS.name)):
        if change.after is None:
            continue
        session_id = change.after.session_id
        left = [each for each in rows.signals.values() if each.session_id == session_id and not each.taken_by]
        for task in rows.every_task_of(session_id) if left else ():
            if any(_waits_for(task, signal, rows) for signal in left):
                yield f"task {task.task_id} waits for {rows.task_definition(task).signal!r}, which has come"


def who_waited_first_is_told_first(commit: Commit, rows: Rows) -> Iterator[str]:
    """Of several tasks that wait for a signal, the one that began first takes it."""
    for change in commit.of(SIGNALS.name):
        signal: Signal | None = change.after
        if signal is None or signal.taken_by is None or (change.before is not None and change.before.taken_by):
            continue
        began_at = rows.tasks[signal.taken_by].started_at or 0.0
        for task in rows.every_task_of(signal.session_id):
            if _waits_for(task, signal, rows) and (task.started_at or 0.0) < began_at:
                yield f"signal {signal.signal_id} is for {signal.taken_by}, and {task.task_id} waits for longer"


def _waits_for(task: Task, signal: Signal, rows: Rows) -> bool:
    # A task with a list waits for its items, not for a signal.
    if not task.awaits or task.items is not None:
        return False
    definition = rows.task_definition(task)
    return definition.kind is TaskKind.SIGNAL and definition.signal == signal.name
