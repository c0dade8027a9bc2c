"""Promises about schedules: one run for each due time, and the policy for missed ones."""

from collections.abc import Iterator
from typing import Final

import attrs

from opscore.runtime.journal.tables import SCHEDULES, SESSIONS
from opscore.runtime.models import Missed, Record, Schedule
from opscore.runtime.schedules import due_times
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.promises.tasks import COMMITS_WITHIN_S, decided_at
from opscore.runtime.simulation.rows import Commit, Rows

CALM_S: Final = 5.0
RESTS_S: Final = 95.0
"""How long a schedule waits at most before it tries again to start its run."""
COUNTED_MAX: Final = 10_000
_EPSILON_S: Final = 1e-6


def schedules_are_durable(reply: Reply, rows: Rows) -> Iterator[str]:
    """A schedule is on the disk before it is acknowledged, unless it has been deleted since."""
    if reply.call != "schedule" or reply.arguments["schedule_id"] in rows.ledger.taken_away:
        return
    if reply.arguments["schedule_id"] not in rows.schedules:
        yield f"schedule {reply.arguments['schedule_id']} is accepted, and not on the disk"


def a_due_time_starts_one_run(commit: Commit, rows: Rows) -> Iterator[str]:
    """A due time starts one run, in the commit that counts it, and is counted once."""
    begun = {change.key for change in commit.of(SESSIONS.name) if change.before is None}
    for change in commit.of(SCHEDULES.name):
        before, after = change.before, change.after
        if after is None:
            rows.ledger.taken_away.add(change.key)
        if (
            before is None
            or after is None
            or (before.fired, before.last_session_id)
            == (
                after.fired,
                after.last_session_id,
            )
        ):
            continue
        if after.fired != before.fired + 1 or after.last_session_id not in begun:
            yield f"schedule {change.key} has started {after.fired} runs after {before.fired}: {sorted(begun)}"
        due_at = after.last_due_at or 0.0
        if due_at <= (before.last_due_at or 0.0):
            yield f"schedule {change.key} starts a run for {due_at}, which it has had"
        is_early = due_at > commit.at + _EPSILON_S and not rows.clock_moved_within(COMMITS_WITHIN_S)
        if is_early or before.next_due_at is None or due_at < before.next_due_at:
            yield f"schedule {change.key} starts a run for {due_at}, and is due at {before.next_due_at}"
        if due_times.of(after).after(due_at - 1.0) != due_at:
            yield f"schedule {change.key} starts a run for {due_at}, which is none of its times"


def schedules_start_what_they_say(commit: Commit, rows: Rows) -> Iterator[str]:
    """The run that a due time starts has the schedule's workflow, payload and agent."""
    for change in commit.of(SCHEDULES.name):
        before, after = change.before, change.after
        if before is None or after is None or before.last_session_id == after.last_session_id:
            continue
        session = rows.sessions[after.last_session_id]
        found = (session.workflow_id, session.payload, session.agent_id)
        asked = (before.workflow_id, before.payload, before.agent_id)
        if found != asked:
            yield f"schedule {change.key} asks for {asked}, and session {session.session_id} is of {found}"


def what_starts_its_run_has_no_error(commit: Commit, rows: Rows) -> Iterator[str]:
    """A schedule that starts a run has no error left from earlier failures to do so."""
    for record in commit.records:
        schedule = rows.schedules.get(record.entity_id) if record.kind == "schedule.fired" else None
        if schedule is not None and schedule.last_error is not None:
            yield f"schedule {schedule.schedule_id} starts a run, and says {schedule.last_error.message!r}"


def missed_times_follow_the_policy(commit: Commit, rows: Rows) -> Iterator[str]:
    """Of the due times that were missed, none, the newest, or each starts a run, by the schedule's policy."""
    for record in commit.records:
        if record.kind != "schedule.fired":
            continue
        before = next((each.before for each in commit.of(SCHEDULES.name) if each.key == record.entity_id), None)
        if before is not None:
            yield from _against_policy(before, record, rows)


def missed_times_are_told(commit: Commit, rows: Rows) -> Iterator[str]:
    """The journal records that due times were missed, even if the newest of them starts a run."""
    for record in commit.records:
        if record.kind != "schedule.fired":
            continue
        before = next((each.before for each in commit.of(SCHEDULES.name) if each.key == record.entity_id), None)
        if before is None or before.next_due_at is None or record.data["dueAt"] <= before.next_due_at:
            continue
        told = any(each.kind == "schedule.missed" and each.entity_id == record.entity_id for each in commit.records)
        if not told:
            yield f"schedule {record.entity_id} passes over {before.next_due_at}, and no record tells of it"


def what_passes_in_a_pause_is_over(commit: Commit, rows: Rows) -> Iterator[str]:
    """A resumed schedule is due next after its resumption: due times during a pause start no run."""
    for change in commit.of(SCHEDULES.name):
        before, after = change.before, change.after
        if before is None or after is None or not before.paused or after.paused:
            continue
        resumed_at = decided_at(commit, change.key)
        if after.next_due_at is not None and after.next_due_at <= resumed_at:
            yield f"schedule {change.key} is resumed at {resumed_at}, and due at {after.next_due_at}"


def _against_policy(before: Schedule, record: Record, rows: Rows) -> Iterator[str]:
    due_at: float = record.data["dueAt"]
    following = due_times.of(before).after(due_at)
    is_late = record.at - due_at >= rows.limits.schedule_late_s
    passed_over = before.next_due_at is not None and due_at > before.next_due_at
    if before.missed is Missed.SKIP and is_late:
        yield f"schedule {before.schedule_id} skips what was missed, and starts a run for {due_at} at {record.at}"
    if before.missed is Missed.ONCE and is_late and following is not None and following <= record.at:
        yield f"schedule {before.schedule_id} starts a run for {due_at}, and {following} has passed as well"
    if before.missed is Missed.ALL and passed_over and _passed(before, record.at) <= rows.limits.schedule_missed_max:
        yield f"schedule {before.schedule_id} passes over {before.next_due_at}, and starts a run for {due_at}"
    if before.missed is Missed.ALL and passed_over:
        left = _passed(attrs.evolve(before, next_due_at=due_at), record.at)
        if left > max(1, rows.limits.schedule_missed_max):
            yield f"schedule {before.schedule_id} starts runs for {left} times that were missed, from {due_at} on"


def _passed(schedule: Schedule, now: float) -> int:
    """Return how many due times of a schedule have passed, counting to `COUNTED_MAX`."""
    times, at, count = due_times.of(schedule), schedule.next_due_at, 0
    while at is not None and at <= now and count <= COUNTED_MAX:
        at, count = times.after(at), count + 1
    return count


def what_is_due_starts(rows: Rows) -> Iterator[str]:
    """In calm times a due schedule starts its run within seconds, or within minutes if something prevented that."""
    if not rows.calm_for(RESTS_S) or len(rows.unfinished) >= rows.limits.sessions_open_max:
        return
    for schedule in rows.schedules.values():
        late_s = rows.now() - (schedule.next_due_at if schedule.next_due_at is not None else rows.now())
        room_s = rows.now() - rows.full_until
        if schedule.last_error is None and late_s > CALM_S and room_s > RESTS_S:
            yield f"schedule {schedule.schedule_id} has been due for {late_s:g} s"
