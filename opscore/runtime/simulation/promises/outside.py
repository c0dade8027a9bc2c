"""Promises to the outside: replies, deliveries, and that every run ends."""

from collections.abc import Iterator
from typing import TYPE_CHECKING, Any, Final

import attrs

from opscore.runtime.definitions.definition import TaskKind
from opscore.runtime.definitions.labels import label_faults
from opscore.runtime.journal.tables import LEASES, SIGNALS
from opscore.runtime.models import SESSION_ENDED, Assignment, Move, Session, SessionStatus, Task, TaskStatus
from opscore.runtime.simulation.promises.keeping import key_is_over
from opscore.runtime.simulation.promises.tasks import FAILURE_MESSAGE
from opscore.runtime.simulation.rows import Commit, Rows

if TYPE_CHECKING:
    from opscore.runtime.lease import Lease

_ACTORS_CRASH: Final = frozenset({"actor_raises", "run_poisoned"})
"""The faults that make actors raise."""
LATE_S: Final = 5.0
"""How much of its lease may be over at most when an agent is handed its attempt, in seconds."""
_THAWED_S: Final = 1.0
"""How long it takes, approximately, to notice that the machine was frozen."""
_EPSILON_S: Final = 1e-6


@attrs.frozen(kw_only=True)
class Reply:
    """A call that succeeded."""

    call: str
    """`trigger`, `complete`, `fail`, `heartbeat`, `register`, `report`, `claim`, `steer`, `signal`, `discard`,
    `schedule`, `drain`, `replay` or `look`."""
    arguments: dict[str, Any]
    """What was asked, such as `session_id` and `move` of `steer`; those that invariants of opscore look at."""
    value: Any
    """What the node returned."""


def accepted_is_durable(reply: Reply, rows: Rows) -> Iterator[str]:
    """A run is on the disk, with its payload, before it is acknowledged."""
    if reply.call != "trigger":
        return
    session = rows.session(reply.value.session_id)
    if session is None:
        yield f"session {reply.value.session_id} is accepted, and not on the disk"
    elif session.payload != reply.arguments["payload"]:
        yield f"session {session.session_id} has another payload than it was started with"


def runs_are_found_by_what_they_were_given(reply: Reply, rows: Rows) -> Iterator[str]:
    """A run has the business key and the labels that it was started with, on top of those of its definition."""
    if reply.call != "trigger" or "labels" not in reply.arguments:
        return
    session = rows.session(reply.value.session_id)
    if session is None:
        return
    own = (rows.definition(session).document.get("labels") or {}).items()
    # Labels of a definition that are not valid for a run are notes of its author.
    inherited = {name: value for name, value in own if not any(label_faults({name: value}, rows.limits))}
    labels = {**inherited, **reply.arguments["labels"]}
    if len(labels) > rows.limits.labels_max:
        return
    if (session.labels, session.business_key) != (labels, reply.arguments["business_key"]):
        has = f"has {session.labels} and {session.business_key!r}"
        yield f"session {session.session_id} {has}, and was to have {labels} and {reply.arguments['business_key']!r}"


def a_key_starts_one_session(reply: Reply, rows: Rows) -> Iterator[str]:
    """An idempotency key is always answered with the same session, until it expires."""
    if reply.call != "trigger":
        return
    key, session_id = reply.arguments["key"], reply.value.session_id
    first = rows.ledger.accepted.setdefault(key, session_id)
    if first != session_id and key_is_over(first, rows):
        rows.ledger.accepted[key] = session_id
    elif first != session_id:
        yield f"key {key!r} was answered with {first}, and now with {session_id}"


def steering_is_durable(reply: Reply, rows: Rows) -> Iterator[str]:
    """A run whose cancellation is acknowledged is cancelled on the disk, and a terminated one has ended."""
    if reply.call == "steer" and reply.arguments["move"] in (Move.CANCEL, Move.TERMINATE):
        session = rows.session(reply.arguments["session_id"])
        if session is None or session.cancelled_at is None:
            yield f"session {reply.arguments['session_id']} is cancelled, and not on the disk"
        elif reply.arguments["move"] is Move.TERMINATE and session.status is not SessionStatus.CANCELLED:
            yield f"session {session.session_id} was terminated, and is {session.status}"


def steered_runs_go_on(reply: Reply, rows: Rows) -> Iterator[str]:
    """A run is no longer paused when its resume or reset is acknowledged."""
    if reply.call != "steer" or reply.arguments["move"] not in (Move.RESUME, Move.RESET):
        return
    if reply.value.status is SessionStatus.PAUSED:
        yield f"{reply.arguments['move']} of session {reply.value.session_id} is answered, and it is paused"


def signals_are_durable(reply: Reply, rows: Rows) -> Iterator[str]:
    """A signal is on the disk, once, before it is acknowledged."""
    if reply.call != "signal":
        return
    signal = rows.signals.get(SIGNALS.key(reply.value))
    if signal is None and reply.value.session_id in rows.gone:
        return
    if signal is None or (signal.number, signal.payload) != (reply.value.number, reply.value.payload):
        yield f"signal {reply.value.signal_id} of {reply.value.session_id} is accepted, and not on the disk"


def acknowledged_ends_are_durable(reply: Reply, rows: Rows) -> Iterator[str]:
    """An acknowledged result or failure has ended its attempt, and is on the disk."""
    wanted = {
        "complete": (TaskStatus.COMPLETED,),
        "fail": (TaskStatus.PENDING_RETRY, TaskStatus.FAILED),
    }.get(reply.call)
    if wanted is None:
        return
    task_id, attempt = reply.arguments["task_id"], reply.arguments["attempt"]
    ends = rows.ends.get((task_id, attempt), [])
    if not ends or ends[0] not in wanted:
        yield f"{reply.call} of attempt {attempt} of {task_id} is acknowledged, and it is {ends[0] if ends else 'open'}"


def heartbeats_renew(reply: Reply, rows: Rows) -> Iterator[str]:
    """An acknowledged heartbeat has renewed the lease of its own attempt."""
    if reply.call != "heartbeat":
        return
    lease, wanted = reply.value, (reply.arguments["task_id"], reply.arguments["attempt"])
    if (lease.task_id, lease.attempt) != wanted:
        yield f"a heartbeat of attempt {wanted[1]} of {wanted[0]} renews {lease.task_id} at {lease.attempt}"


def registered_is_durable(reply: Reply, rows: Rows) -> Iterator[str]:
    """An agent is on the disk before its registration is acknowledged."""
    if reply.call != "register":
        return
    agent = rows.agents.get(reply.arguments["agent_id"])
    if agent is None:
        yield f"agent {reply.arguments['agent_id']} is registered, and not on the disk"


def claims_are_handed_once(reply: Reply, rows: Rows) -> Iterator[str]:
    """An attempt that a claim gets is committed, and no other claim gets it."""
    if reply.call != "claim" or reply.value is None:
        return
    assignment: Assignment = reply.value.assignment
    yield from handed_is_committed(assignment, rows)
    claim = reply.arguments["claim"]
    first = rows.ledger.claimed.setdefault((assignment.task_id, assignment.attempt), claim)
    if first != claim:
        yield f"attempt {assignment.attempt} of {assignment.task_id} is handed to claim {first}, and to {claim}"


def claims_get_what_nobody_is_at(reply: Reply, rows: Rows) -> Iterator[str]:
    """A repeated claim gets its attempt again only before the attempt's first heartbeat."""
    if reply.call != "claim" or reply.value is None:
        return
    lease: Lease = reply.value.lease
    if lease.heartbeat_seen:
        yield f"claim {reply.arguments['claim']} gets attempt {lease.attempt} of {lease.task_id}, which is being done"


def claims_are_not_taken_back(commit: Commit, rows: Rows) -> Iterator[str]:
    """An attempt that a claim got is not taken back because an earlier call of the same claim was abandoned.

    This holds only if no actor raises and no disk stalls. Otherwise a later call may fail in the node and be abandoned
    as well, and then the task does go back, because nobody can tell whether the claimer is gone.
    """
    if not rows.faults.isdisjoint({*_ACTORS_CRASH, "commit_stalled"}):
        return
    for record in commit.records:
        if record.kind != "agent.claim_abandoned":
            continue
        lease = next((change.before for change in commit.of(LEASES.name) if change.key == record.entity_id), None)
        if lease is not None and (lease.task_id, lease.attempt) in rows.ledger.claimed:
            yield f"attempt {lease.attempt} of {lease.task_id} is taken from {lease.agent_id}, which was handed it"


def handed_is_committed(assignment: Assignment, rows: Rows) -> Iterator[str]:
    """An attempt that an agent is handed is committed for that agent, with its parameters and input."""
    task = rows.tasks.get(assignment.task_id)
    if task is None and assignment.session_id in rows.gone:
        # The run was cancelled, and removed, before the agent was reached.
        return
    where = f"attempt {assignment.attempt} of {assignment.task_id}"
    if task is None or task.attempt < assignment.attempt:
        yield f"{where} is handed to {assignment.agent_id}, and is not on the disk"
        return
    if task.attempt == assignment.attempt and task.agent_id != assignment.agent_id:
        yield f"{where} is handed to {assignment.agent_id}, and is {task.agent_id}'s"
    session = rows.sessions[task.session_id]
    definition = rows.task_definition(task)
    others = definition.filled.constant and assignment.parameters != definition.parameters
    if assignment.input != session.payload or others:
        yield f"{where} is handed over with other parameters or input than it has"


def handed_is_open(assignment: Assignment, rows: Rows) -> Iterator[str]:
    """An attempt that an agent is handed has not ended, unless a cancellation or a reset overtook it."""
    ends = rows.ends.get((assignment.task_id, assignment.attempt))
    taken_back = ends and (ends[0] is TaskStatus.CANCELLED or assignment.session_id in rows.ledger.reset)
    if ends and not taken_back and rows.faults.isdisjoint(_ACTORS_CRASH):
        where = f"attempt {assignment.attempt} of {assignment.task_id}"
        yield f"{where} is handed to {assignment.agent_id}, and has ended as {ends[0]}"


def who_is_handed_an_attempt_has_time_for_it(assignment: Assignment, rows: Rows) -> Iterator[str]:
    """An agent has almost its full lease from when it is handed an attempt, however long the commit took."""
    attempt, lease = (assignment.task_id, assignment.attempt), rows.leases.get(assignment.agent_id)
    held = lease is not None and (lease.task_id, lease.attempt) == attempt
    just_now = rows.clock_moved_within(_THAWED_S) or rows.now() - rows.thawed_at < _THAWED_S
    if lease is None or not held or lease.delivered or just_now:
        return
    left_s = lease.expires_at - rows.now()
    if left_s < lease.lease_s - LATE_S - _EPSILON_S:
        yield f"{assignment.agent_id} is handed {assignment.task_id}, and has {left_s:g} s of {lease.lease_s:g}"


def life_ends_the_handing_over(assignment: Assignment, rows: Rows) -> Iterator[str]:
    """An attempt is not handed over again after its agent has shown life."""
    attempt, lease = (assignment.task_id, assignment.attempt), rows.leases.get(assignment.agent_id)
    held = lease is not None and (lease.task_id, lease.attempt) == attempt
    if lease is not None and held and attempt in rows.ledger.handed and (lease.active_seen or lease.heartbeat_seen):
        yield f"attempt {assignment.attempt} of {assignment.task_id} is handed over again, and its agent shows life"
    rows.ledger.handed.add(attempt)


def calls_are_handed_once(assignment: Assignment, rows: Rows) -> Iterator[str]:
    """A tool call is handed over once, unless the network repeats it."""
    attempt = (assignment.task_id, assignment.attempt)
    if assignment.tool and attempt in rows.ledger.called and "delivery_repeated" not in rows.faults:
        yield f"the call of {assignment.task_id} is handed over again, as attempt {assignment.attempt}"
    if assignment.tool:
        rows.ledger.called.add(attempt)


_UNKNOWN: Final = frozenset({"lost", "outcome_unknown", "timeout", "heartbeat_timeout"})
"""The error codes that leave the outcome of a sent call unknown."""


def unknown_calls_are_not_repeated(commit: Commit, rows: Rows) -> Iterator[str]:
    """A tool call with an unknown outcome is repeated only if it is idempotent."""
    for before, after in commit.moved_tasks:
        definition = rows.task_definition(after)
        if definition.kind is not TaskKind.TOOL or definition.idempotent or not before.is_out:
            continue
        error = after.error
        # An agent may choose the same code for a failure that it reports, which is a known outcome.
        unknown = error is not None and error.code in _UNKNOWN and error.message != FAILURE_MESSAGE
        lease = next((each.before for each in commit.of(LEASES.name) if each.key == before.agent_id), None)
        sent = lease is not None and lease.delivered
        if unknown and sent and after.status in (TaskStatus.READY, TaskStatus.PENDING_RETRY):
            yield f"nobody knows what came of the call of {after.task_id}, and it is {after.status} again"


def results_are_of_their_attempts(commit: Commit, rows: Rows) -> Iterator[str]:
    """A task's result is the one that the agent of its last attempt sent for that attempt."""
    for before, after in commit.moved_tasks:
        if after.status is not TaskStatus.COMPLETED or not before.is_out:
            continue
        if after.result is not None and after.result not in list(_sent(after, commit, rows)):
            yield f"attempt {after.attempt} of {after.task_id} is complete with {after.result!r}, and that was not sent"


def _sent(task: Task, commit: Commit, rows: Rows) -> Iterator[Any]:
    """Yield the possible results: those sent for this attempt, or without a number by an agent that had shown life."""
    for attempt in range(1, task.attempt + 1):
        for who, what, result in rows.ledger.said.get((task.task_id, attempt), ()):
            if who == task.agent_id and (what == "complete" and attempt == task.attempt):
                yield result
            elif who == task.agent_id and what == "complete without a number":
                before = next((each.before for each in commit.of(LEASES.name) if each.key == who), None)
                if attempt == task.attempt or (before is not None and before.active_seen):
                    yield result


def nothing_accepted_is_lost(rows: Rows) -> Iterator[str]:
    """Every run that was ever accepted is stored, unless retention removed it."""
    for key, session_id in rows.ledger.accepted.items():
        if rows.session(session_id) is None:
            yield f"session {session_id}, accepted for key {key!r}, is gone"


def everything_ends(rows: Rows) -> Iterator[str]:
    """Once faults have stopped, every run ends.

    A run whose actor kept crashing may stay paused instead, and runs that wait for it may wait until it is resumed.
    """
    for session in rows.sessions.values():
        if session.status not in SESSION_ENDED and not _is_held_up(session, rows):
            tasks = ", ".join(f"{task.key} {_stands(task)}" for task in rows.tasks_of(session.session_id))
            yield f"session {session.session_id} is still {session.status}: {tasks}"


def _is_held_up(session: Session, rows: Rows) -> bool:
    """Whether a run is quarantined, or waits for one that is."""
    if session.status is SessionStatus.PAUSED:
        return not rows.faults.isdisjoint(_ACTORS_CRASH)
    awaited = (
        rows.sessions.get(task.child_session_id or "") for task in rows.tasks_of(session.session_id) if task.awaits
    )
    return any(below is not None and _is_held_up(below, rows) for below in awaited)


def _stands(task: Task) -> str:
    return f"{task.status} at {task.attempt} with {task.agent_id}" if task.is_out else f"{task.status}"
