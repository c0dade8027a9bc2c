"""Compares the journal with the state machine of a run."""

from collections.abc import Iterable
from typing import Final

import attrs

from opscore.runtime.models import SESSION_ENDED, TASK_ENDED, TASK_OPEN, Record, SessionStatus, Task, TaskStatus
from opscore.runtime.runs.lifecycle import TASK_TABLE

_MOVES: Final = frozenset((before, after) for (before, _), after in TASK_TABLE.items())
_FIRST: Final = frozenset({TaskStatus.PENDING, TaskStatus.READY})


@attrs.define
class TaskHistory:
    """The state of a task, by its records."""

    status: TaskStatus
    attempt: int = 0
    holders: dict[int, str] = attrs.field(factory=dict)
    """The agent of each attempt."""
    failed: set[int] = attrs.field(factory=set)
    """The attempts that ended as failures."""
    started: set[int] = attrs.field(factory=set)
    """The attempts that showed life."""


class History:
    """The journal so far, which takes the records in order and collects contradictions as faults."""

    def __init__(self) -> None:
        self.tasks: dict[str, TaskHistory] = {}
        self.sessions: dict[str, SessionStatus] = {}

    def follow(self, records: Iterable[tuple[int, Record]]) -> list[str]:
        """Take new records, and return their faults."""
        faults: list[str] = []
        for number, record in records:
            kind = record.kind.partition(".")[2]
            if record.entity == "task":
                found = self._task(record.entity_id, TaskStatus(kind), record.data["attempt"], record.data["agentId"])
            elif record.entity == "session":
                found = self._session(record.entity_id, SessionStatus(kind))
            else:
                found = None
            if found is not None:
                faults.append(f"journal record {number}: {found}")
        return faults

    def _task(self, task_id: str, status: TaskStatus, attempt: int, agent_id: str | None) -> str | None:
        task = self.tasks.get(task_id)
        if task is None:
            self.tasks[task_id] = TaskHistory(status)
            return None if (status in _FIRST and not attempt) else f"task {task_id} begins as {status}, at {attempt}"
        before, task.status = task.status, status
        expected = task.attempt + 1 if status is TaskStatus.DISPATCHED else task.attempt
        before_attempt, task.attempt = task.attempt, attempt
        match status:
            case TaskStatus.DISPATCHED:
                task.holders[attempt] = str(agent_id)
            case TaskStatus.RUNNING:
                task.started.add(attempt)
            case TaskStatus.PENDING_RETRY | TaskStatus.FAILED:
                task.failed.add(attempt)
            case _:
                pass
        if (before, status) not in _MOVES:
            return f"task {task_id} went from {before} to {status}"
        if attempt != expected:
            return f"task {task_id} is {status} at attempt {attempt}, after {before_attempt}"
        return None

    def _session(self, session_id: str, status: SessionStatus) -> str | None:
        before = self.sessions.get(session_id)
        self.sessions[session_id] = status
        if before in SESSION_ENDED:
            return f"session {session_id} had ended as {before}, and is {status}"
        return None

    def disagreement(self, task: Task) -> str | None:
        """Yield how a task's row contradicts its records."""
        known = self.tasks.get(task.task_id)
        if known is None:
            return f"task {task.task_id} stands in no journal record"
        if (task.status, task.attempt) != (known.status, known.attempt):
            row, told = f"{task.status} at attempt {task.attempt}", f"{known.status} at attempt {known.attempt}"
            return f"task {task.task_id} is {row}, and by the journal {told}"
        return None


def is_open(task: Task | None, attempt: int) -> bool:
    """Whether this attempt of the task is out with an agent."""
    return task is not None and task.attempt == attempt and task.status in TASK_OPEN


def has_ended(task: Task) -> bool:
    """Whether nothing more happens to the task."""
    return task.status in TASK_ENDED
