"""Whether an agent can be given work: one rule, for running agents and for recovery alike."""

import math
from typing import Final

from opscore.runtime.limits import Limits
from opscore.runtime.messages import AgentAvailable
from opscore.runtime.models import STATE_IDLE, Agent, AgentSource

RETRY_AFTER_S_MAX: Final = 3_600.0
"""How long an agent may wish to be left alone, at most."""


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
    """Idle by its newest report, no lease, not cordoned, not suspected, fresh or claiming, and there is a way to it."""
    return (
        agent.state == STATE_IDLE
        and not leased
        and not agent.cordoned
        and not is_suspected(agent, now)
        and (claims or fresh_s(agent, silent_s, limits) > 0)
        and reachable
    )


def is_suspected(agent: Agent, now: float) -> bool:
    """Whether a delivery lately did not reach it; a time beyond any wait is from before the clock was set back."""
    return now < agent.suspected_until <= now + RETRY_AFTER_S_MAX


def heard_at(agent: Agent | None) -> float | None:
    """When an agent last reported, or registered without ever having done so; wall time."""
    return None if agent is None else agent.received_at or agent.registered_at


def silence_s(agent: Agent, now: float) -> float:
    """How long an agent has been silent by its row; for too long, where the clock was set back and nobody can tell."""
    silent_s = now - (heard_at(agent) or 0.0)
    return silent_s if silent_s >= 0 else math.inf


def fresh_s(agent: Agent, silent_s: float, limits: Limits) -> float:
    """How long an agent stays fresh that goes on being silent; for good where it needs to say nothing."""
    if not limits.agent_ttl_s or agent.source is AgentSource.LOCAL:
        return math.inf
    return limits.agent_ttl_s - silent_s


def announcement(agent: Agent, version: int, as_of: int, *, fresh_until: float, claims: bool = False) -> AgentAvailable:
    """What the dispatcher is told of an available agent.

    Args:
        agent: its row.
        version: that of the row.
        as_of: the commit by which it is so.
        fresh_until: when it stops being fresh, by trio's clock.
        claims: whether it waits with a claim.
    """
    return AgentAvailable(
        agent_id=agent.agent_id,
        capabilities=agent.capabilities,
        version=version,
        as_of=as_of,
        # Whoever waits with a claim is there, however long ago it reported.
        fresh_until=math.inf if claims else fresh_until,
    )
