"""What a supervisor does when a child ends, as a pure function: `(spec, history, exit, now) → decision`."""

from __future__ import annotations

import enum
from collections.abc import Collection
from typing import Any

import attrs

from opscore.actors.errors import ActorStopped
from opscore.actors.spec import AutoShutdown, ChildSpec, Restart, Strategy, SupervisorSpec


@attrs.frozen(kw_only=True)
class Exit:
    """The end of one incarnation."""

    child: ChildSpec[Any] | SupervisorSpec
    """Specification of the child that ended."""
    path: str
    incarnation: int
    cause: BaseException | None
    """Why it failed; None if it ended normally. A failed start is a `StartFailed`."""
    ran_s: float
    """Seconds since `on_start` completed; 0.0 if it did not."""


@attrs.frozen(kw_only=True)
class Record:
    """What a supervisor remembers about one child."""

    failures: int = 0
    """Exits in a row that called for a restart; a long run resets the count."""
    restarts: tuple[float, ...] = ()
    """The window of the child's own budget; empty without one."""


CLEAN = Record()
"""The record of a child that has never failed."""


@attrs.frozen(kw_only=True)
class History:
    """What a supervisor knows when a child ends."""

    window: tuple[float, ...] = ()
    """Times of the restarts that count against the supervisor's intensity."""
    record: Record = CLEAN
    """The record of the child that ended."""
    siblings: Collection[str] = ()
    """Names of all children in starting order, including the one that ended."""
    significant: int = 0
    """Number of significant children, including the one that ended; 0 if that one is not significant."""


class Action(enum.Enum):
    """What a supervisor does after an exit."""

    DROP = "drop"
    """The child is gone, as its restart type says."""
    RESTART = "restart"
    GIVE_UP = "give_up"
    """The child is gone because it exceeded its own budget; its siblings live on."""
    SHUT_DOWN = "shut_down"
    """The supervisor stops its children and ends normally, because its significant children are gone."""
    ESCALATE = "escalate"
    """The supervisor stops its children and fails."""


@attrs.frozen(kw_only=True)
class Decision:
    """An action, and the history for the next decision."""

    action: Action
    window: tuple[float, ...]
    """The supervisor's restart window from now on."""
    record: Record
    """The child's record from now on; its backoff follows from `record.failures`."""
    names: tuple[str, ...] = ()
    """Children to restart, in starting order."""
    cause: BaseException | None = None
    """The error behind the exit; `ActorStopped` if a permanent child ended normally."""


def decide(spec: SupervisorSpec, history: History, exit_: Exit, now: float) -> Decision:
    """Decide what follows from the end of a child.

    The rules are those of Erlang/OTP's `supervisor`, after "Supervisor Behaviour" in OTP Design Principles. The
    budget of a child is an addition; it is checked before the supervisor's intensity, which it protects.

    Args:
        spec: The supervisor's specification.
        history: What the supervisor remembers.
        exit_: Which child ended, and how.
        now: Monotonic time in seconds.
    """
    child, window, record = exit_.child, history.window, history.record
    if child.restart is Restart.TEMPORARY or (child.restart is Restart.TRANSIENT and exit_.cause is None):
        action = Action.SHUT_DOWN if _ends_supervisor(spec, history, exit_) else Action.DROP
        return Decision(action=action, window=window, record=record, cause=exit_.cause)
    cause = exit_.cause if exit_.cause is not None else ActorStopped(exit_.path)
    failures = 1 if exit_.ran_s >= child.backoff.max_s else record.failures + 1
    budget = child.budget if isinstance(child, ChildSpec) else None
    record = Record(failures=failures, restarts=() if budget is None else budget.slide(record.restarts, now))
    if budget is not None and budget.exceeded_by(record.restarts):
        alone = spec.strategy is Strategy.ONE_FOR_ONE and not child.significant
        action = Action.GIVE_UP if alone else Action.ESCALATE
        return Decision(action=action, window=window, record=record, cause=cause)
    if spec.intensity is not None:
        window = spec.intensity.slide(window, now)
        if spec.intensity.exceeded_by(window):
            return Decision(action=Action.ESCALATE, window=window, record=record, cause=cause)
    names = _group(spec.strategy, child.name, history.siblings)
    return Decision(action=Action.RESTART, window=window, record=record, names=names, cause=cause)


def _ends_supervisor(spec: SupervisorSpec, history: History, exit_: Exit) -> bool:
    """Return whether the supervisor shuts down now that this child has ended by itself."""
    if not exit_.child.significant or spec.auto_shutdown is AutoShutdown.NEVER:
        return False
    return spec.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT or history.significant <= 1


def _group(strategy: Strategy, name: str, siblings: Collection[str]) -> tuple[str, ...]:
    """Return the children to restart when one has failed, in starting order."""
    if strategy is Strategy.ONE_FOR_ONE:
        return (name,)
    order = tuple(siblings)
    return order if strategy is Strategy.ONE_FOR_ALL else order[order.index(name) :]
