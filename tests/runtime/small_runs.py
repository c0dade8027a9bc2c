"""Small runs to begin with, and short words for what happens to them."""

import random
from typing import Any

from opscore.runtime.definitions.definition import parse
from opscore.runtime.limits import Limits
from opscore.runtime.models import Failure, Session, Task
from opscore.runtime.runs import transitions
from opscore.runtime.runs.run import Run, Step

LIMITS = Limits(dispatch_attempts_max=3)
NOW = 1_000.0
ERROR = Failure(message="it broke", code="broke")
FATAL = Failure(message="it can't be", code="fatal")
LOST = Failure(message="it went silent", code="lost")


def begun(*tasks: dict[str, Any], **fields: Any) -> Step:
    document = {
        "id": "w",
        "tasks": [task if "type" in task else {"agentCapability": "any", **task} for task in tasks],
        **fields,
    }
    definition = parse(document, LIMITS)
    session = Session(session_id="ses", workflow_id="w", definition_key=definition.digest, created_at=NOW)
    return transitions.begin(session, definition, NOW)


def run_of(*tasks: dict[str, Any], **fields: Any) -> Run:
    return begun(*tasks, **fields).run


def found(run: Run, task_id: str) -> Task:
    task = run.find(task_id)
    assert task is not None, f"the run has no task {task_id}"
    return task


def dispatched(run: Run, task_id: str, now: float = NOW) -> Run:
    return transitions.dispatch(run, found(run, task_id), "agent", now).run


def started(run: Run, task_id: str) -> Step:
    return transitions.start(run, found(run, task_id), NOW)


def completed(run: Run, task_id: str, result: Any = None, now: float = NOW) -> Step:
    return transitions.complete(run, found(run, task_id), result, now)


def failed(run: Run, task_id: str, error: Failure = ERROR, *, retryable: bool = True, seed: int = 0) -> Step:
    return transitions.fail(run, found(run, task_id), error, NOW, random.Random(seed), retryable=retryable)


def bounced(run: Run, task_id: str) -> Step:
    return transitions.bounce(run, found(run, task_id), LOST, NOW, random.Random(0), LIMITS)


def statuses(run: Run) -> list[str]:
    return [task.status.value for task in run.tasks]
