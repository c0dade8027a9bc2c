"""Decisions on requests to a run from outside: steering it, discarding a dead letter, and sending it a signal."""

import random
from collections.abc import Sequence

import attrs

from opscore.runtime.definitions.definition import digest
from opscore.runtime.errors import (
    DeadLetterNotFound,
    Fault,
    IdempotencyConflict,
    InvalidDocument,
    LimitExceeded,
    SessionConflict,
)
from opscore.runtime.identity import new_id
from opscore.runtime.journal.tables import SESSIONS, TASKS, session_of
from opscore.runtime.limits import Limits
from opscore.runtime.messages.to_session import SendSignal
from opscore.runtime.models import SESSION_ENDED, Move, Session, SessionStatus, Signal, TaskStatus
from opscore.runtime.runs import reviving, transitions
from opscore.runtime.runs.run import Draft, Run, Step
from opscore.runtime.store import Snapshot


@attrs.frozen(kw_only=True)
class Above:
    """A run above a child run."""

    session_id: str
    status: SessionStatus | None
    """None if retention has removed it."""
    failed_by_it: bool
    """Whether the task that began the run below has failed with that very run."""


def runs_above(view: Snapshot, session: Session) -> tuple[Above, ...]:
    """Return the runs above a child run, the nearest first, up to the one that was triggered or is gone."""
    found: list[Above] = []
    below: Session | None = session
    while below is not None and below.parent_task_id is not None:
        task, session_id = TASKS.read(view, below.parent_task_id).row, session_of(below.parent_task_id)
        above = SESSIONS.read(view, session_id).row
        by_it = task is not None and task.status is TaskStatus.FAILED and task.child_session_id == below.session_id
        found.append(Above(session_id=session_id, status=None if above is None else above.status, failed_by_it=by_it))
        below = above
    return tuple(found)


def steered(run: Run, move: Move, reason: str | None, now: float, above: Sequence[Above] = ()) -> Step | None:
    """Return the step of a move, or None if the run is there already.

    Args:
        run: the run.
        move: what to do.
        reason: why.
        now: the time.
        above: the runs above it, the nearest first, from which it follows what to retry in its place.

    Raises:
        SessionConflict: the move is impossible in the run's present status.
    """
    session = run.session
    if move is Move.RETRY:
        _check_revivable(run, above)
        return reviving.revive(run, now)
    if run.ended:
        if move in (Move.CANCEL, Move.TERMINATE) and session.status is SessionStatus.CANCELLED:
            return None
        raise SessionConflict(session.session_id, f"it is {session.status}")
    paused = session.status is SessionStatus.PAUSED
    match move:
        case Move.CANCEL:
            return None if session.cancelled_at is not None else transitions.cancel(run, reason, now)
        case Move.TERMINATE:
            return transitions.terminate(run, reason, now)
        case Move.PAUSE:
            return None if paused else transitions.pause(run, reason, now)
        case Move.RESUME:
            return transitions.resume(run, now) if paused else None
        case Move.RESET:
            return transitions.reset(run, now)


def _check_revivable(run: Run, above: Sequence[Above]) -> None:
    session = run.session
    if session.status is not SessionStatus.FAILED:
        raise SessionConflict(session.session_id, f"it is {session.status}, and only a failed session can be retried")
    if session.parent_task_id is not None:
        told = f"it is a child run of session {session_of(session.parent_task_id)!r}"
        raise SessionConflict(session.session_id, f"{told}; {_in_its_place(above)}")
    if reviving.compensated(run):
        raise SessionConflict(session.session_id, "it has been compensated, so it can't be retried")


def _in_its_place(above: Sequence[Above]) -> str:
    """Say what can be done where a child run can't be retried."""
    for each in above:
        if each.status is None or not each.failed_by_it or each.status is not SessionStatus.FAILED:
            remedy = "discard its dead letters, or trigger its workflow anew"
            if each.status is None:
                return f"session {each.session_id!r} is no longer kept, so {remedy}"
            if each.status in SESSION_ENDED:
                return f"session {each.session_id!r} is {each.status} and waits for it no more, so {remedy}"
            return (
                f"session {each.session_id!r} goes on, it is {each.status}; if that one fails, retry it, else {remedy}"
            )
    return f"retry session {above[-1].session_id!r}, which begins it anew" if above else "retry that one"


def discarded(run: Run, task_id: str, now: float) -> Step:
    """Return the step that discards a dead letter.

    Raises:
        DeadLetterNotFound: the task is not a dead letter.
        SessionConflict: the run has not ended, and would make it a dead letter again.
    """
    task = run.find(task_id)
    if task is None or not task.dead:
        raise DeadLetterNotFound(task_id)
    if not run.ended:
        raise SessionConflict(run.session.session_id, f"it is {run.session.status}, and has to end first")
    draft = Draft(run, now)
    draft.change(task, dead=False)
    return draft.step()


def told_again(told: Signal, message: SendSignal) -> Signal:
    """Return the signal that a run has got before under the id of a message.

    Raises:
        IdempotencyConflict: that signal has another name or payload.
    """
    # The payloads are compared as JSON, because to Python true equals 1.
    if told.name != message.name or digest(told.payload) != digest(message.payload):
        raise IdempotencyConflict(told.signal_id)
    return told


def admitted(run: Run, told: SendSignal, known: int, limits: Limits, now: float, rng: random.Random) -> Signal:
    """Check a message with a signal, and return the signal.

    Args:
        run: the run that it is sent to.
        told: the message.
        known: how many signals the run has got before.
        limits: bounds that number.
        now: the time.
        rng: makes up an id if the message has none.

    Raises:
        SessionConflict: the run has ended.
        InvalidDocument: no task of its definition waits for a signal of that name.
        LimitExceeded: the run has got too many signals.
    """
    session_id, names = run.session.session_id, sorted(run.definition.signals)
    if run.ended:
        raise SessionConflict(session_id, f"it is {run.session.status}")
    if told.name not in names:
        waits_for = f"it waits for {', '.join(map(repr, names))}" if names else "it waits for none"
        message = f"this workflow has no signal {told.name!r}; {waits_for}"
        raise InvalidDocument("signal", (Fault(path="name", message=message),))
    if known >= limits.signals_max:
        raise LimitExceeded("signals_max", limits.signals_max, known + 1)
    return Signal(
        session_id=session_id,
        signal_id=told.signal_id or new_id("sig", now, rng),
        number=known,
        name=told.name,
        payload=told.payload,
        received_at=now,
    )
