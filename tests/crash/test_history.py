"""What the harness makes of a journal: every line that can't follow those before it is a finding."""

import pytest

from opscore.runtime.models import Record, Task, TaskStatus
from tests.crash.history import History

Line = tuple[str, int] | str
SOUND: list[Line] = [
    ("ready", 0),
    "started",
    ("dispatched", 1),
    "running",
    ("running", 1),
    ("pending_retry", 1),
    ("ready", 1),
    ("dispatched", 2),
    ("completed", 2),
    "completed",
]


def records(*lines: Line) -> list[tuple[int, Record]]:
    """Records of the one task, and of its session."""
    return [(number, record(line)) for number, line in enumerate(lines, start=1)]


def record(line: Line) -> Record:
    if isinstance(line, str):
        return Record(at=0.0, entity="session", entity_id="run", kind=f"session.{line}")
    status, attempt = line
    data = {"attempt": attempt, "agentId": "ada" if attempt else None}
    return Record(at=0.0, entity="task", entity_id="run.0", kind=f"task.{status}", data=data)


def test_a_run_with_a_failure_and_a_retry_is_sound() -> None:
    history = History()
    assert history.follow(records(*SOUND)) == []
    told = history.tasks["run.0"]
    assert told.holders == {1: "ada", 2: "ada"}
    assert (told.started, told.failed) == ({1}, {1})


@pytest.mark.parametrize(
    ("lines", "finding"),
    [
        ([*SOUND, "completed"], "session run had ended as completed, and is completed"),
        ([*SOUND, ("completed", 2)], "task run.0 went from completed to completed"),
        ([*SOUND, ("dispatched", 3)], "task run.0 went from completed to dispatched"),
        ([("ready", 0), ("dispatched", 2)], "task run.0 is dispatched at attempt 2, after 0"),
        ([("ready", 0), ("dispatched", 1), ("completed", 2)], "task run.0 is completed at attempt 2, after 1"),
        ([("dispatched", 1)], "task run.0 begins as dispatched, at 1"),
    ],
)
def test_what_can_not_follow_is_found(lines: list[Line], finding: str) -> None:
    assert History().follow(records(*lines)) == [f"journal record {len(lines)}: {finding}"]


def test_a_row_that_contradicts_its_records_is_found() -> None:
    history = History()
    history.follow(records(("ready", 0), ("dispatched", 1)))
    task = Task(task_id="run.0", session_id="run", key="only", ordinal=0, status=TaskStatus.DISPATCHED, attempt=1)
    assert history.disagreement(task) is None
    history.follow(records(("completed", 1)))
    assert (
        history.disagreement(task) == "task run.0 is dispatched at attempt 1, and by the journal completed at attempt 1"
    )
