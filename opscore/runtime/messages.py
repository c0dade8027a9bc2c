"""What the runtime's actors say to one another, grouped by who takes it.

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
    """A state report; answers whether it was accepted (`False`: it was older than the newest)."""

    state: str
    details: dict[str, Any] | None = None
    timestamp: float | None = None


@attrs.frozen(kw_only=True)
class SetCordon(_ToAgent[Agent]):
    """Take the agent out of dispatch, or put it back."""

    cordoned: bool


@attrs.frozen(kw_only=True)
class Claim(_ToAgent[Granted | None]):
    """Wait for a task; answers nothing when the wait is over."""

    claim_id: str | None
    wait_s: float
    ticket: str
    """Names this very call, where a claim id may come again."""


@attrs.frozen(kw_only=True)
class AbandonClaim(_ToAgent[None]):
    """The claimer went away while it waited."""

    ticket: str


@attrs.frozen(kw_only=True)
class Heartbeat(_ToAgent[Lease]):
    """The agent still works; answers the renewed lease."""

    task_id: str
    attempt: int
    progress: Any = None
    """How far it is; nothing keeps what was said before."""


@attrs.frozen(kw_only=True)
class Finish(_ToAgent[None]):
    """The agent ends its attempt by name."""

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
    """What came of handing the attempt over."""

    task_id: str
    attempt: int
    fact: Fact


@attrs.frozen(kw_only=True)
class LeaseDue(_ToAgent[None]):
    """The time at which the lease may be over."""


@attrs.frozen(kw_only=True)
class SuspicionDue(_ToAgent[None]):
    """The time at which the agent may be tried again."""


@attrs.frozen(kw_only=True)
class StoodStill(_ToAgent[None]):
    """The node stood still, or its clock was moved: no agent could speak in that time."""

    seconds: float
    """How long; less than nothing where the clock was set back."""
    since: float
    """When it had not happened yet, by trio's clock."""
    idle_s: float
    """How much of trio's own time passed as the node did nothing; where the clock was moved, none."""


@attrs.frozen(kw_only=True)
class AgentQuiet(_ToAgent[None]):
    """Some time has passed: leave, if nothing was said and nothing is at hand."""


@attrs.frozen(kw_only=True)
class AnnounceAgent(_ToAgent[None]):
    """Tell the dispatcher where the agent stands."""


@attrs.frozen(kw_only=True)
class Recheck(_ToAgent[None]):
    """Look at the rows again after a crash."""


@attrs.frozen(kw_only=True)
class ClaimWaitOver(_ToAgent[None]):
    """A claim has waited for as long as it wished."""

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
    """What belongs to the same commit: the definition's revision, the idempotency key."""


@attrs.frozen(kw_only=True)
class Offer(_ToSession[int | None]):
    """Give a ready task to this agent; answers the commit's version, or nothing when the task waits no longer.

    Raises `Superseded` when the agent no longer stands as it did.
    """

    task_id: str
    agent_id: str
    agent_version: int
    slots: tuple[str, ...] = ()
    """What the attempt takes up, for as long as its lease is there."""


@attrs.frozen(kw_only=True)
class Started:
    """The agent shows its first sign of life in the attempt."""


Outcome = Started | Completed | Failed | Lost | Undelivered


@attrs.frozen(kw_only=True)
class Settled:
    """That an attempt was moved on."""

    version: int
    """Of the commit."""
    lease: Lease | None = None
    """What the same commit gave the agent to do next."""


@attrs.frozen(kw_only=True)
class Settle(_ToSession[Settled]):
    """Move the attempt on, in one commit with what the agent's actor adds."""

    task_id: str
    attempt: int
    outcome: Outcome
    agent_part: Submission
    free: "AgentAvailable | None" = None
    """The agent as it can be given work in the same commit, if it can."""


@attrs.frozen(kw_only=True)
class Describe(_ToSession[Assignment]):
    """Say again what the agent was handed."""

    task_id: str


@attrs.frozen(kw_only=True)
class Due(_ToSession[None]):
    """The time at which a task, or the run as a whole, may have to be looked at."""

    what: str
    """The id of a task, or the session's own."""


@attrs.frozen(kw_only=True)
class RunImpossible(_ToSession[None]):
    """The run that a task waits for can't begin."""

    task_id: str
    attempt: int
    failed: Failed


@attrs.frozen(kw_only=True)
class SendSignal(_ToSession[Signal]):
    """Tell the run something by name; the same id again changes nothing."""

    name: str
    payload: Any = None
    signal_id: str | None = None


@attrs.frozen(kw_only=True)
class Steer(_ToSession[Session]):
    """Steer the run; answers the session as it is then. What is so already changes nothing."""

    move: Move
    reason: str | None = None


@attrs.frozen(kw_only=True)
class Discard(_ToSession[Task]):
    """Have a task be no dead letter any more; answers it as it is then."""

    task_id: str
    reason: str


@attrs.frozen(kw_only=True)
class SessionQuiet(_ToSession[None]):
    """Some time has passed: leave, if nothing was said and no attempt is open."""


@attrs.frozen(kw_only=True)
class AnnounceSession(_ToSession[None]):
    """Tell the dispatcher and the timers which tasks wait."""


# --- dispatcher ------------------------------------------------------------------------------------------


@attrs.frozen(kw_only=True)
class TaskReady(Message[DispatcherProtocol, None]):
    """A task waits, as of this commit."""

    task: ReadyTask
    as_of: int


@attrs.frozen(kw_only=True)
class FindAgent(Message[DispatcherProtocol, Offer | None]):
    """Ask for an idle agent for a task that waits from the next commit on, if it needn't wait; answers the offer of it.

    Whoever asks may give the task to that agent in this very commit; the offer itself is made as any other is, and
    what it is answered tells what came of it.
    """

    task: ReadyTask


@attrs.frozen(kw_only=True)
class TaskWithdrawn(Message[DispatcherProtocol, None]):
    """A task waits no longer."""

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
    """When an agent that stays silent is no longer given work; by trio's clock, which nobody sets."""


@attrs.frozen(kw_only=True)
class MayGoOn(Message[DispatcherProtocol, bool]):
    """Ask whether an agent that comes free with the next commit may go on with this task, which waits from then on."""

    agent: AgentAvailable
    task: ReadyTask


@attrs.frozen(kw_only=True)
class AgentUnavailable(Message[DispatcherProtocol, None]):
    """An agent can't be given work, as of this commit."""

    agent_id: str
    as_of: int
    leased: bool
    """Whether it has something in hand."""


class OfferOutcome(StrEnum):
    """How an offer can end."""

    TAKEN = "taken"
    TASK_GONE = "task_gone"
    AGENT_CHANGED = "agent_changed"
    POSTPONED = "postponed"
    """The store could not take it; both still stand as they did."""
    SLOT_TAKEN = "slot_taken"
    """Another attempt has a slot that it was to take."""
    UNKNOWN = "unknown"
    """Nobody can tell; both sides are asked where they stand."""


@attrs.frozen(kw_only=True)
class OfferEnded(Message[DispatcherProtocol, None]):
    """What came of an offer."""

    task_id: str
    agent_id: str
    outcome: OfferOutcome
    version: int = 0
    """The commit that gave the task to the agent, when it was taken."""
    incarnation: int = 0
    """Of the dispatcher that made the offer."""
    holders: tuple[Held, ...] = ()
    """Who has the slots, where another attempt has one."""


@attrs.frozen(kw_only=True)
class GateDue(Message[DispatcherProtocol, None]):
    """The time at which a gate may open."""

    gate: str


@attrs.frozen(kw_only=True)
class LineRead(Message[DispatcherProtocol, None]):
    """The next of a line have been read."""

    page: LinePage
    incarnation: int
    """Of the dispatcher that asked for them."""


@attrs.frozen(kw_only=True)
class GetDepths(Message[DispatcherProtocol, QueueDepths]):
    """Ask how much waits."""


@attrs.frozen(kw_only=True)
class ReadRows(Message[DispatcherProtocol, None]):
    """Every part of the node is there: read what waits, and answer when that is done."""
