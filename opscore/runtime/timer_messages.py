"""What the timers are told: what is due when, and what no longer is. All of it can be rebuilt from rows."""

import attrs

from opscore.actors.message import Message
from opscore.runtime.protocols import TimersProtocol


@attrs.frozen(kw_only=True)
class ArmLease(Message[TimersProtocol, None]):
    """Tell the agent when its lease may be over; replaces the earlier time."""

    agent_id: str
    due_at: float


@attrs.frozen(kw_only=True)
class ArmSuspicion(Message[TimersProtocol, None]):
    """Tell the agent when it may be tried again."""

    agent_id: str
    due_at: float


@attrs.frozen(kw_only=True)
class ArmDue(Message[TimersProtocol, None]):
    """Tell the session when something of it has to be looked at; replaces the earlier time of the same."""

    session_id: str
    what: str
    """The id of a task, or the session's own."""
    due_at: float | None
    """Nothing: it need not be looked at any more."""


@attrs.frozen(kw_only=True)
class DisarmLease(Message[TimersProtocol, None]):
    """The lease is over."""

    agent_id: str


@attrs.frozen(kw_only=True)
class ReadDueTimes(Message[TimersProtocol, None]):
    """Every part of the node is there: read what is due, and answer when that is done."""
