"""An agent that can be given work: told to the dispatcher, and to a session whose next commit may give it more."""

import math

import attrs

from opscore.actors.message import Message
from opscore.runtime.messages.protocols import DispatcherProtocol


@attrs.frozen(kw_only=True)
class AgentAvailable(Message[DispatcherProtocol, None]):
    """An agent can be given work, as of this commit."""

    agent_id: str
    capabilities: tuple[str, ...]
    version: int
    """The version of the agent's row, which an offer requires."""
    as_of: int
    fresh_until: float = math.inf
    """When an agent that stays silent is no longer given work, as a time of trio's monotonic clock."""
