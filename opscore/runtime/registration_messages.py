"""The messages that register and deregister an agent, whether by a call, a list of agents or the agent's own report."""

from collections.abc import Callable
from typing import ClassVar, TypeVar

import attrs

from opscore.actors.message import Message
from opscore.runtime.errors import OpscoreError
from opscore.runtime.models import Agent, AgentSource, Registration
from opscore.runtime.protocols import AgentProtocol

ReplyT = TypeVar("ReplyT")


def _nothing() -> None:
    """Do nothing: an agent that is not a function of this process has nothing to attach or detach."""


class _Message(Message[AgentProtocol, ReplyT]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (OpscoreError,)


@attrs.frozen(kw_only=True)
class Register(_Message[Agent]):
    """Register the agent, or register it again. The reply is the agent as it is then."""

    registration: Registration
    listed: bool = False
    """It comes from a list: the agent stays as it is if that is no news, or another source introduced it."""
    by_report: bool = False
    """It comes from a report, which gives only the id: a known agent stays as it is; a new one can be introduced."""
    attach: Callable[[], None] = _nothing
    """Attaches its function; called as soon as the registration is committed, before anyone is told of it."""


@attrs.frozen(kw_only=True)
class Deregister(_Message[bool]):
    """Forget the agent; an attempt that it holds is lost. The reply is whether the agent is gone."""

    source: AgentSource | None = None
    """If given, forget the agent only if this source introduced it."""
    detach: Callable[[], None] = _nothing
    """Detaches its function; called as soon as the agent is gone, before another registration can attach one."""
