"""Whether an agent can be given work: one rule, for running agents and for recovery alike."""

import math

from opscore.runtime.limits import Limits
from opscore.runtime.messages import AgentAvailable
from opscore.runtime.models import STATE_IDLE, Agent, AgentSource


def available(agent: Agent, *, leased: bool, reachable: bool, now: float, limits: Limits, claims: bool = False) -> bool:
    """Idle by its newest report, no lease, not cordoned, not suspected, fresh or claiming, and there is a way to it."""
    return (
        agent.state == STATE_IDLE
        and not leased
        and not agent.cordoned
        and agent.suspected_until <= now
        and (claims or fresh_until(agent, limits) > now)
        and reachable
    )


def fresh_until(agent: Agent, limits: Limits) -> float:
    """When an agent that stays silent stops being fresh; never for local functions, or with no time to live set."""
    if not limits.agent_ttl_s or agent.source is AgentSource.LOCAL:
        return math.inf
    return (agent.received_at or agent.registered_at) + limits.agent_ttl_s


def announcement(agent: Agent, version: int, as_of: int, limits: Limits, *, claims: bool = False) -> AgentAvailable:
    """What the dispatcher is told of an available agent."""
    return AgentAvailable(
        agent_id=agent.agent_id,
        capabilities=agent.capabilities,
        version=version,
        as_of=as_of,
        # Whoever waits with a claim is there, however long ago it reported.
        fresh_until=math.inf if claims else fresh_until(agent, limits),
    )
