"""opscore's sessions as both its contender and the floor need them."""

from collections import Counter
from pathlib import Path
from typing import Any, Final

from bench.tasks.clients import WrongResultError
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import SESSIONS, TASKS
from opscore.runtime.models import Session, SessionStatus, TaskStatus

CAPABILITY: Final = "counting"
CHAIN_TASKS: Final = 10
TASKS_EACH: Final = {"sequential": 1, "concurrent": 1, "chain": CHAIN_TASKS}
"""Number of tasks in a row of a session, by workload."""
MAP_BYTES: Final = 8 * 1024**3


class LostRunError(Exception):
    """A run that was reported as ended is missing."""

    def __init__(self, lost: int, acknowledged: int) -> None:
        super().__init__(f"{lost} of {acknowledged} runs that were said to have ended have not, after a reopening")


def workflow(tasks: int) -> dict[str, Any]:
    """Return a workflow of a number of tasks in a row."""
    last = tasks - 1
    return {
        "id": "counted",
        "tasks": [
            {"taskId": f"task-{index}", "agentCapability": CAPABILITY}
            | ({} if index == last else {"nextTaskId": f"task-{index + 1}"})
            for index in range(tasks)
        ],
    }


def check_result(session: Session, number: int, tasks: int) -> None:
    """Check that the last task of a run has returned the next number."""
    if session.result != {f"task-{tasks - 1}": number + 1}:
        raise WrongResultError(number, session.result)


def check_completed(path: Path, acknowledged: set[str], tasks: int) -> None:
    """Open the store again, and check that each of these runs has completed, with all of its tasks."""
    with open_store(path, map_bytes=MAP_BYTES) as store, store.snapshot() as view:
        sessions = {
            session.session_id for session, _ in SESSIONS.scan(view) if session.status is SessionStatus.COMPLETED
        }
        done = Counter(task.session_id for task, _ in TASKS.scan(view) if task.status is TaskStatus.COMPLETED)
    lost = {run for run in acknowledged if run not in sessions or done[run] != tasks}
    if lost:
        raise LostRunError(len(lost), len(acknowledged))
