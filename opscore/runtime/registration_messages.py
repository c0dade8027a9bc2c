"""What an agent's actor is told of who the agent is: by its own word, by an operator's, or by a list of agents."""

from typing import ClassVar, TypeVar

import attrs

from opscore.actors.message import Message
from opscore.runtime.errors import OpscoreError
from opscore.runtime.models import Agent, AgentSource, Registration
from opscore.runtime.protocols import AgentProtocol

ReplyT = TypeVar("ReplyT")


class _Message(Message[AgentProtocol, ReplyT]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (OpscoreError,)


@attrs.frozen(kw_only=True)
class Register(_Message[Agent]):
    """Register the agent, or register it again; answers the agent as it is then."""

    registration: Registration
    listed: bool = False
    """A list has it: where that is no news, or another source introduced the agent, it is left as it is."""


@attrs.frozen(kw_only=True)
class Deregister(_Message[bool]):
    """Forget the agent, whose attempt is lost if it holds one; answers whether it is gone."""

    source: AgentSource | None = None
    """Forget it only where this introduced it."""
