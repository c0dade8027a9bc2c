"""Decisions on requests to a run from outside: steering it, discarding a dead letter, and sending it a signal."""

import random

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
from opscore.runtime.journal.tables import session_of
from opscore.runtime.limits import Limits
from opscore.runtime.messages.to_session import SendSignal
from opscore.runtime.models import Move, SessionStatus, Signal
from opscore.runtime.runs import reviving, transitions
from opscore.runtime.runs.run import Draft, Run, Step


def steered(run: Run, move: Move, reason: str | None, now: float) -> Step | None:
    """Return the step of a move, or None if the run is there already.

    Raises:
        SessionConflict: the move is impossible in the run's present status.
    """
    session = run.session
    if move is Move.RETRY:
        _check_revivable(run)
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


def _check_revivable(run: Run) -> None:
    session = run.session
    if session.status is not SessionStatus.FAILED:
        raise SessionConflict(session.session_id, f"it is {session.status}, and only a failed session can be retried")
    if session.parent_task_id is not None:
        reason = f"it is a child run of session {session_of(session.parent_task_id)!r}; retry that one"
        raise SessionConflict(session.session_id, reason)
    if reviving.compensated(run):
        raise SessionConflict(session.session_id, "it has been compensated, so it can't be retried")


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
