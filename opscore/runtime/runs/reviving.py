"""Retrying a failed run from what failed, while keeping what was completed."""

from opscore.runtime.definitions.definition import Role
from opscore.runtime.models import Task, TaskStatus
from opscore.runtime.runs import progress
from opscore.runtime.runs.lifecycle import SessionEvent, TaskEvent
from opscore.runtime.runs.run import Draft, Run, Step


def revive(run: Run, now: float) -> Step:
    """Retry a failed run: what was completed stays, everything else begins anew."""
    draft = Draft(run, now)
    timeout_s = run.definition.session_timeout_s
    due_at = None if timeout_s is None else now + timeout_s
    again = [task for task in draft.every() if _begins_anew(draft, task)]
    draft.move_session(SessionEvent.REVIVE, error=None, ended_at=None, reason=None, due_at=due_at)
    for task in again:
        _renew(draft, task)
    progress.follow(draft)
    return draft.step()


def _begins_anew(draft: Draft, task: Task) -> bool:
    """Whether a task of a retried run has to begin anew."""
    match draft.of(task).role:
        case Role.STEP:
            # An item begins anew if its `forEach` task does and the item itself was not completed.
            step = draft.tasks[task.ordinal]
            failed = step.status is TaskStatus.FAILED and not progress.tolerated(draft, step)
            again = failed or step.status is TaskStatus.CANCELLED
            return again and task.status in (TaskStatus.FAILED, TaskStatus.CANCELLED)
        case Role.FALLBACK:
            return not progress.tolerated(draft, progress.step_of(draft, task))
        case _:
            return True


def _renew(draft: Draft, task: Task) -> None:
    """Let a task begin anew. Its attempt number goes on counting, because it is the fencing token."""
    draft.move(
        task,
        TaskEvent.REVIVE,
        retries=0,
        bounces=0,
        ready_at=None,
        due_at=None,
        closes_at=None,
        ended_at=None,
        items=None,
        result=None,
        error=None,
        dead=False,
    )


def compensated(run: Run) -> bool:
    """Whether undoing the run has begun, so that it can't be retried."""
    handlers = (task for task in run.tasks if run.task_definition(task).role is Role.COMPENSATION)
    return any(task.status not in (TaskStatus.PENDING, TaskStatus.SKIPPED) for task in handlers)
