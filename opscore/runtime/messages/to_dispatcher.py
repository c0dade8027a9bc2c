"""The messages to the dispatcher."""

from enum import StrEnum

import attrs

from opscore.actors.message import Message
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.protocols import DispatcherProtocol
from opscore.runtime.messages.to_session import Offer
from opscore.runtime.waiting import Held, LinePage, QueueDepths, ReadyTask


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


@attrs.frozen(kw_only=True)
class AwaitOffers(Message[DispatcherProtocol, None]):
    """The node makes no more offers, because it is about to end: reply once none is under way."""
