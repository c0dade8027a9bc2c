"""What may be asked of a run from outside, such as to cancel or to retry it, and what each comes to."""

import random

from opscore.runtime import reviving, transitions
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
from opscore.runtime.limits import Limits
from opscore.runtime.messages import SendSignal
from opscore.runtime.models import Move, SessionStatus, Signal
from opscore.runtime.run import Draft, Run, Step
from opscore.runtime.tables import session_of


def steered(run: Run, move: Move, reason: str | None, now: float) -> Step | None:
    """The step that a move comes to; nothing where the run stands so already.

    Raises:
        SessionConflict: where the run stands, it can't be moved so.
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
        raise SessionConflict(session.session_id, f"it is {session.status}, and only a failed one is tried again")
    if session.parent_task_id is not None:
        reason = f"session {session_of(session.parent_task_id)!r} began it; try that one again"
        raise SessionConflict(session.session_id, reason)
    if reviving.compensated(run):
        raise SessionConflict(session.session_id, "what it did has been compensated, and can't be gone on with")


def discarded(run: Run, task_id: str, now: float) -> Step:
    """The step after which a task is no dead letter any more.

    Raises:
        DeadLetterNotFound: it is none.
        SessionConflict: the run has not ended, and would bury it again.
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
    """The signal that a run has been told before, under the id that it is told another time.

    Raises:
        IdempotencyConflict: it was another one.
    """
    # As JSON: to Python, true is 1.
    if told.name != message.name or digest(told.payload) != digest(message.payload):
        raise IdempotencyConflict(told.signal_id)
    return told


def admitted(run: Run, told: SendSignal, known: int, limits: Limits, now: float, rng: random.Random) -> Signal:
    """The signal that the run is told, if it is for anything.

    Args:
        run: the run.
        told: what it is told.
        known: how many signals it has been told before.
        limits: how many it may be.
        now: the time.
        rng: draws the id of one that was given none.

    Raises:
        SessionConflict: the run has ended.
        InvalidDocument: its definition waits for no signal of that name.
        LimitExceeded: it has been told too many.
    """
    session_id, names = run.session.session_id, sorted(run.definition.signals)
    if run.ended:
        raise SessionConflict(session_id, f"it is {run.session.status}")
    if told.name not in names:
        waits_for = f"it waits for {', '.join(map(repr, names))}" if names else "it waits for none"
        raise InvalidDocument("signal", (Fault(path="name", message=f"{told.name!r} is no signal of it; {waits_for}"),))
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
