"""The state tables of tasks and sessions, which hold every transition that is possible.

A pair of state and event that is not in its table is a bug, and raises `ImpossibleTransition`.
"""

from collections.abc import Mapping
from enum import StrEnum
from typing import Final

from opscore.runtime.models import SessionStatus, TaskStatus

KIND_DEAD: Final = "task.dead"
KIND_DISCARDED: Final = "task.discarded"
"""Kinds of records of a task that failed before: it became a dead letter, or is no longer one."""


class TaskEvent(StrEnum):
    """What can happen to a task."""

    RELEASE = "release"
    AWAIT = "await"
    """It begins without an agent: it waits for a signal, a delay, a child run or the items of a list."""
    SKIP = "skip"
    DISPATCH = "dispatch"
    START = "start"
    COMPLETE = "complete"
    RETRY = "retry"
    FAIL = "fail"
    REQUEUE = "requeue"
    CANCEL = "cancel"
    REVIVE = "revive"
    """Its run is retried."""


class SessionEvent(StrEnum):
    """What can happen to a session."""

    DISPATCH = "dispatch"
    COMPLETE = "complete"
    FAIL = "fail"
    CANCEL = "cancel"
    SETTLE = "settle"
    PAUSE = "pause"
    RESUME = "resume"
    RESUME_FAILING = "resume_failing"
    RESUME_CANCELLING = "resume_cancelling"
    REVIVE = "revive"


TASK_TABLE: Final[Mapping[tuple[TaskStatus, TaskEvent], TaskStatus]] = {
    (TaskStatus.PENDING, TaskEvent.RELEASE): TaskStatus.READY,
    (TaskStatus.PENDING, TaskEvent.AWAIT): TaskStatus.RUNNING,
    (TaskStatus.PENDING, TaskEvent.SKIP): TaskStatus.SKIPPED,
    (TaskStatus.PENDING, TaskEvent.COMPLETE): TaskStatus.COMPLETED,
    (TaskStatus.PENDING, TaskEvent.FAIL): TaskStatus.FAILED,
    (TaskStatus.PENDING, TaskEvent.CANCEL): TaskStatus.CANCELLED,
    (TaskStatus.READY, TaskEvent.DISPATCH): TaskStatus.DISPATCHED,
    (TaskStatus.READY, TaskEvent.FAIL): TaskStatus.FAILED,
    (TaskStatus.READY, TaskEvent.CANCEL): TaskStatus.CANCELLED,
    (TaskStatus.DISPATCHED, TaskEvent.START): TaskStatus.RUNNING,
    (TaskStatus.DISPATCHED, TaskEvent.COMPLETE): TaskStatus.COMPLETED,
    (TaskStatus.DISPATCHED, TaskEvent.RETRY): TaskStatus.PENDING_RETRY,
    (TaskStatus.DISPATCHED, TaskEvent.FAIL): TaskStatus.FAILED,
    (TaskStatus.DISPATCHED, TaskEvent.REQUEUE): TaskStatus.READY,
    (TaskStatus.DISPATCHED, TaskEvent.CANCEL): TaskStatus.CANCELLED,
    (TaskStatus.RUNNING, TaskEvent.COMPLETE): TaskStatus.COMPLETED,
    (TaskStatus.RUNNING, TaskEvent.RETRY): TaskStatus.PENDING_RETRY,
    (TaskStatus.RUNNING, TaskEvent.FAIL): TaskStatus.FAILED,
    (TaskStatus.RUNNING, TaskEvent.REQUEUE): TaskStatus.READY,
    (TaskStatus.RUNNING, TaskEvent.CANCEL): TaskStatus.CANCELLED,
    (TaskStatus.PENDING_RETRY, TaskEvent.RELEASE): TaskStatus.READY,
    (TaskStatus.PENDING_RETRY, TaskEvent.AWAIT): TaskStatus.RUNNING,
    (TaskStatus.PENDING_RETRY, TaskEvent.FAIL): TaskStatus.FAILED,
    (TaskStatus.PENDING_RETRY, TaskEvent.CANCEL): TaskStatus.CANCELLED,
    (TaskStatus.COMPLETED, TaskEvent.REVIVE): TaskStatus.PENDING,
    (TaskStatus.FAILED, TaskEvent.REVIVE): TaskStatus.PENDING,
    (TaskStatus.CANCELLED, TaskEvent.REVIVE): TaskStatus.PENDING,
    (TaskStatus.SKIPPED, TaskEvent.REVIVE): TaskStatus.PENDING,
}

SESSION_TABLE: Final[Mapping[tuple[SessionStatus, SessionEvent], SessionStatus]] = {
    (SessionStatus.STARTED, SessionEvent.DISPATCH): SessionStatus.RUNNING,
    (SessionStatus.STARTED, SessionEvent.COMPLETE): SessionStatus.COMPLETED,
    (SessionStatus.STARTED, SessionEvent.FAIL): SessionStatus.FAILING,
    (SessionStatus.STARTED, SessionEvent.CANCEL): SessionStatus.CANCELLING,
    (SessionStatus.STARTED, SessionEvent.PAUSE): SessionStatus.PAUSED,
    (SessionStatus.RUNNING, SessionEvent.COMPLETE): SessionStatus.COMPLETED,
    (SessionStatus.RUNNING, SessionEvent.FAIL): SessionStatus.FAILING,
    (SessionStatus.RUNNING, SessionEvent.CANCEL): SessionStatus.CANCELLING,
    (SessionStatus.RUNNING, SessionEvent.PAUSE): SessionStatus.PAUSED,
    (SessionStatus.FAILING, SessionEvent.CANCEL): SessionStatus.CANCELLING,
    (SessionStatus.FAILING, SessionEvent.PAUSE): SessionStatus.PAUSED,
    (SessionStatus.FAILING, SessionEvent.SETTLE): SessionStatus.FAILED,
    (SessionStatus.CANCELLING, SessionEvent.PAUSE): SessionStatus.PAUSED,
    (SessionStatus.CANCELLING, SessionEvent.SETTLE): SessionStatus.CANCELLED,
    (SessionStatus.PAUSED, SessionEvent.CANCEL): SessionStatus.CANCELLING,
    (SessionStatus.PAUSED, SessionEvent.RESUME): SessionStatus.RUNNING,
    (SessionStatus.PAUSED, SessionEvent.RESUME_FAILING): SessionStatus.FAILING,
    (SessionStatus.PAUSED, SessionEvent.RESUME_CANCELLING): SessionStatus.CANCELLING,
    (SessionStatus.FAILED, SessionEvent.REVIVE): SessionStatus.RUNNING,
}


class ImpossibleTransition(AssertionError):
    """The table has no transition for this state and event: a bug, never a condition to be handled."""
