"""Promises about times: how long tasks and runs may wait and take, and how long agents may be silent."""

import math
from collections.abc import Iterator
from typing import Final

from opscore.runtime.definitions.definition import Role
from opscore.runtime.delivery import TIMEOUT
from opscore.runtime.journal.tables import LEASES, SESSIONS, TASKS
from opscore.runtime.models import SESSION_ENDED, TASK_ENDED, Task, TaskStatus
from opscore.runtime.simulation.promises.dispatch import granted
from opscore.runtime.simulation.promises.tasks import COMMITS_WITHIN_S, decided_at
from opscore.runtime.simulation.rows import Commit, Rows
from opscore.runtime.timers import STOOD_STILL_S

_EPSILON_S: Final = 1e-6
NOTICED_S: Final = 45.0
"""How long it takes at most to notice that the clock was moved, plus the short time that agents have at least."""
ASKED_WITHIN_S: Final = 1.5
"""How long it may take to learn which agents are free, with a margin."""
NOT_CLOSED: Final = "schedule_to_close"
"""The error code of a task whose `scheduleToCloseSeconds` are over."""
LISTENS_S: Final = 0.2
"""How long a node that stood still listens to earlier reports at least, before it counts any agent as silent."""
LISTENS_LONG_S: Final = 9.0
"""The same for an agent whose time had been over for long when the node went on."""
_OVER_BY_TIME: Final = frozenset({"agent.lease_expired", "agent.fell_silent", "agent.timed_out"})
_NOT_BEGUN: Final = TASK_ENDED | {TaskStatus.PENDING}


def tasks_close_when_they_have_to(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task has `scheduleToCloseSeconds` for all its attempts from when it begins, and again if its run is retried."""
    for change in commit.of(TASKS.name):
        before, after = change.before, change.after
        if after is None or after.status in _NOT_BEGUN or after.items is not None:
            continue
        closes_at = None if before is None else before.closes_at
        if before is None or before.status in _NOT_BEGUN:
            begins_at = (after.started_at if after.awaits else after.ready_at) or 0.0
            allowed_s = rows.task_definition(after).schedule_to_close_s
            closes_at = None if allowed_s is None else begins_at + allowed_s
        if not _is_same(after.closes_at, closes_at):
            yield f"task {change.key} has to end at {after.closes_at}, and should have to at {closes_at}"


def tasks_wait_as_long_as_they_may(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task waits for an agent for `scheduleToStartSeconds` each time, but not beyond `scheduleToCloseSeconds`."""
    for change in commit.of(TASKS.name):
        before, after = change.before, change.after
        if after is None or after.status is not TaskStatus.READY:
            continue
        due_at = (
            before.due_at if before is not None and before.status is TaskStatus.READY else _waits_until(after, rows)
        )
        if not _is_same(after.due_at, due_at):
            yield f"task {change.key} waits until {after.due_at}, and should until {due_at}"


def _waits_until(task: Task, rows: Rows) -> float | None:
    allowed_s = rows.task_definition(task).schedule_to_start_s
    times = (task.closes_at, None if allowed_s is None else (task.ready_at or 0.0) + allowed_s)
    return min((time for time in times if time is not None), default=None)


def nothing_begins_once_its_time_is_over(commit: Commit, rows: Rows) -> Iterator[str]:
    """No attempt begins after the deadline of its task or its run; tasks that undo a run are exempt from the run's.

    A second may pass between the decision and the search for a free agent, and more if the machine freezes.
    """
    if rows.clock_moved_within(COMMITS_WITHIN_S):
        return
    for lease in granted(commit):
        before = next((each.before for each in commit.of(TASKS.name) if each.key == lease.task_id), None)
        times = [before.due_at] if before is not None and before.status is TaskStatus.READY else []
        if rows.task_definition(rows.tasks[lease.task_id]).role in (Role.STEP, Role.FALLBACK):
            times.append(rows.sessions[lease.session_id].due_at)
        due_at = min((at for at in times if at is not None), default=math.inf)
        if lease.granted_at > due_at + ASKED_WITHIN_S and not due_at <= rows.thawed_at <= lease.granted_at:
            yield f"{lease.task_id} is given out {lease.granted_at - due_at:g} s after it had to be over"


def what_is_cut_off_says_by_what(commit: Commit, rows: Rows) -> Iterator[str]:
    """An attempt that runs out of time fails by `schedule_to_close` if that deadline came first, else by `timeout`."""
    for before, after in commit.moved_tasks:
        error = after.error
        failed = before.is_out and after.status in (TaskStatus.PENDING_RETRY, TaskStatus.FAILED)
        if not failed or error is None or error.code not in (TIMEOUT, NOT_CLOSED):
            continue
        closes_at, timeout_s = after.closes_at, rows.task_definition(after).timeout_s or math.inf
        closed = closes_at is not None and closes_at <= decided_at(commit, after.task_id)
        first = closes_at is not None and closes_at <= (before.dispatched_at or 0.0) + timeout_s
        if (closed and first) != (error.code == NOT_CLOSED):
            yield f"task {after.task_id} fails by {error.code}, and had to end at {closes_at}"


def runs_have_their_time(commit: Commit, rows: Rows) -> Iterator[str]:
    """A run has `sessionTimeoutSeconds` from when it begins, and again when it is retried."""
    for change in commit.of(SESSIONS.name):
        before, after = change.before, change.after
        if after is None or after.unwinding or after.status in SESSION_ENDED:
            continue
        if before is not None and before.status not in SESSION_ENDED:
            if before.due_at != after.due_at:
                yield f"session {change.key} was due at {before.due_at}, and is at {after.due_at}"
            continue
        allowed_s = rows.definition(after).session_timeout_s
        if allowed_s is None or after.due_at is None:
            if allowed_s is not after.due_at:
                yield f"session {change.key} is due at {after.due_at}, and may take {allowed_s}"
            continue
        # The run's beginning was decided after it was requested, or had ended, and before the commit.
        earliest = after.created_at if before is None else before.ended_at
        in_time = earliest - _EPSILON_S <= after.due_at - allowed_s <= commit.at + _EPSILON_S
        if not in_time and not rows.clock_moved_within(COMMITS_WITHIN_S):
            yield f"session {change.key} is due at {after.due_at}, and begins between {earliest} and {commit.at}"


def agents_have_time_to_speak(commit: Commit, rows: Rows) -> Iterator[str]:
    """After a restart no attempt runs out of time before its agent has had a full lease to report."""
    for record in commit.records:
        lease = rows.leases.get(record.entity_id) if record.kind == "agent.resumed" else None
        if lease is None:
            continue
        over_at = lease.timeout_at if lease.silent_at is None else min(lease.timeout_at, lease.silent_at)
        if over_at < record.at + lease.lease_s - _EPSILON_S:
            yield f"{lease.agent_id} has {over_at - record.at:g} s to speak of {lease.task_id} after a restart"


def attempts_have_their_time_whatever_the_clock_shows(commit: Commit, rows: Rows) -> Iterator[str]:
    """When the clock is moved, agents get a full lease to report, and attempts keep the time that they had left.

    The latter is checked only if nothing but the clock goes wrong in the node: an actor that crashes while it handles
    the change, or waits for its disk while the clock moves again, computes wrong times. Attempts that were dispatched
    while the clock was moved may have longer, which does no harm.
    """
    for record in commit.records:
        lease = rows.leases.get(record.entity_id) if record.kind == "agent.given_time" else None
        if lease is None:
            continue
        who, told_s = f"{lease.agent_id} is given time for {lease.task_id}", record.data["seconds"]
        if told_s > 0 and lease.expires_at < record.at + lease.lease_s - _EPSILON_S:
            yield f"{who}, and has {lease.expires_at - record.at:g} s to speak"
        if told_s < 0 and lease.expires_at > record.at + lease.lease_s + _EPSILON_S:
            yield f"{who}, and may be silent for {lease.expires_at - record.at:g} s"
        granted_at, allowed_s = rows.granted[lease.agent_id], rows.task_definition(rows.task(lease.task_id)).timeout_s
        # An attempt that was decided before the change and committed after it counts from the decision.
        unclear = rows.node_may_fail or granted_at in (rows.clock_moved_at, rows.thawed_at)
        if (
            unclear
            or granted_at <= rows.opened_at
            or rows.task(lease.task_id).closes_at is not None
            or allowed_s is None
        ):
            continue
        left_s, due_s = lease.timeout_at - record.at, granted_at + allowed_s - record.at
        if left_s < max(due_s, 0.0) - NOTICED_S:
            yield f"{who}, and has {left_s:g} s left of {allowed_s:g}, of which {record.at - granted_at:g} are over"


def what_was_said_meanwhile_is_heard(commit: Commit, rows: Rows) -> Iterator[str]:
    """After a freeze no attempt that was still in time before it is ended before pending reports are heard.

    This is checked only if nothing else goes wrong in the node: an actor that looks at an attempt because another one
    crashed, or that waits for its disk, may do so just when the machine freezes.
    """
    if rows.node_may_fail:
        return
    for record in commit.records:
        if record.kind not in _OVER_BY_TIME:
            continue
        lease = next((change.before for change in commit.of(LEASES.name) if change.key == record.entity_id), None)
        listened_s = record.at - rows.thawed_at
        if lease is None or lease.due_at <= rows.froze_at or listened_s < 0.0:
            continue
        for_long = lease.due_at < rows.thawed_at - STOOD_STILL_S
        if listened_s < (LISTENS_LONG_S if for_long else LISTENS_S):
            yield f"{record.kind} ends {lease.task_id} {listened_s:g} s after everything stood still"


def agents_may_be_silent_anew(commit: Commit, rows: Rows) -> Iterator[str]:
    """From each sign of life on, an agent may be silent for `heartbeatSeconds`."""
    for record in commit.records:
        lease = rows.leases.get(record.entity_id) if record.kind in ("agent.started", "agent.renewed") else None
        if lease is None or lease.heartbeat_s is None:
            continue
        goes_on = lease.tool or record.entity_id not in rows.agents or rows.is_functions(lease)
        if record.kind == "agent.renewed" and goes_on:
            # The node itself sees that a function or a call is still under way; this is no report of an agent.
            continue
        if not _is_same(lease.silent_at, record.at + lease.heartbeat_s):
            yield f"{lease.agent_id} shows life at {record.at}, and may be silent until {lease.silent_at}"


def unknown_deliveries_are_waited_for_shortly(commit: Commit, rows: Rows) -> Iterator[str]:
    """After a delivery with unknown outcome, the agent has at most `unknown_outcome_lease_s` to show life."""
    for record in commit.records:
        lease = rows.leases.get(record.entity_id) if record.kind == "agent.delivery_unknown" else None
        if lease is None or lease.active_seen or lease.heartbeat_seen:
            continue
        left_s = lease.expires_at - record.at
        if left_s > rows.limits.unknown_outcome_lease_s + _EPSILON_S:
            yield f"{lease.agent_id} may not have got {lease.task_id}, and has {left_s:g} s to show life"


def _is_same(one: float | None, other: float | None) -> bool:
    if one is None or other is None:
        return one is other
    return abs(one - other) <= _EPSILON_S
