"""The messages by which the node tells its actors that it has started, or is about to end."""

from typing import ClassVar

import attrs

from opscore.actors.message import Message
from opscore.runtime.errors import OpscoreError
from opscore.runtime.protocols import AgentProtocol, DispatcherProtocol


class _Message(Message[AgentProtocol, None]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (OpscoreError,)


@attrs.frozen(kw_only=True)
class Resume(_Message):
    """The node started and found this agent holding a lease."""


@attrs.frozen(kw_only=True)
class GiveBack(_Message):
    """The node is about to end: the attempt of a local function goes back to the queue, and is not counted."""


@attrs.frozen(kw_only=True)
class AwaitOffers(Message[DispatcherProtocol, None]):
    """The node makes no more offers, because it is about to end: reply once none is under way."""
