"""What the node tells its actors of the process itself: that it has begun, or is about to end."""

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
    """The node is about to end: what a function of this process has goes back to the queue, and does not count."""


@attrs.frozen(kw_only=True)
class AwaitOffers(Message[DispatcherProtocol, None]):
    """The node makes no offers any more, because it is about to end: answer once none is under way."""
