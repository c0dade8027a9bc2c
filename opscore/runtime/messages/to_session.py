"""The messages to the actor of a session."""

from typing import Any, ClassVar, TypeVar

import attrs

from opscore.actors.message import Message
from opscore.runtime.definitions.definition import Definition
from opscore.runtime.delivery import Completed, Failed, Lost, Undelivered
from opscore.runtime.errors import OpscoreError
from opscore.runtime.lease import Lease
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.protocols import SessionProtocol
from opscore.runtime.models import Assignment, Move, Session, Signal, Task
from opscore.runtime.store import Submission

ReplyT = TypeVar("ReplyT")


class _ToSession(Message[SessionProtocol, ReplyT]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (OpscoreError,)


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
    free: AgentAvailable | None = None
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
