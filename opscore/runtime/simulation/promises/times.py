"""What every commit has to keep of times: until when tasks and runs may wait and take, and agents be silent."""

import math
from collections.abc import Iterator
from typing import Final

from opscore.runtime.definitions.definition import Role
from opscore.runtime.delivery import TIMEOUT
from opscore.runtime.models import SESSION_ENDED, TASK_ENDED, Task, TaskStatus
from opscore.runtime.simulation.promises.dispatch import granted
from opscore.runtime.simulation.promises.tasks import COMMITS_WITHIN_S, decided_at
from opscore.runtime.simulation.rows import Commit, Rows
from opscore.runtime.tables import LEASES, SESSIONS, TASKS
from opscore.runtime.timers import STOOD_STILL_S

_EPSILON_S: Final = 1e-6
NOTICED_S: Final = 45.0
"""How long it takes at most until it is noticed that the clock was moved, and the little that agents have at least."""
ASKED_WITHIN_S: Final = 1.5
"""How long it may take to learn who is free, and a little."""
NOT_CLOSED: Final = "schedule_to_close"
"""The code of a task whose own time is over."""
LISTENS_S: Final = 0.2
"""How long at least a node that stood still listens to what was said meanwhile, before it takes anybody for silent."""
LISTENS_LONG_S: Final = 9.0
"""The same, where somebody's time was over for long when it went on."""
_OVER_BY_TIME: Final = frozenset({"agent.lease_expired", "agent.fell_silent", "agent.timed_out"})
_NOT_BEGUN: Final = TASK_ENDED | {TaskStatus.PENDING}


def tasks_close_when_they_have_to(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task has `scheduleToCloseSeconds` for all attempts from when it begins, and anew where its run is retried."""
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
    """A task waits for an agent for `scheduleToStartSeconds`, each time anew, and not beyond the end of its time."""
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
    """No attempt begins of a task, or of a run, that had to be over before; what undoes a run may take longer.

    Between the decision and the question who is free a second may pass, and more where everything stands still.
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
    """What time ends fails by `schedule_to_close` where the time of its task was over first, and else by `timeout`."""
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
    """A run has `sessionTimeoutSeconds` from when it begins, and anew when it is tried again."""
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
        # When it was decided that it begins lies between when it was asked for, or had ended, and the commit.
        earliest = after.created_at if before is None else before.ended_at
        in_time = earliest - _EPSILON_S <= after.due_at - allowed_s <= commit.at + _EPSILON_S
        if not in_time and not rows.clock_moved_within(COMMITS_WITHIN_S):
            yield f"session {change.key} is due at {after.due_at}, and begins between {earliest} and {commit.at}"


def agents_have_time_to_speak(commit: Commit, rows: Rows) -> Iterator[str]:
    """After a restart no time of an attempt is over before its agent had a lease to speak."""
    for record in commit.records:
        lease = rows.leases.get(record.entity_id) if record.kind == "agent.resumed" else None
        if lease is None:
            continue
        over_at = lease.timeout_at if lease.silent_at is None else min(lease.timeout_at, lease.silent_at)
        if over_at < record.at + lease.lease_s - _EPSILON_S:
            yield f"{lease.agent_id} has {over_at - record.at:g} s to speak of {lease.task_id} after a restart"


def attempts_have_their_time_whatever_the_clock_shows(commit: Commit, rows: Rows) -> Iterator[str]:
    """Where the clock was moved, agents get a full lease to speak, and attempts keep the whole time that they have.

    Nothing but the clock may go wrong in the node: who crashes as it is told of the clock, or waits for its disk as it
    moves again, has it wrong. That some have longer, because they were given out as the clock was moved, is no harm.
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
        # What was decided before that, and committed after it, counts from the decision.
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
    """Where everything stood still, no attempt whose time was not over before is over until what was said is heard.

    Nothing else may go wrong in the node: who is told to look at an attempt because an actor crashed, or waits for its
    disk, may do so just as everything stands still.
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
    """Whoever shows life may be silent for `heartbeatSeconds` from that moment on."""
    for record in commit.records:
        lease = rows.leases.get(record.entity_id) if record.kind in ("agent.started", "agent.renewed") else None
        if lease is None or lease.heartbeat_s is None:
            continue
        goes_on = lease.tool or record.entity_id not in rows.agents or rows.is_functions(lease)
        if record.kind == "agent.renewed" and goes_on:
            # That a function or a call is still under way, the node sees itself: nobody has said anything.
            continue
        if not _is_same(lease.silent_at, record.at + lease.heartbeat_s):
            yield f"{lease.agent_id} shows life at {record.at}, and may be silent until {lease.silent_at}"


def unknown_deliveries_are_waited_for_shortly(commit: Commit, rows: Rows) -> Iterator[str]:
    """An agent of which nobody knows whether it got its attempt has at most `unknown_outcome_lease_s` to show life."""
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
