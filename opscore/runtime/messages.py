"""The messages between the runtime's actors, grouped by the actor that receives them.

A message without a reply is a hint: everything that it would cause can be rebuilt from rows.
"""

import math
from enum import StrEnum
from typing import Any, ClassVar, TypeVar

import attrs

from opscore.actors.message import Message
from opscore.runtime.definitions.definition import Definition
from opscore.runtime.delivery import Completed, Fact, Failed, Lost, Undelivered
from opscore.runtime.errors import OpscoreError
from opscore.runtime.models import (
    Agent,
    Assignment,
    Granted,
    Lease,
    Move,
    Session,
    Signal,
    Task,
)
from opscore.runtime.protocols import AgentProtocol, DispatcherProtocol, SessionProtocol
from opscore.runtime.store import Submission
from opscore.runtime.waiting import Held, LinePage, QueueDepths, ReadyTask

ReplyT = TypeVar("ReplyT")


class _ToAgent(Message[AgentProtocol, ReplyT]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (OpscoreError,)


class _ToSession(Message[SessionProtocol, ReplyT]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (OpscoreError,)


# --- agent -----------------------------------------------------------------------------------------------


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


# --- session ---------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class Start(_ToSession[Session]):
    """Begin a run; it exists once this is answered."""

    session: Session
    definition: Definition
    extra: Submission = Submission()
    """What else belongs to the commit: the definition's revision, the idempotency key."""


@attrs.frozen(kw_only=True)
class Offer(_ToSession[int | None]):
    """Give a ready task to this agent. The reply is the commit's version, or None if the task no longer waits.

    Raises `Superseded` if the agent has changed meanwhile.
    """

    task_id: str
    agent_id: str
    agent_version: int
    slots: tuple[str, ...] = ()
    """The slots that the attempt takes for as long as its lease exists."""


@attrs.frozen(kw_only=True)
class Started:
    """The agent has shown its first sign of life in the attempt."""


Outcome = Started | Completed | Failed | Lost | Undelivered


@attrs.frozen(kw_only=True)
class Settled:
    """The outcome of an attempt is committed."""

    version: int
    """The version of the commit."""
    lease: Lease | None = None
    """The lease of the agent's next attempt, if the same commit granted one."""


@attrs.frozen(kw_only=True)
class Settle(_ToSession[Settled]):
    """Apply an outcome to the attempt, in one commit with the writes of the agent's actor."""

    task_id: str
    attempt: int
    outcome: Outcome
    agent_part: Submission
    free: "AgentAvailable | None" = None
    """The agent's availability, if it can be given more work in the same commit."""


@attrs.frozen(kw_only=True)
class Describe(_ToSession[Assignment]):
    """Ask for the assignment that the agent was handed."""

    task_id: str


@attrs.frozen(kw_only=True)
class Due(_ToSession[None]):
    """A time of a task, or of the run as a whole, may have come."""

    what: str
    """The id of the task, or that of the session."""


@attrs.frozen(kw_only=True)
class RunImpossible(_ToSession[None]):
    """The child run that a task waits for can't begin."""

    task_id: str
    attempt: int
    failed: Failed


@attrs.frozen(kw_only=True)
class SendSignal(_ToSession[Signal]):
    """Send the run a named signal; the same id again changes nothing."""

    name: str
    payload: Any = None
    signal_id: str | None = None


@attrs.frozen(kw_only=True)
class Steer(_ToSession[Session]):
    """Steer the run. The reply is the session as it is then; a move to where it already is changes nothing."""

    move: Move
    reason: str | None = None


@attrs.frozen(kw_only=True)
class Discard(_ToSession[Task]):
    """Discard a dead letter. The reply is the task as it is then."""

    task_id: str
    reason: str


@attrs.frozen(kw_only=True)
class SessionQuiet(_ToSession[None]):
    """Some time has passed: stop, if no message came and no attempt is open."""


@attrs.frozen(kw_only=True)
class AnnounceSession(_ToSession[None]):
    """Tell the dispatcher and the timers which tasks wait."""


# --- dispatcher ------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class TaskReady(Message[DispatcherProtocol, None]):
    """A task waits for an agent, as of this commit."""

    task: ReadyTask
    as_of: int


@attrs.frozen(kw_only=True)
class FindAgent(Message[DispatcherProtocol, Offer | None]):
    """Ask for an idle agent for a task that the next commit makes ready. The reply is an offer, or None if it waits.

    The asker may give the task to that agent in the same commit. The dispatcher also makes the offer like any other,
    and the reply to that tells it the outcome.
    """

    task: ReadyTask


@attrs.frozen(kw_only=True)
class TaskWithdrawn(Message[DispatcherProtocol, None]):
    """A task no longer waits."""

    task_id: str


@attrs.frozen(kw_only=True)
class AgentAvailable(Message[DispatcherProtocol, None]):
    """An agent can be given work, as of this commit."""

    agent_id: str
    capabilities: tuple[str, ...]
    version: int
    """The version of the agent's row, which an offer requires."""
    as_of: int
    fresh_until: float = math.inf
    """When an agent that stays silent is no longer given work, as a time of trio's monotonic clock."""


@attrs.frozen(kw_only=True)
class MayGoOn(Message[DispatcherProtocol, bool]):
    """Ask whether an agent that the next commit frees may continue with a task that the same commit makes ready."""

    agent: AgentAvailable
    task: ReadyTask


@attrs.frozen(kw_only=True)
class AgentUnavailable(Message[DispatcherProtocol, None]):
    """An agent can't be given work, as of this commit."""

    agent_id: str
    as_of: int
    leased: bool
    """Whether it holds a lease."""


class OfferOutcome(StrEnum):
    """The outcome of an offer."""

    TAKEN = "taken"
    TASK_GONE = "task_gone"
    AGENT_CHANGED = "agent_changed"
    POSTPONED = "postponed"
    """The store could not take the commit; task and agent are unchanged."""
    SLOT_TAKEN = "slot_taken"
    """Another attempt has one of the slots."""
    UNKNOWN = "unknown"
    """The outcome is unknown; task and agent are asked for their state."""


@attrs.frozen(kw_only=True)
class OfferEnded(Message[DispatcherProtocol, None]):
    """The outcome of an offer."""

    task_id: str
    agent_id: str
    outcome: OfferOutcome
    version: int = 0
    """The commit that gave the task to the agent, if the offer was taken."""
    incarnation: int = 0
    """The incarnation of the dispatcher that made the offer."""
    holders: tuple[Held, ...] = ()
    """The holders of the slots, if another attempt has one of them."""


@attrs.frozen(kw_only=True)
class GateDue(Message[DispatcherProtocol, None]):
    """A gate may open now."""

    gate: str


@attrs.frozen(kw_only=True)
class LineRead(Message[DispatcherProtocol, None]):
    """The next tasks of a line were read."""

    page: LinePage
    incarnation: int
    """The incarnation of the dispatcher that asked for them."""


@attrs.frozen(kw_only=True)
class GetDepths(Message[DispatcherProtocol, QueueDepths]):
    """Ask how many tasks wait."""


@attrs.frozen(kw_only=True)
class ReadRows(Message[DispatcherProtocol, None]):
    """Every part of the node has started: read which tasks wait, and reply when that is done."""
