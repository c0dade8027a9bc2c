"""The specifications of children and supervisors: the values that describe a tree of actors.

Strategies, restart types, intensity, significant children and automatic shutdown are those of Erlang/OTP's
`supervisor` behaviour; backoff, a budget for each child and draining are additions.
"""

from __future__ import annotations

import enum
from collections.abc import Callable
from typing import Any, Generic, TypeVar

import attrs

from opscore.actors.actor import Actor
from opscore.actors.backoff import Backoff
from opscore.actors.mailbox_spec import MailboxSpec

ProtocolT = TypeVar("ProtocolT")


class Strategy(enum.Enum):
    """Which children are restarted when one fails."""

    ONE_FOR_ONE = "one_for_one"
    """Only the child that failed: siblings do not need each other."""
    ONE_FOR_ALL = "one_for_all"
    """Every child: siblings need each other."""
    REST_FOR_ONE = "rest_for_one"
    """The child that failed and those started after it: a child may need the ones before it."""


class Restart(enum.Enum):
    """After which exits a child is restarted."""

    PERMANENT = "permanent"
    """After every exit."""
    TRANSIENT = "transient"
    """After a failure."""
    TEMPORARY = "temporary"
    """Never."""


class AutoShutdown(enum.Enum):
    """Whether a supervisor stops by itself once its significant children are gone."""

    NEVER = "never"
    """It does not."""
    ANY_SIGNIFICANT = "any_significant"
    """Once any one of them has ended by itself."""
    ALL_SIGNIFICANT = "all_significant"
    """Once the last of them has ended by itself."""


@attrs.frozen(kw_only=True)
class Intensity:
    """How many restarts are allowed within a sliding window."""

    restarts_max: int = attrs.field(default=5, validator=attrs.validators.ge(0))
    """Restarts that are allowed within the window."""
    within_s: float = attrs.field(default=60.0, validator=attrs.validators.gt(0.0))
    """Length of the window, in seconds."""

    def slide(self, restarts: tuple[float, ...], now: float) -> tuple[float, ...]:
        """Return the window at `now`: the restarts that are still within it, and one at `now`."""
        return (*(at for at in restarts if at > now - self.within_s), now)

    def exceeded_by(self, restarts: tuple[float, ...]) -> bool:
        """Return whether a window holds more restarts than are allowed."""
        return len(restarts) > self.restarts_max


def _check_name(_: object, __: attrs.Attribute[str], name: str) -> None:
    if not name or "/" in name:
        msg = f"the name of a child must not be empty or contain a slash: {name!r}"
        raise ValueError(msg)


def _check_significant(
    child: ChildSpec[Any] | SupervisorSpec,
    _: attrs.Attribute[Any],
    significant: bool,  # noqa: FBT001 (attrs calls validators by position)
) -> None:
    if significant and child.restart is Restart.PERMANENT:
        msg = f"{child.name!r} is permanent: it never ends by itself, so it can't be significant; make it transient"
        raise ValueError(msg)


@attrs.frozen(kw_only=True)
class ChildSpec(Generic[ProtocolT]):
    """An actor that a supervisor starts."""

    name: str = attrs.field(validator=_check_name)
    """Unique among its live siblings; no slash."""
    factory: Callable[[], Actor[ProtocolT]]
    """Creates the instance of each incarnation."""
    restart: Restart = Restart.PERMANENT
    """After which exits the child is restarted."""
    significant: bool = attrs.field(default=False, validator=_check_significant)
    """Whether its ending by itself counts for the supervisor's `auto_shutdown`. Not for permanent children."""
    mailbox: MailboxSpec = attrs.field(default=MailboxSpec())
    """Capacity, overflow policy, stash and redeliveries of its mailbox."""
    backoff: Backoff = attrs.field(default=Backoff())
    """Delay before a restart; it starts afresh once an incarnation has run for `backoff.max_s`."""
    budget: Intensity | None = None
    """The child's own restart window. Under `one_for_one`, a child that exceeds it is given up alone, unless it is
    significant; in every other case the supervisor escalates."""
    shutdown_s: float = attrs.field(default=5.0, validator=attrs.validators.ge(0.0))
    """Seconds from the stop message to cancellation, and after that as many again for a shielded `on_stop`."""
    drain: bool = False
    """Whether a child that is stopped, and not restarted, first handles the messages that wait, within `shutdown_s`. It
    takes no new ones."""
    on_given_up: Callable[[str, BaseException], None] | None = None
    """Called with the child's name and last error when the child has exceeded its budget and is given up."""


def _check_children(
    supervisor: SupervisorSpec,
    _: attrs.Attribute[Any],
    children: tuple[ChildSpec[Any] | SupervisorSpec, ...],
) -> None:
    names = [child.name for child in children]
    if len(set(names)) < len(names):
        msg = f"two children of supervisor {supervisor.name!r} share a name: {sorted(names)}"
        raise ValueError(msg)
    for child in children:
        check_child(supervisor, child)


@attrs.frozen(kw_only=True)
class SupervisorSpec:
    """A supervisor and its static children."""

    name: str = attrs.field(validator=_check_name)
    """Unique among its siblings; the root's name is not part of any path."""
    strategy: Strategy = Strategy.ONE_FOR_ONE
    """Which children are restarted with one that failed."""
    intensity: Intensity | None = attrs.field(default=Intensity())
    """Ceiling for the restarts of all children taken together; one more escalates. None means no ceiling, for pools
    whose children all have a `budget`."""
    auto_shutdown: AutoShutdown = AutoShutdown.NEVER
    """Whether the supervisor stops by itself once its significant children are gone."""
    children: tuple[ChildSpec[Any] | SupervisorSpec, ...] = attrs.field(default=(), validator=_check_children)
    """Started left to right, stopped right to left."""
    shutdown_s: float = attrs.field(default=10.0, validator=attrs.validators.ge(0.0))
    """Seconds from the stop message until everything below it is cancelled."""
    restart: Restart = Restart.PERMANENT
    """As for a `ChildSpec`; a supervisor ends normally only by its `auto_shutdown`."""
    significant: bool = attrs.field(default=False, validator=_check_significant)
    """As for a `ChildSpec`, under a supervisor with `auto_shutdown`."""
    backoff: Backoff = attrs.field(default=Backoff())
    """Delay before the supervisor above restarts this one."""


def check_child(supervisor: SupervisorSpec, child: ChildSpec[Any] | SupervisorSpec) -> None:
    """Check that a child, static or dynamic, makes sense under a supervisor.

    Raises:
        ValueError: The child is significant, and the supervisor never shuts down by itself.
    """
    if child.significant and supervisor.auto_shutdown is AutoShutdown.NEVER:
        msg = f"{child.name!r} is significant, but {supervisor.name!r} does not shut down by itself: set auto_shutdown"
        raise ValueError(msg)
