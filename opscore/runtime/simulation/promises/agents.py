"""Promises about agents: their suspicion, their reports and their registration."""

from collections.abc import Iterator
from typing import Final

from opscore.runtime.agents.availability import is_suspected
from opscore.runtime.journal.tables import AGENTS, LEASES
from opscore.runtime.simulation.promises.dispatch import CALM_S
from opscore.runtime.simulation.promises.tasks import COMMITS_WITHIN_S, decided_at
from opscore.runtime.simulation.rows import Commit, Rows

SUSPECTED_S_MAX: Final = 130.0
_EPSILON_S: Final = 1e-6
_HEARD: Final = frozenset({"agent.reported", "agent.registered", "agent.claimed", "agent.started", "agent.renewed"})
"""The kinds of records that an agent itself causes."""


def the_unreached_are_suspected(commit: Commit, rows: Rows) -> Iterator[str]:
    """An agent that a push didn't reach becomes suspected in the commit that puts its task back into the queue."""
    for before, after in commit.moved_tasks:
        unreached = (before.task_id, before.attempt) in rows.ledger.unreached
        if not before.is_out or not unreached or before.agent_id is None:
            continue
        if after.error is None or after.error.code != "undelivered" or before.agent_id in rows.leases:
            # A task that was taken back from its agent leaves it the lease, and keeps the error of an earlier attempt.
            continue
        agent = rows.agents.get(before.agent_id)
        if agent is not None and agent.suspected_until <= decided_at(commit, agent.agent_id):
            yield f"{before.task_id} didn't reach agent {agent.agent_id}, which isn't suspected"


def suspicions_grow(commit: Commit, rows: Rows) -> Iterator[str]:
    """Each miss of an agent in a row adds one to its `suspicions`, so that it is left alone ever longer."""
    for record in commit.records:
        if record.kind not in ("agent.suspected", "agent.lease_expired"):
            continue
        for change in commit.of(AGENTS.name):
            before, after = change.before, change.after
            suspected = before is not None and after is not None and change.key == record.entity_id
            if suspected and after.suspicions != before.suspicions + 1:
                yield f"agent {change.key} was missed {before.suspicions} times in a row, and then {after.suspicions}"


def agents_are_left_alone_as_they_wish(commit: Commit, rows: Rows) -> Iterator[str]:
    """In calm times an agent that answers a push with the time to retry after is left alone until then.

    In other times the push that was answered last need not be the one that is checked here.
    """
    if not rows.calm_for(CALM_S):
        return
    for record in commit.records:
        lease = None
        if record.kind == "agent.suspected":
            lease = next((change.before for change in commit.of(LEASES.name) if change.key == record.entity_id), None)
        agent = None if lease is None else rows.agents.get(lease.agent_id)
        until = 0.0 if lease is None else rows.ledger.wishes.get((lease.task_id, lease.attempt), 0.0)
        if agent is not None and agent.suspected_until < until - _EPSILON_S:
            yield f"agent {agent.agent_id} is left alone until {agent.suspected_until}, and wished for {until}"


def suspicion_ends_with_a_report(commit: Commit, rows: Rows) -> Iterator[str]:
    """Only a sign of life from the agent ends its suspicion before its time."""
    for change in commit.of(AGENTS.name):
        before, after = change.before, change.after
        if before is None or after is None or not before.suspicions:
            continue
        heard = any(record.entity_id == change.key and record.kind in _HEARD for record in commit.records)
        # When the clock is set back, the end of a suspicion moves back with it.
        sooner_s = before.suspected_until - after.suspected_until - _set_back_s(commit, change.key)
        unclear = rows.clock_moved_within(COMMITS_WITHIN_S) and rows.node_may_fail
        if not heard and sooner_s > _EPSILON_S and not unclear:
            yield f"agent {change.key} is suspected no longer, and nothing was heard of it"


def _set_back_s(commit: Commit, agent_id: str) -> float:
    """Return by how many seconds the clock was set back, as a commit records for an agent."""
    told = (
        record.data["seconds"]
        for record in commit.records
        if (record.kind, record.entity_id) == ("agent.given_time", agent_id)
    )
    return max((-seconds for seconds in told), default=0.0)


def reports_order_themselves(commit: Commit, rows: Rows) -> Iterator[str]:
    """An agent's newest accepted report is not replaced by an older one unless the agent registers again."""
    for change in commit.of(AGENTS.name):
        before, after = change.before, change.after
        if before is None or after is None or before.registered_at != after.registered_at:
            continue
        newest_possible = decided_at(commit, change.key) + rows.limits.clock_ahead_s_max
        if None in (before.reported_at, after.reported_at) or before.reported_at > newest_possible:
            # A report that was accepted before the clock was set back no longer affects the order.
            continue
        if after.reported_at < before.reported_at:
            yield f"agent {change.key} is {after.state} by a report older than the one that said {before.state}"


def nothing_is_older_than_what_cannot_have_been(commit: Commit, rows: Rows) -> Iterator[str]:
    """No report is refused as older than one whose time is impossibly far ahead, because the clock was set back."""
    for record in commit.records:
        agent = rows.agents.get(record.entity_id) if record.kind == "agent.report_stale" else None
        if agent is not None and (agent.reported_at or 0.0) > record.at + rows.limits.clock_ahead_s_max + _EPSILON_S:
            ahead_s = (agent.reported_at or 0.0) - record.at
            yield f"a report of {agent.agent_id} is refused for one of {ahead_s:g} s later than now"


def nothing_is_reported_from_the_future(commit: Commit, rows: Rows) -> Iterator[str]:
    """The time of an accepted report is at most `clock_ahead_s_max` ahead of the node's clock."""
    for change in commit.of(AGENTS.name):
        before, after = change.before, change.after
        if (
            after is None
            or after.reported_at is None
            or (before is not None and before.reported_at == after.reported_at)
        ):
            continue
        ahead_s = after.reported_at - decided_at(commit, change.key)
        if ahead_s > rows.limits.clock_ahead_s_max + _EPSILON_S:
            yield f"agent {change.key} has reported {ahead_s:g} s from now"


def only_older_reports_are_stale(commit: Commit, rows: Rows) -> Iterator[str]:
    """A report is refused as stale only if the accepted one is newer, not if both have the same time."""
    for record in commit.records:
        agent = rows.agents.get(record.entity_id) if record.kind == "agent.report_stale" else None
        newest = None if agent is None else agent.reported_at
        if newest is not None and record.data["timestamp"] >= newest:
            yield f"a report of {record.entity_id} at {record.data['timestamp']} is refused for one at {newest}"


def registering_forgets_the_order_of_reports(commit: Commit, rows: Rows) -> Iterator[str]:
    """An agent that registers again is heard from then on, whatever times its earlier reports had."""
    for record in commit.records:
        agent = rows.agents.get(record.entity_id) if record.kind == "agent.registered" else None
        if agent is not None and agent.reported_at is not None:
            yield f"agent {agent.agent_id} has registered, and no report from before {agent.reported_at} counts"


def registering_keeps_the_cordon(commit: Commit, rows: Rows) -> Iterator[str]:
    """A cordoned agent stays cordoned until an operator uncordons it, even if it registers again."""
    told = {record.entity_id for record in commit.records if "cordon" in record.kind}
    for change in commit.of(AGENTS.name):
        before, after = change.before, change.after
        if before is not None and after is not None and before.cordoned != after.cordoned and change.key not in told:
            yield f"agent {change.key} is {'' if after.cordoned else 'not '}cordoned, and nobody said so"


def nobody_is_suspected_for_long(rows: Rows) -> Iterator[str]:
    """In calm times no agent stays suspected for longer than simulated agents ask for or a few failed deliveries cause.

    This is not checked where the node may fail: a clock that is set back while no node runs can revive a suspicion, for
    an hour at most.
    """
    if not rows.calm_for(CALM_S) or rows.node_may_fail:
        return
    for agent in rows.agents.values():
        left_s = agent.suspected_until - rows.now()
        if is_suspected(agent, rows.now()) and left_s > SUSPECTED_S_MAX:
            yield f"agent {agent.agent_id} is suspected for {left_s:g} s more"
