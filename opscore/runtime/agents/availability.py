"""Whether an agent can be given work: one rule, for running agents and for recovery alike."""

import math
from typing import Final

from opscore.runtime.limits import Limits
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.models import STATE_IDLE, Agent, AgentSource

RETRY_AFTER_S_MAX: Final = 3_600.0
"""The longest `Retry-After` of an agent that is respected."""


def available(
    agent: Agent,
    *,
    leased: bool,
    reachable: bool,
    now: float,
    silent_s: float,
    limits: Limits,
    claims: bool = False,
) -> bool:
    """Whether an agent is idle, holds no lease, is not cordoned or suspected, is fresh or claims, and is reachable."""
    return (
        agent.state == STATE_IDLE
        and not leased
        and not agent.cordoned
        and not is_suspected(agent, now)
        and (claims or fresh_s(agent, silent_s, limits) > 0)
        and reachable
    )


def is_suspected(agent: Agent, now: float) -> bool:
    """Whether an agent is suspected; a time further ahead than any suspicion is from before the clock was set back."""
    return now < agent.suspected_until <= now + RETRY_AFTER_S_MAX


def heard_at(agent: Agent | None) -> float | None:
    """Return when an agent last reported, or else when it registered, in wall time."""
    return None if agent is None else agent.received_at or agent.registered_at


def silence_s(agent: Agent, now: float) -> float:
    """Return for how long an agent has been silent, by its row; infinity if the clock was set back since."""
    silent_s = now - (heard_at(agent) or 0.0)
    return silent_s if silent_s >= 0 else math.inf


def fresh_s(agent: Agent, silent_s: float, limits: Limits) -> float:
    """Return for how long an agent that stays silent remains fresh; infinity if it need not report."""
    if not limits.agent_ttl_s or agent.source is AgentSource.LOCAL:
        return math.inf
    return limits.agent_ttl_s - silent_s


def announcement(agent: Agent, version: int, as_of: int, *, fresh_until: float, claims: bool = False) -> AgentAvailable:
    """Return the message that tells the dispatcher of an available agent.

    Args:
        agent: its row.
        version: the version of the row.
        as_of: the commit as of which it is available.
        fresh_until: when it stops being fresh, by trio's clock.
        claims: whether it waits with a claim.
    """
    return AgentAvailable(
        agent_id=agent.agent_id,
        capabilities=agent.capabilities,
        version=version,
        as_of=as_of,
        # An agent that waits with a claim is there, however long ago it reported.
        fresh_until=math.inf if claims else fresh_until,
    )
