"""The messages to an agent's actor."""

from collections.abc import Callable
from typing import Any, ClassVar, TypeVar

import attrs

from opscore.actors.message import Message
from opscore.runtime.delivery import Completed, Fact, Failed
from opscore.runtime.errors import OpscoreError
from opscore.runtime.lease import Lease
from opscore.runtime.messages.protocols import AgentProtocol
from opscore.runtime.models import Agent, AgentSource, Assignment, Granted, Registration

ReplyT = TypeVar("ReplyT")


def _nothing() -> None:
    """Do nothing: an agent that is not a function of this process has nothing to attach or detach."""


class _ToAgent(Message[AgentProtocol, ReplyT]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (OpscoreError,)


@attrs.frozen(kw_only=True)
class Report(_ToAgent[bool]):
    """A state report. The reply is whether it was accepted; `False` if it was older than the newest."""

    state: str
    details: dict[str, Any] | None = None
    timestamp: float | None = None


@attrs.frozen(kw_only=True)
class SetCordon(_ToAgent[Agent]):
    """Take the agent out of dispatch, or put it back."""

    cordoned: bool


@attrs.frozen(kw_only=True)
class Claim(_ToAgent[Granted | None]):
    """Wait for a task. The reply is None when the wait is over."""

    claim_id: str | None
    wait_s: float
    ticket: str
    """Identifies this one call, because a claim id may be repeated."""


@attrs.frozen(kw_only=True)
class AbandonClaim(_ToAgent[None]):
    """The claimer went away while it waited."""

    ticket: str


@attrs.frozen(kw_only=True)
class Heartbeat(_ToAgent[Lease]):
    """The agent still works. The reply is the renewed lease."""

    task_id: str
    attempt: int
    progress: Any = None
    """The agent's progress; None keeps the earlier one."""


@attrs.frozen(kw_only=True)
class Finish(_ToAgent[None]):
    """The agent ends its attempt, which it names."""

    task_id: str
    attempt: int
    outcome: Completed | Failed


@attrs.frozen(kw_only=True)
class LeaseGranted(_ToAgent[None]):
    """A dispatch to this agent is committed; deliver it."""

    lease: Lease
    version: int
    assignment: Assignment


@attrs.frozen(kw_only=True)
class DeliveryEnded(_ToAgent[None]):
    """The outcome of delivering the attempt."""

    task_id: str
    attempt: int
    fact: Fact


@attrs.frozen(kw_only=True)
class LeaseDue(_ToAgent[None]):
    """The lease may be over now."""

    at: float
    """The wall time at which the timers found it so; it may have been put off since."""


@attrs.frozen(kw_only=True)
class SuspicionDue(_ToAgent[None]):
    """The agent's suspicion may be over now."""


@attrs.frozen(kw_only=True)
class StoodStill(_ToAgent[None]):
    """The node stood still, in which time no agent could be heard, or its clock was moved."""

    seconds: float
    """For how long, or by how much; negative if the clock was set back."""
    since: float
    """A time of trio's clock at which it had not happened yet."""
    idle_s: float
    """How much of trio's time passed while the node stood still; 0 if only the clock was moved."""


@attrs.frozen(kw_only=True)
class AgentQuiet(_ToAgent[None]):
    """Some time has passed: stop, if no message came and nothing is left to do."""


@attrs.frozen(kw_only=True)
class AnnounceAgent(_ToAgent[None]):
    """Tell the dispatcher whether the agent can be given work."""


@attrs.frozen(kw_only=True)
class Recheck(_ToAgent[None]):
    """Look at the rows again after a crash."""


@attrs.frozen(kw_only=True)
class ClaimWaitOver(_ToAgent[None]):
    """The wait of a claim is over."""

    ticket: str


@attrs.frozen(kw_only=True)
class ClaimGraceOver(_ToAgent[None]):
    """A leased task has waited long enough for a claimer to come back."""

    task_id: str
    attempt: int


@attrs.frozen(kw_only=True)
class Register(_ToAgent[Agent]):
    """Register the agent, or register it again. The reply is the agent as it is then."""

    registration: Registration
    listed: bool = False
    """It comes from a list: the agent stays as it is if that is no news, or another source introduced it."""
    by_report: bool = False
    """It comes from a report, which gives only the id: a known agent stays as it is; a new one can be introduced."""
    attach: Callable[[], None] = _nothing
    """Attaches its function; called as soon as the registration is committed, before anyone is told of it."""


@attrs.frozen(kw_only=True)
class Deregister(_ToAgent[bool]):
    """Forget the agent; an attempt that it holds is lost. The reply is whether the agent is gone."""

    source: AgentSource | None = None
    """If given, forget the agent only if this source introduced it."""
    detach: Callable[[], None] = _nothing
    """Detaches its function; called as soon as the agent is gone, before another registration can attach one."""


@attrs.frozen(kw_only=True)
class Resume(_ToAgent[None]):
    """The node started and found this agent holding a lease."""


@attrs.frozen(kw_only=True)
class GiveBack(_ToAgent[None]):
    """The node is about to end: the attempt of a local function goes back to the queue, and is not counted."""
