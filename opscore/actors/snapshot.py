"""What a running system shows of itself: values, as of one moment."""

from __future__ import annotations

import enum

import attrs

from opscore.actors.scheduler import SchedulerStatistics


class State(enum.Enum):
    """Where an actor or supervisor is in its life."""

    NEW = "new"
    STARTING = "starting"
    RUNNING = "running"
    STOPPING = "stopping"
    DOWN = "down"
    """No incarnation runs; one may follow."""
    GONE = "gone"


@attrs.frozen(kw_only=True)
class ActorSnapshot:
    """One actor or supervisor as it was at one moment."""

    name: str
    """Its path."""
    state: State
    incarnation: int
    restarts: int
    depth: int
    """Messages waiting; of a supervisor, exits that it has not decided yet."""
    high_water: int
    """The most that ever waited at a time."""
    stashed: int
    """Messages that the actor put aside."""
    handled: int
    dropped: int
    """Messages that the overflow policy dropped."""
    failed: int
    """Incarnations that ended with an error."""
    last_error: BaseException | None
    current: str | None
    """Type of the message being handled, or None."""
    current_age_s: float | None
    """Seconds since its handler began, or None."""


@attrs.frozen(kw_only=True)
class SystemStatistics:
    """A whole system as it was at one moment."""

    actors: int
    """Actors and supervisors, those being restarted included."""
    scheduler: SchedulerStatistics
    timers: int
    """Deadlines held, some of what is already done included."""
    dead_letters: int
    """Since the system was opened."""
