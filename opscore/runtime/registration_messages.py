"""What an agent's actor is told of who the agent is: by its own word, by an operator's, or by a list of agents."""

from collections.abc import Callable
from typing import ClassVar, TypeVar

import attrs

from opscore.actors.message import Message
from opscore.runtime.errors import OpscoreError
from opscore.runtime.models import Agent, AgentSource, Registration
from opscore.runtime.protocols import AgentProtocol

ReplyT = TypeVar("ReplyT")


def _nothing() -> None:
    """What there is to do for an agent that is no function of this process."""


class _Message(Message[AgentProtocol, ReplyT]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (OpscoreError,)


@attrs.frozen(kw_only=True)
class Register(_Message[Agent]):
    """Register the agent, or register it again; answers the agent as it is then."""

    registration: Registration
    listed: bool = False
    """A list has it: where that is no news, or another source introduced the agent, it is left as it is."""
    by_report: bool = False
    """It reported, which does not say who it is: known, it is left as it is; else anybody may introduce it yet."""
    attach: Callable[[], None] = _nothing
    """Attaches its function; called as soon as the registration is committed, before anybody hears of it."""


@attrs.frozen(kw_only=True)
class Deregister(_Message[bool]):
    """Forget the agent, whose attempt is lost if it holds one; answers whether it is gone."""

    source: AgentSource | None = None
    """Forget it only where this introduced it."""
    detach: Callable[[], None] = _nothing
    """Detaches its function; called as soon as it is gone, before another registration can attach one."""
