"""What a running system shows of itself: values, as of one moment."""

from __future__ import annotations

import enum

import attrs

from opscore.actors.scheduler import SchedulerStatistics


class State(enum.Enum):
    """Where an actor or supervisor is in its life."""

    NEW = "new"
    """It is to be started as soon as its supervisor may."""
    STARTING = "starting"
    """Its factory or `on_start` runs, or waits for its turn."""
    RUNNING = "running"
    """It handles messages."""
    STOPPING = "stopping"
    """It was asked to stop, or cancelled, and has not ended."""
    DOWN = "down"
    """No incarnation runs; one may follow."""
    GONE = "gone"
    """It is gone for good."""


@attrs.frozen(kw_only=True)
class ActorSnapshot:
    """One actor or supervisor as it was at one moment."""

    name: str
    """Its path."""
    state: State
    """Where it is in its life."""
    incarnation: int
    """Number of its newest incarnation, from 1; 0 before the first."""
    restarts: int
    """Incarnations after the first, whatever ended the ones before."""
    depth: int
    """Messages waiting; of a supervisor, exits that it has not decided yet."""
    high_water: int
    """The most that ever waited at a time."""
    stashed: int
    """Messages that the actor put aside."""
    handled: int
    """Messages whose handler returned or answered with a declared error, over all incarnations."""
    dropped: int
    """Messages that the overflow policy dropped."""
    failed: int
    """Incarnations that ended with an error."""
    last_error: BaseException | None
    """What the newest of those ended with, or None."""
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
    """The tasks that run its actors."""
    timers: int
    """Deadlines held, some of what is already done included."""
    dead_letters: int
    """Since the system was opened."""
