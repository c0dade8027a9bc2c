"""Promises about leases, and about which agent gets which task."""

import itertools
import math
from collections.abc import Iterator
from typing import Final

from opscore.runtime.agents.availability import fresh_s, is_suspected, silence_s
from opscore.runtime.definitions.definition import Role
from opscore.runtime.journal.tables import AGENTS, LEASES, TASKS
from opscore.runtime.lease import Lease
from opscore.runtime.models import STATE_IDLE, Agent, AgentSource, SessionStatus, Task, TaskStatus
from opscore.runtime.simulation.promises.bounds import may_be_held_back
from opscore.runtime.simulation.promises.tasks import COMMITS_WITHIN_S
from opscore.runtime.simulation.rows import Commit, Rows
from opscore.runtime.timers import STOOD_STILL_S

AGING_S: Final = 600.0
"""How many seconds of waiting one level of priority is worth, as docs/semantics.md says."""
COMPARED_MAX: Final = 200
"""The number of waiting tasks that a grant is compared with; if there are more, those that have waited longest."""
CALM_S: Final = 5.0
"""How long after the last disturbance everything that was under way is done."""
AGAIN_WITHIN_S: Final = 130.0
"""How long the node retries a write that its disk can't take at the moment."""
_EPSILON_S: Final = 1e-6
_OVER_BY: Final = {
    "agent.lease_expired": "expires_at",
    "agent.fell_silent": "silent_at",
    "agent.timed_out": "timeout_at",
}
"""The field of the lease with the time that is over, by the kind of the record that ends the attempt."""
_GOING: Final = frozenset({SessionStatus.STARTED, SessionStatus.RUNNING})
_UNWINDING: Final = frozenset({SessionStatus.FAILING, SessionStatus.CANCELLING})
_GIVE_OUT: Final = {
    Role.STEP: _GOING,
    Role.FALLBACK: _GOING,
    Role.COMPENSATION: _UNWINDING,
    Role.ON_FAILURE: _UNWINDING,
}
"""The statuses of a session in which a task is dispatched, by the task's role."""


def granted(commit: Commit) -> Iterator[Lease]:
    """Yield the leases that a commit grants."""
    for change in commit.of(LEASES.name):
        before, after = change.before, change.after
        held = None if before is None else (before.task_id, before.attempt)
        if after is not None and held != (after.task_id, after.attempt):
            yield after


def one_lease_an_agent(commit: Commit, rows: Rows) -> Iterator[str]:
    """An agent gets no further lease before the one that it holds is over."""
    for change in commit.of(LEASES.name):
        before, after = change.before, change.after
        if before is None or after is None or (before.task_id, before.attempt) == (after.task_id, after.attempt):
            continue
        task = rows.tasks.get(before.task_id)
        if task is None or _held(task, before) or before.revoked:
            yield f"agent {change.key} holds {before.task_id}, and is given {after.task_id}"


def leases_and_attempts_match(commit: Commit, rows: Rows) -> Iterator[str]:
    """Every open attempt has a lease, and every lease that is not revoked has an open attempt."""
    for change in commit.of(LEASES.name):
        lease: Lease | None = change.after
        task = None if lease is None else rows.tasks.get(lease.task_id)
        if lease is not None and not lease.revoked and not _held(task, lease):
            stands = "is not there" if task is None else f"is {task.status} at {task.attempt} with {task.agent_id}"
            yield f"agent {change.key} holds attempt {lease.attempt} of {lease.task_id}, which {stands}"
        if change.before is not None and lease is None:
            yield from _left_out(rows.tasks.get(change.before.task_id), rows)
    for change in commit.of(TASKS.name):
        yield from _left_out(change.after, rows)
        if change.before is not None and change.before.agent_id is not None:
            lease = rows.leases.get(change.before.agent_id)
            revoked = lease is not None and lease.revoked
            if lease is not None and lease.task_id == change.key and not revoked and not _held(change.after, lease):
                yield f"task {change.key} is over at attempt {lease.attempt}, and {lease.agent_id} still holds it"
    for change in commit.of(AGENTS.name):
        if change.after is None and change.key in rows.leases:
            yield f"agent {change.key} is gone, and holds {rows.leases[change.key].task_id}"


def _held(task: Task | None, lease: Lease) -> bool:
    return task is not None and task.is_out and (task.attempt, task.agent_id) == (lease.attempt, lease.agent_id)


def _left_out(task: Task | None, rows: Rows) -> Iterator[str]:
    if task is None or not task.is_out:
        return
    lease = None if task.agent_id is None else rows.leases.get(task.agent_id)
    if lease is None or not _held(task, lease):
        yield f"attempt {task.attempt} of {task.task_id} is out with {task.agent_id}, which holds no lease on it"


def work_goes_to_the_idle_and_able(commit: Commit, rows: Rows) -> Iterator[str]:
    """An agent that gets a task is idle, not cordoned, not suspected, not silent for too long, and may run the task."""
    for lease in granted(commit):
        goes_on = any(change.before is not None for change in commit.of(LEASES.name) if change.key == lease.agent_id)
        # An agent that already had a lease became free in this very commit.
        agent = rows.agents.get(lease.agent_id) if goes_on else _agent_before(commit, rows, lease.agent_id)
        if agent is None:
            yield f"{lease.task_id} is given to {lease.agent_id}, which is not registered"
            continue
        faults = []
        if agent.state != STATE_IDLE:
            faults.append(f"is {agent.state}")
        if agent.cordoned:
            faults.append("is cordoned")
        if is_suspected(agent, lease.granted_at) and not rows.clock_moved_within(COMMITS_WITHIN_S):
            faults.append(f"is suspected for {agent.suspected_until - lease.granted_at:g} s more")
        claims_until = rows.claimed_at.get(agent.agent_id, 0.0) + rows.limits.claim_wait_s_max
        by_its_row = fresh_s(agent, silence_s(agent, lease.granted_at), rows.limits) < 0
        stale = by_its_row and claims_until < lease.granted_at
        if stale and _is_silent(agent, rows) and rows.calm_for(CALM_S):
            # The dispatcher checks this when it offers the task; a stalled disk may delay the commit.
            faults.append("has been silent for too long")
        if not may_run(agent, rows.tasks[lease.task_id], rows):
            faults.append("can't run it")
        if faults:
            yield f"{lease.task_id} is given to {lease.agent_id}, which {' and '.join(faults)}"


def _agent_before(commit: Commit, rows: Rows, agent_id: str) -> Agent | None:
    for change in commit.of(AGENTS.name):
        if change.key == agent_id:
            agent: Agent | None = change.before
            return agent
    return rows.agents.get(agent_id)


def may_run(agent: Agent, task: Task, rows: Rows) -> bool:
    """Whether the definition of a task lets this agent run it."""
    definition = rows.task_definition(task)
    if definition.agent_id is not None:
        return agent.agent_id == definition.agent_id
    if definition.capability is not None:
        return definition.capability in agent.capabilities
    return agent.agent_id == rows.sessions[task.session_id].agent_id


def work_comes_from_sessions_that_run(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task is dispatched only if its session is running, or, for tasks that undo it, unwinding."""
    for lease in granted(commit):
        session = rows.sessions[lease.session_id]
        if session.status not in _GIVE_OUT[rows.task_definition(rows.tasks[lease.task_id]).role]:
            yield f"{lease.task_id} is given out, and its session is {session.status}"


def leases_have_their_times(commit: Commit, rows: Rows) -> Iterator[str]:
    """A lease and its timeout last as long as the definition says, and only an unknown delivery shortens a lease."""
    for change in commit.of(LEASES.name):
        before, after = change.before, change.after
        if after is None:
            continue
        definition = rows.task_definition(rows.task(after.task_id))
        if before is None or (before.task_id, before.attempt) != (after.task_id, after.attempt):
            lasts, times_out = after.expires_at - after.granted_at, after.timeout_at - after.granted_at
            closes_at = rows.tasks[after.task_id].closes_at
            allowed_s = definition.timeout_s or 0.0
            if closes_at is not None:
                allowed_s = min(allowed_s, closes_at - after.granted_at)
            if abs(lasts - definition.lease_s) > _EPSILON_S or abs(times_out - allowed_s) > _EPSILON_S:
                yield f"the lease of {after.task_id} lasts {lasts:g} s and times out after {times_out:g} s"
        elif any(record.kind == "agent.given_time" and record.entity_id == change.key for record in commit.records):
            # The clock was moved; another promise checks that the attempt keeps its time.
            continue
        elif after.timeout_at < before.timeout_at:
            yield f"the timeout of {after.task_id} is put forward"
        elif after.expires_at < before.expires_at and (before.active_seen or before.heartbeat_seen):
            yield f"the lease of {after.task_id} is cut short, though its agent shows life"


def life_renews_the_lease(commit: Commit, rows: Rows) -> Iterator[str]:
    """A sign of life renews the lease for its full duration."""
    for record in commit.records:
        lease = rows.leases.get(record.entity_id) if record.kind in ("agent.started", "agent.renewed") else None
        if lease is not None and lease.expires_at < record.at + lease.lease_s - _EPSILON_S:
            left_s = lease.expires_at - record.at
            yield f"{lease.agent_id} shows life, and its lease on {lease.task_id} ends in {left_s:g} s"


def attempts_end_when_their_time_is_over(commit: Commit, rows: Rows) -> Iterator[str]:
    """An attempt expires no earlier than its lease, its `heartbeatSeconds` or its timeout says."""
    for record in commit.records:
        if record.kind not in _OVER_BY:
            continue
        lease = next((change.before for change in commit.of(LEASES.name) if change.key == record.entity_id), None)
        if lease is None:
            continue
        over_at = getattr(lease, _OVER_BY[record.kind])
        if over_at is None or record.at < over_at - _EPSILON_S:
            over_at = math.inf if over_at is None else over_at
            yield f"{record.kind} ends {lease.task_id} {over_at - record.at:g} s early"


def silence_is_as_long_as_a_lease(commit: Commit, rows: Rows) -> Iterator[str]:
    """An agent that has shown life loses its attempt only after a full lease of silence, whatever the clock shows."""
    for record in commit.records:
        if record.kind != "agent.lease_expired":
            continue
        lease = next((change.before for change in commit.of(LEASES.name) if change.key == record.entity_id), None)
        if lease is None or not (lease.active_seen or lease.heartbeat_seen):
            continue
        silent_s = record.at - rows.renewed[record.entity_id]
        unclear = rows.clock_moved_within(COMMITS_WITHIN_S) and rows.node_may_fail
        unnoticed_s = STOOD_STILL_S if "clock_moves" in rows.faults else 0.0
        if silent_s < lease.lease_s - unnoticed_s - _EPSILON_S and not unclear:
            yield f"{record.entity_id} was silent for {silent_s:g} s, and loses {lease.task_id}"


def functions_may_outlast_their_leases(commit: Commit, rows: Rows) -> Iterator[str]:
    """In calm times no attempt of a local function loses its lease, because its process sees that it still runs."""
    for record in commit.records:
        if record.kind != "agent.lease_expired" or not rows.calm_for(CALM_S):
            continue
        lease = next((change.before for change in commit.of(LEASES.name) if change.key == record.entity_id), None)
        if lease is not None and (lease.task_id, lease.attempt) in rows.ledger.by_functions:
            yield f"the attempt of the function {lease.agent_id} is lost, and the process that runs it is there"


def who_shows_life_has_its_attempt(commit: Commit, rows: Rows) -> Iterator[str]:
    """A sign of life proves that the agent has its attempt, which then counts as delivered."""
    for change in commit.of(LEASES.name):
        lease: Lease | None = change.after
        if lease is not None and (lease.active_seen or lease.heartbeat_seen) and not lease.delivered:
            yield f"agent {change.key} shows life, and {lease.task_id} is still to be handed to it"


def progress_is_kept(commit: Commit, rows: Rows) -> Iterator[str]:
    """The progress that an agent reported stays with its attempt until the agent reports another one."""
    for change in commit.of(LEASES.name):
        before, after = change.before, change.after
        same = (
            before is not None
            and after is not None
            and (before.task_id, before.attempt) == (after.task_id, after.attempt)
        )
        if same and before.progress is not None and after.progress is None:
            yield f"agent {change.key} has said {before.progress!r} of {after.task_id}, and that is gone"


def waiting_tasks_have_their_place(commit: Commit, rows: Rows) -> Iterator[str]:
    """A waiting task's place in line is determined by its priority and the time since when it waits."""
    for change in commit.of(TASKS.name):
        task: Task | None = change.after
        if task is None or task.status is not TaskStatus.READY:
            continue
        place = _key(task, rows)
        if task.rank is None or abs(task.rank - place) > _EPSILON_S:
            yield f"task {change.key} waits at {task.rank}, and should at {place}"


def the_first_in_line_goes_first(commit: Commit, rows: Rows) -> Iterator[str]:
    """In calm times an agent gets, of all waiting tasks it may run, the one with the highest priority after aging."""
    yield from _still_passed_over(rows)
    for lease in granted(commit):
        agent, given = rows.agents[lease.agent_id], rows.tasks[lease.task_id]
        if not rows.calm_for(CALM_S) or lease.claim_id is not None or agent.source is AgentSource.LOCAL:
            continue
        place = _key(given, rows)
        for task in itertools.islice(rows.waiting(), COMPARED_MAX):
            waits_for_long = (task.ready_at or 0.0) <= lease.granted_at - CALM_S
            # Tasks that one commit makes ready get in line in their order.
            waits = waits_for_long or _came_with(task, given)
            if not waits or not may_run(agent, task, rows) or _key(task, rows) >= place - _EPSILON_S:
                continue
            if any(_came_just_now(other, rows) and may_run(other, task, rows) for other in _others(agent, rows)):
                # The task may just have been offered to that other agent, in vain.
                continue
            # A task of a paused run is in line again only from the time when the run is resumed.
            just_touched = rows.touched.get(task.session_id, 0.0) > lease.granted_at - CALM_S
            just_resumed = just_touched and not _came_with(task, given)
            if may_be_held_back(task, rows, since=lease.granted_at - CALM_S):
                continue
            if rows.sessions[task.session_id].status is not SessionStatus.PAUSED and not just_resumed:
                told = f"{given.task_id} is given to {agent.agent_id} before {task.task_id}, which comes first"
                rows.passed_over.append((rows.now(), task, told))


def _came_with(task: Task, other: Task) -> bool:
    """Whether one commit of their run put both tasks into the same line."""
    return (task.session_id, task.line, task.ready_at) == (other.session_id, other.line, other.ready_at)


def _others(agent: Agent, rows: Rows) -> Iterator[Agent]:
    return (other for other in rows.agents.values() if other is not agent)


def _still_passed_over(rows: Rows) -> Iterator[str]:
    """Yield the tasks that were passed over, and not given to another agent at the same moment."""
    while rows.passed_over and rows.passed_over[0][0] < rows.now():
        _, task, told = rows.passed_over.pop(0)
        now = rows.tasks.get(task.task_id)
        if now is not None and now.status is TaskStatus.READY and now.attempt == task.attempt:
            yield told


def _came_just_now(agent: Agent, rows: Rows) -> bool:
    return rows.now() in (agent.received_at, agent.registered_at, agent.suspected_until)


def _key(task: Task, rows: Rows) -> float:
    return (task.ready_at or 0.0) - AGING_S * rows.task_definition(task).priority


def waiting_work_finds_idle_agents(rows: Rows) -> Iterator[str]:
    """In calm times no task waits while an agent that may run it is free."""
    if not rows.calm_for(CALM_S):
        return
    now = rows.now()
    free = [agent for agent in rows.agents.values() if is_free(agent, rows, now)]
    if not free:
        return
    for task in rows.waiting():
        if (task.ready_at or 0.0) > now - CALM_S or rows.sessions[task.session_id].status is SessionStatus.PAUSED:
            continue
        for agent in free:
            if may_run(agent, task, rows) and not may_be_held_back(task, rows, since=now - CALM_S):
                yield f"task {task.task_id} waits, and agent {agent.agent_id} is free for it"
                break


def is_free(agent: Agent, rows: Rows, now: float) -> bool:
    """Whether an agent has been free for a moment, and deliveries reach it."""
    return (
        agent.state == STATE_IDLE
        and agent.agent_id not in rows.leases
        and not agent.cordoned
        and not is_suspected(agent, now - CALM_S)
        and fresh_s(agent, silence_s(agent, now), rows.limits) > 0
        and not _is_silent(agent, rows)
        # The dispatcher finds an agent a moment after it registered again, was uncordoned, or finished its last task.
        and rows.touched.get(agent.agent_id, 0.0) < now - CALM_S
        and agent.agent_id in rows.reachable
    )


def _is_silent(agent: Agent, rows: Rows) -> bool:
    """Whether an agent has been silent for too long, whatever the clock shows."""
    return bool(rows.limits.agent_ttl_s) and rows.now() - rows.heard[agent.agent_id] > rows.limits.agent_ttl_s


def attempts_are_taken_up(rows: Rows) -> Iterator[str]:
    """After a restart attempts of local functions are lost at once, and all other agents get a full lease to report."""
    if not rows.calm_for(CALM_S):
        return
    for lease in rows.leases.values():
        agent = rows.agents.get(lease.agent_id)
        if agent is None or rows.granted[lease.agent_id] >= rows.opened_at:
            continue
        cut_short = lease.delivered and not (lease.active_seen or lease.heartbeat_seen)
        if rows.is_functions(lease):
            yield f"{lease.task_id} is still out with {agent.agent_id}, whose process has ended"
        elif not cut_short and lease.expires_at < rows.opened_at + lease.lease_s - _EPSILON_S:
            yield f"the lease of {lease.task_id} with {agent.agent_id} is not that of the process that runs"


def what_is_due_happens(rows: Rows) -> Iterator[str]:
    """In calm times the deadline of a lease, an attempt, a wait, a delay or a run takes effect within seconds."""
    if not rows.calm_for(CALM_S):
        return
    now = rows.now()
    for lease in rows.leases.values():
        local = rows.is_functions(lease)
        # Read from the rows, because the runtime's own idea of what is due is what is checked here.
        times = (lease.timeout_at,) if local else (lease.expires_at, lease.timeout_at)
        due_at = min(*times, math.inf if local or lease.silent_at is None else lease.silent_at)
        if lease.revoked and local and rows.touched[lease.agent_id] < now - CALM_S:
            yield f"{lease.task_id} was taken from {lease.agent_id}, whose function still runs"
        if now > due_at + CALM_S:
            yield f"the time of {lease.task_id} with {lease.agent_id} has been over for {now - due_at:g} s"
    for agent_id, (task_id, attempt) in rows.ledger.at_work.items():
        held = rows.leases.get(agent_id)
        if (held is None or (held.task_id, held.attempt) != (task_id, attempt)) and rows.touched.get(
            agent_id, 0.0
        ) < now - CALM_S:
            yield f"the function {agent_id} still runs attempt {attempt} of {task_id}, and holds no lease on it"
    for task in rows.timed():
        if rows.touched.get(task.session_id, 0.0) > now - CALM_S:
            # The run may just have been resumed.
            continue
        # What failed at its due time is retried by the wall clock, which may be set back meanwhile.
        late_s = CALM_S + (AGAIN_WITHIN_S if "clock_moves" in rows.faults else 0.0)
        if now > (task.due_at or 0.0) + late_s and rows.sessions[task.session_id].status is not SessionStatus.PAUSED:
            yield f"the time of {task.task_id}, {task.status}, has been over for {now - (task.due_at or 0.0):g} s"
    for session_id in rows.unfinished:
        session = rows.sessions[session_id]
        late = session.due_at is not None and now > session.due_at + CALM_S
        late = late and rows.touched.get(session_id, 0.0) <= now - CALM_S
        if late and session.error is None and session.status is not SessionStatus.PAUSED:
            yield f"the time of session {session_id} is over, and it is {session.status}"
