"""The changes of a lease: pure functions from one row to the next."""

from typing import Any, Final

from opscore.runtime.definitions.definition import TaskDefinition, TaskKind
from opscore.runtime.evolving import evolve
from opscore.runtime.lease import Lease
from opscore.runtime.limits import Limits
from opscore.runtime.models import Task

SPEAK_S: Final = 10.0
"""The least time for which a node that stood still listens to its agents before it ends an attempt."""


def granted(task: Task, definition: TaskDefinition, agent_id: str, now: float, *, slots: tuple[str, ...] = ()) -> Lease:
    """Return the lease of a new attempt."""
    assert definition.timeout_s is not None, "what is handed to agents has a timeout"
    timeout_at = now + definition.timeout_s
    return Lease(
        agent_id=agent_id,
        session_id=task.session_id,
        task_id=task.task_id,
        attempt=task.attempt,
        granted_at=now,
        expires_at=now + definition.lease_s,
        timeout_at=timeout_at if task.closes_at is None else min(timeout_at, task.closes_at),
        lease_s=definition.lease_s,
        heartbeat_s=definition.heartbeat_s,
        slots=slots,
        tool=definition.kind is TaskKind.TOOL,
        idempotent=definition.idempotent,
    )


def renewed(lease: Lease, now: float, *, active: bool = False, heartbeat: bool = False, progress: Any = None) -> Lease:
    """Renew the lease because the agent showed life; None as the progress keeps the earlier one."""
    return evolve(
        lease,
        expires_at=max(lease.expires_at, now + lease.lease_s),
        silent_at=None if lease.heartbeat_s is None else now + lease.heartbeat_s,
        delivered=True,
        active_seen=lease.active_seen or active,
        heartbeat_seen=lease.heartbeat_seen or heartbeat,
        progress=lease.progress if progress is None else progress,
    )


def prolonged(lease: Lease, now: float) -> Lease:
    """Extend the lease because the agent's function still runs in this process, although it has sent no heartbeat."""
    return evolve(lease, expires_at=max(lease.expires_at, now + lease.lease_s), delivered=True)


def shows_life(lease: Lease) -> bool:
    """Whether the agent has shown life in this attempt."""
    return lease.active_seen or lease.heartbeat_seen


def cut_short(lease: Lease, now: float, limits: Limits) -> Lease:
    """Shorten the lease because the outcome of a push is unknown, unless the agent has shown life."""
    if shows_life(lease):
        return lease
    return evolve(lease, delivered=True, expires_at=min(lease.expires_at, now + limits.unknown_outcome_lease_s))


def resumed(lease: Lease, now: float, limits: Limits) -> Lease:
    """Give the agent a full lease after a restart of the node.

    The answer to a tool call that was under way is lost, so that lease is cut short: its agent may still report.
    """
    resumed = evolve(
        lease,
        expires_at=max(lease.expires_at, now + lease.lease_s),
        timeout_at=max(lease.timeout_at, now + lease.lease_s),
        silent_at=None if lease.silent_at is None else max(lease.silent_at, now + lease.lease_s),
    )
    called = lease.tool and lease.delivered and lease.claim_ticket is None
    return cut_short(resumed, now, limits) if called else resumed


def late_s(lease: Lease, now: float) -> float:
    """Return how many seconds ago the time of an attempt began, if its agent has not been heard yet."""
    return now - (lease.expires_at - lease.lease_s)


def begun_late(lease: Lease, now: float) -> Lease:
    """Let the time of an attempt begin now, because it is handed over long after it was granted."""
    seconds = max(0.0, late_s(lease, now))
    return evolve(lease, expires_at=lease.expires_at + seconds, timeout_at=lease.timeout_at + seconds)


def put_off(lease: Lease, seconds: float, now: float, *, left_s: float | None, within_s: float) -> Lease:
    """Adjust the lease because the node stood still, or its clock was moved.

    The agent gets the full time to speak again, as after a restart; if the clock was set back, no more than that.

    Args:
        lease: the lease before.
        seconds: for how long the node stood still, or by how much the clock was moved.
        now: wall time.
        left_s: the seconds left of the attempt's timeout. If that is unknown, the timeout moves with the clock, unless
            the attempt was granted after the clock was moved.
        within_s: the time before now, in seconds, within which it happened.
    """
    bound = max if seconds > 0 else min
    given_since = left_s is None and now - within_s < lease.granted_at <= now
    timeout_at = lease.timeout_at + seconds if left_s is None else now + left_s
    silent_at = None
    if lease.silent_at is not None and lease.heartbeat_s is not None:
        silent_at = bound(lease.silent_at, now + lease.heartbeat_s)
    return evolve(
        lease,
        expires_at=bound(lease.expires_at, now + lease.lease_s),
        timeout_at=max(lease.timeout_at if given_since else timeout_at, now + SPEAK_S),
        silent_at=silent_at,
    )


def claimable(lease: Lease, claim_id: str | None) -> bool:
    """Whether a claim may be handed this open lease: no one has it yet, or the same claim is repeated."""
    if not lease.delivered:
        return True
    return claim_id is not None and claim_id == lease.claim_id and not lease.heartbeat_seen
