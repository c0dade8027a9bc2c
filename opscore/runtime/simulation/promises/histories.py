"""Promises about the journal as the history of a run: no record of it is missing."""

from collections.abc import Iterator
from typing import Final

from opscore.runtime.journal.tables import OPEN_SESSIONS, SESSIONS, TASKS
from opscore.runtime.models import TASK_ENDED, TaskStatus
from opscore.runtime.runs.lifecycle import KIND_DEAD, KIND_DISCARDED, TASK_TABLE
from opscore.runtime.simulation.rows import Commit, Rows

_MOVES: Final = {(before, after) for (before, _), after in TASK_TABLE.items()}
_OF_RUNS: Final = frozenset({"task", "session", "signal"})
_RUN_TABLES: Final = (OPEN_SESSIONS.name, SESSIONS.name, TASKS.name)


def records_lead_back(commit: Commit, rows: Rows) -> Iterator[str]:
    """Each record of a run names the previous commit that wrote about the run, so that its history can be followed."""
    for record in commit.records:
        if record.session_id is None or record.entity not in _OF_RUNS:
            continue
        newest = rows.newest.get(record.session_id, 0)
        if record.data.get("previous") != newest:
            named = record.data.get("previous")
            yield f"{record.kind} of {record.entity_id} names commit {named}, and the one before is {newest}"
    for table in _RUN_TABLES:
        for change in commit.of(table):
            rows.newest[change.key.partition(".")[0]] = commit.version


def records_tell_every_step(commit: Commit, rows: Rows) -> Iterator[str]:
    """The records of a task in a commit are transitions of the table, one after another, from its status before."""
    told: dict[str, list[TaskStatus]] = {}
    for record in commit.records:
        if record.entity == "task" and record.kind not in (KIND_DEAD, KIND_DISCARDED):
            told.setdefault(record.entity_id, []).append(TaskStatus(record.kind.removeprefix("task.")))
    for change in commit.of(TASKS.name):
        if change.before is not None and change.before.status in TASK_ENDED:
            # A task that is retried after its end starts over in the same commit.
            continue
        stood = TaskStatus.PENDING if change.before is None else change.before.status
        for status in told.get(change.key, ()):
            if status is not stood and (stood, status) not in _MOVES:
                yield f"task {change.key} is told to go from {stood} to {status}"
            stood = status
