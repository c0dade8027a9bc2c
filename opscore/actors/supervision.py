"""What to supervise, and what to do when it ends: a pure decision.

The rules are those of Erlang/OTP's `supervisor` behaviour; backoff and a child's own budget are additions.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Collection
from typing import TYPE_CHECKING, Any, Generic, TypeVar

import attrs

from opscore.actors.actor import Actor
from opscore.actors.backoff import Backoff
from opscore.actors.errors import ActorStopped
from opscore.actors.mailbox import MailboxSpec

if TYPE_CHECKING:
    from random import Random

ProtocolT = TypeVar("ProtocolT")


class Strategy(enum.Enum):
    """Which children are restarted when one fails."""

    ONE_FOR_ONE = "one_for_one"
    ONE_FOR_ALL = "one_for_all"
    REST_FOR_ONE = "rest_for_one"


class Restart(enum.Enum):
    """After which exits a child is restarted."""

    PERMANENT = "permanent"
    """After every exit."""
    TRANSIENT = "transient"
    """After a failure."""
    TEMPORARY = "temporary"
    """Never."""


@attrs.frozen(kw_only=True)
class Intensity:
    """How many restarts a sliding window may hold."""

    restarts_max: int = attrs.field(default=5, validator=attrs.validators.ge(0))
    within_s: float = attrs.field(default=60.0, validator=attrs.validators.gt(0.0))

    def slide(self, restarts: tuple[float, ...], now: float) -> tuple[float, ...]:
        """Return the window with a restart at `now` added and what fell out of it removed."""
        return (*(at for at in restarts if at > now - self.within_s), now)

    def exceeded_by(self, restarts: tuple[float, ...]) -> bool:
        """Return whether a window holds more restarts than allowed."""
        return len(restarts) > self.restarts_max


def _check_name(_: object, __: attrs.Attribute[str], name: str) -> None:
    if not name or "/" in name:
        msg = f"the name of a child must not be empty or contain a slash: {name!r}"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class ChildSpec(Generic[ProtocolT]):
    """One actor of a supervisor."""

    name: str = attrs.field(validator=_check_name)
    """Unique among its live siblings; no slash."""
    factory: Callable[[], Actor[ProtocolT]]
    """Makes the instance of each incarnation."""
    restart: Restart = Restart.PERMANENT
    mailbox: MailboxSpec = attrs.field(factory=MailboxSpec)
    backoff: Backoff = attrs.field(factory=Backoff)
    """Delay before a restart; it starts afresh once an incarnation ran for `backoff.max_s`."""
    budget: Intensity | None = None
    """A window of the child's own; exceeding it escalates, or ends only the child if `on_given_up` is set."""
    shutdown_s: float = attrs.field(default=5.0, validator=attrs.validators.ge(0.0))
    """Seconds from the stop message to cancellation, and again for a shielded `on_stop`."""
    on_given_up: Callable[[str, BaseException], None] | None = None
    """Called with the child's name and last error when it exceeded its budget (the supervisor's intensity if
    it has none) and was dropped for good. Restarts of such a child do not count against the supervisor."""


def _check_children(
    supervisor: SupervisorSpec,
    _: attrs.Attribute[Any],
    children: tuple[ChildSpec[Any] | SupervisorSpec, ...],
) -> None:
    names = [child.name for child in children]
    if len(set(names)) < len(names):
        msg = f"two children of supervisor {supervisor.name!r} share a name: {sorted(names)}"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class SupervisorSpec:
    """A supervisor and its static children."""

    name: str = attrs.field(validator=_check_name)
    """Unique among its siblings; the root's is not part of any path."""
    strategy: Strategy = Strategy.ONE_FOR_ONE
    intensity: Intensity = attrs.field(factory=Intensity)
    children: tuple[ChildSpec[Any] | SupervisorSpec, ...] = attrs.field(default=(), validator=_check_children)
    """Started left to right, stopped right to left."""
    shutdown_s: float = attrs.field(default=10.0, validator=attrs.validators.ge(0.0))
    """Seconds from the stop message until everything below is cancelled."""
    restart: Restart = Restart.PERMANENT
    backoff: Backoff = attrs.field(factory=Backoff)
    """Delay before this supervisor is restarted by its own."""


@attrs.frozen(kw_only=True)
class Exit:
    """The end of one incarnation."""

    name: str
    """Path of what ended."""
    incarnation: int
    cause: BaseException | None
    """Why it failed; None if it ended normally. A failed start is a `StartFailed`."""
    ran_s: float
    """Seconds from the end of `on_start` on; 0.0 if that never came."""


@attrs.frozen(kw_only=True)
class Record:
    """What a supervisor remembers of one child."""

    failures: int = 0
    """Failures in a row."""
    restarts: tuple[float, ...] = ()
    """The window of the child's own budget."""


class Action(enum.Enum):
    """What a supervisor does about an exit."""

    DROP = "drop"
    """The child is gone, as its restart type says."""
    RESTART = "restart"
    GIVE_UP = "give_up"
    """The child is dropped because of its own budget; siblings live on."""
    ESCALATE = "escalate"
    """The supervisor stops its children and fails."""


@attrs.frozen(kw_only=True)
class Decision:
    """An action, and the memory to decide the next exit with."""

    action: Action
    window: tuple[float, ...]
    """The supervisor's restart window."""
    record: Record
    names: tuple[str, ...] = ()
    """Children to restart, in starting order."""
    delay_s: float = 0.0
    cause: BaseException | None = None


def decide(
    *,
    supervisor: SupervisorSpec,
    child: ChildSpec[Any] | SupervisorSpec,
    siblings: Collection[str],
    window: tuple[float, ...],
    record: Record,
    exit_: Exit,
    now: float,
    random: Random,
) -> Decision:
    """Decide what follows from the end of a child.

    Args:
        supervisor: The supervisor's specification.
        child: The specification of the child that ended.
        siblings: Names of all children in starting order, the one that ended included.
        window: Times of the supervisor's restarts.
        record: What is remembered of the child.
        exit_: How it ended.
        now: Monotonic time in seconds.
        random: Where the backoff's jitter comes from.
    """
    if child.restart is Restart.TEMPORARY or (child.restart is Restart.TRANSIENT and exit_.cause is None):
        return Decision(action=Action.DROP, window=window, record=record, cause=exit_.cause)
    cause = exit_.cause if exit_.cause is not None else ActorStopped(exit_.name)
    failures = 1 if exit_.ran_s >= child.backoff.max_s else record.failures + 1
    budget = child.budget if isinstance(child, ChildSpec) else None
    quarantined = isinstance(child, ChildSpec) and child.on_given_up is not None
    own = budget if budget is not None else supervisor.intensity
    record = Record(failures=failures, restarts=own.slide(record.restarts, now))
    over_budget = own.exceeded_by(record.restarts) and (quarantined or budget is not None)
    if quarantined and over_budget:
        return Decision(action=Action.GIVE_UP, window=window, record=record, cause=cause)
    if not quarantined:
        window = supervisor.intensity.slide(window, now)
        if over_budget or supervisor.intensity.exceeded_by(window):
            return Decision(action=Action.ESCALATE, window=window, record=record, cause=cause)
    return Decision(
        action=Action.RESTART,
        window=window,
        record=record,
        names=_group(supervisor.strategy, child.name, siblings),
        delay_s=child.backoff.delay_s(failures, random),
        cause=cause,
    )


def _group(strategy: Strategy, name: str, siblings: Collection[str]) -> tuple[str, ...]:
    """Return who is restarted with a child, in starting order."""
    if strategy is Strategy.ONE_FOR_ONE:
        return (name,)
    order = tuple(siblings)
    return order if strategy is Strategy.ONE_FOR_ALL else order[order.index(name) :]
