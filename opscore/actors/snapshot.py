"""Snapshots and statistics of a running system: values that describe one moment."""

from __future__ import annotations

import enum

import attrs

from opscore.actors.scheduler import SchedulerStatistics


class State(enum.Enum):
    """The state of an actor or supervisor."""

    NEW = "new"
    """It was not started yet; its supervisor starts it as soon as it can."""
    STARTING = "starting"
    """Its factory or `on_start` runs, or waits for a turn."""
    RUNNING = "running"
    """It handles messages."""
    STOPPING = "stopping"
    """It was asked to stop or cancelled, and has not ended yet."""
    DOWN = "down"
    """No incarnation runs; another may follow."""
    GONE = "gone"
    """It has ended, and no incarnation follows."""


@attrs.frozen(kw_only=True)
class ActorSnapshot:
    """One actor or supervisor at one moment."""

    name: str
    """Its path."""
    state: State
    """Its state."""
    incarnation: int
    """Number of its newest incarnation, from 1; 0 before the first."""
    restarts: int
    """Incarnations after the first, whatever ended the ones before."""
    depth: int
    """Messages that wait; 0 for a supervisor."""
    high_water: int
    """Highest depth so far."""
    stashed: int
    """Messages that the actor has stashed."""
    handled: int
    """Messages whose handler returned or answered with a declared error, over all incarnations."""
    dropped: int
    """Messages that the overflow policy has dropped."""
    failed: int
    """Incarnations that ended with an error."""
    last_error: BaseException | None
    """The error of the newest of those, or None."""
    current: str | None
    """Type of the message being handled, or None."""
    current_age_s: float | None
    """Seconds since its handler began, or None."""


@attrs.frozen(kw_only=True)
class SystemStatistics:
    """A whole system at one moment."""

    actors: int
    """Number of actors and supervisors, including those that are being restarted."""
    scheduler: SchedulerStatistics
    """The workers that run its actors."""
    timers: int
    """Number of deadlines held, including some that are done."""
    dead_letters: int
    """Number of dead letters since the system was opened."""
