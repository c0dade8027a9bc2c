"""The messages to the timers: what is due when, and what no longer is. All of it can be rebuilt from rows."""

import attrs

from opscore.actors.message import Message
from opscore.runtime.messages.protocols import TimersProtocol


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
    """Tell the session when a time of a task, or of the run as a whole, has come; replaces the earlier time of it."""

    session_id: str
    what: str
    """The id of the task, or that of the session."""
    due_at: float | None
    """None: it no longer has to be checked."""


@attrs.frozen(kw_only=True)
class DisarmLease(Message[TimersProtocol, None]):
    """The lease is over."""

    agent_id: str


@attrs.frozen(kw_only=True)
class ReadDueTimes(Message[TimersProtocol, None]):
    """Every part of the node has started: read what is due, and reply when that is done."""
