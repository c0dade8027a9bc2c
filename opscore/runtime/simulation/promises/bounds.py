"""Promises about dispatch limits: by capability, by workflow, and by concurrency key."""

from collections.abc import Iterator
from typing import Final

from opscore.runtime.journal.tables import LEASES, SLOTS
from opscore.runtime.lease import Lease
from opscore.runtime.models import Task
from opscore.runtime.simulation.rows import Commit, Rows

_EPSILON_S: Final = 1e-6


def slots_go_with_leases(commit: Commit, rows: Rows) -> Iterator[str]:
    """Every slot belongs to a lease that names it, and every lease has the slots that it names."""
    for change in commit.of(SLOTS.name):
        lease = None if change.after is None else rows.leases.get(change.after.agent_id)
        if change.after is not None and (lease is None or change.key not in lease.slots):
            yield f"slot {change.key} is taken by agent {change.after.agent_id}, whose lease does not name it"
        if change.before is not None and change.after is not None and change.before != change.after:
            yield f"slot {change.key} goes from {change.before.agent_id} to {change.after.agent_id} without being left"
    for change in commit.of(LEASES.name):
        for slot in change.after.slots if change.after is not None else ():
            if slot not in rows.slots or rows.slots[slot].agent_id != change.key:
                yield f"agent {change.key} holds a lease on {change.after.task_id} without its slot {slot}"
        for slot in change.before.slots if change.before is not None and change.after is None else ():
            if slot in rows.slots and rows.slots[slot].agent_id == change.key:
                yield f"slot {slot} is taken, and the lease of agent {change.key} is over"


def slots_stay_with_their_attempt(commit: Commit, rows: Rows) -> Iterator[str]:
    """An agent keeps the slots of its attempt until its lease ends, even if the attempt was taken back meanwhile."""
    for change in commit.of(LEASES.name):
        before, after = change.before, change.after
        if before is None or after is None or (before.task_id, before.attempt) != (after.task_id, after.attempt):
            continue
        if before.slots != after.slots:
            yield f"agent {change.key} is at {after.task_id} with {after.slots}, and was with {before.slots}"


def no_more_is_out_than_may(commit: Commit, rows: Rows) -> Iterator[str]:
    """No capability, workflow or concurrency key has more attempts out at once than its limit allows."""
    for lease in _granted(commit):
        for name, limit in rows.bounds_of(rows.tasks[lease.task_id]).items():
            out = len(rows.behind.get(name, ()))
            if limit.at_once is not None and out > limit.at_once:
                yield f"{lease.task_id} is given out as one of {out} of {name}, of which {limit.at_once} may be"


def no_more_begins_than_may(commit: Commit, rows: Rows) -> Iterator[str]:
    """No capability or workflow has more attempts begin within its interval than its limit allows."""
    for lease in _granted(commit):
        for name, limit in rows.bounds_of(rows.tasks[lease.task_id]).items():
            if limit.per_interval is None:
                continue
            begun = rows.begun.setdefault(name, [])
            begun.append(rows.granted[lease.agent_id])
            since = begun[-1] - limit.interval_s + _EPSILON_S
            count = sum(1 for at in begun if at > since)
            if count > limit.per_interval and not _is_unknown(rows):
                yield f"{lease.task_id} is the {count}th of {name} within {limit.interval_s:g} s"


def _granted(commit: Commit) -> Iterator[Lease]:
    for change in commit.of(LEASES.name):
        if change.before is None and change.after is not None:
            yield change.after


def may_be_held_back(task: Task, rows: Rows, *, since: float) -> bool:
    """Whether a gate is closed for a task, or an attempt behind it has begun or ended since then."""
    for name, limit in rows.bounds_of(task).items():
        out = rows.behind.get(name, {})
        full = limit.at_once is not None and len(out) >= limit.at_once
        # After a restart, attempts that began count for longer, but not for ever, unless the clock was moved meanwhile.
        lately = since - 2 * limit.interval_s
        begun = limit.per_interval is not None and (
            _is_unknown(rows) or any(at >= lately for at in rows.begun.get(name, ()))
        )
        if full or begun or rows.gates_moved.get(name, 0.0) >= since:
            return True
    return False


def _is_unknown(rows: Rows) -> bool:
    """Whether a process or an actor that restarted may have misread old times, because the wall clock was moved."""
    return "clock_moves" in rows.faults and rows.node_may_fail
