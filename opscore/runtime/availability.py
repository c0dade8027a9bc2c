"""Whether an agent can be given work: one rule, for running agents and for recovery alike."""

import math
from typing import Final

from opscore.runtime.limits import Limits
from opscore.runtime.messages import AgentAvailable
from opscore.runtime.models import STATE_IDLE, Agent, AgentSource

RETRY_AFTER_S_MAX: Final = 3_600.0
"""How long an agent may wish to be left alone, at most."""


def available(agent: Agent, *, leased: bool, reachable: bool, now: float, limits: Limits, claims: bool = False) -> bool:
    """Idle by its newest report, no lease, not cordoned, not suspected, fresh or claiming, and there is a way to it."""
    return (
        agent.state == STATE_IDLE
        and not leased
        and not agent.cordoned
        and not is_suspected(agent, now)
        and (claims or fresh_until(agent, limits) > now)
        and reachable
    )


def is_suspected(agent: Agent, now: float) -> bool:
    """Whether a delivery lately did not reach it; a time beyond any wait is from before the clock was set back."""
    return now < agent.suspected_until <= now + RETRY_AFTER_S_MAX


def fresh_until(agent: Agent, limits: Limits) -> float:
    """When an agent that stays silent stops being fresh; never for local functions, or with no time to live set."""
    if not limits.agent_ttl_s or agent.source is AgentSource.LOCAL:
        return math.inf
    return (agent.received_at or agent.registered_at) + limits.agent_ttl_s


def announcement(
    agent: Agent, version: int, as_of: int, limits: Limits, *, now: float, steady: float, claims: bool = False
) -> AgentAvailable:
    """What the dispatcher is told of an available agent.

    Args:
        agent: its row.
        version: that of the row.
        as_of: the commit by which it is so.
        limits: how long it may be silent.
        now: the wall clock, by which rows tell when the agent was heard.
        steady: trio's clock at that moment, by which the dispatcher reckons.
        claims: whether it waits with a claim.
    """
    return AgentAvailable(
        agent_id=agent.agent_id,
        capabilities=agent.capabilities,
        version=version,
        as_of=as_of,
        # Whoever waits with a claim is there, however long ago it reported.
        fresh_until=math.inf if claims else steady + _fresh_s(agent, now, limits),
    )


def _fresh_s(agent: Agent, now: float, limits: Limits) -> float:
    """How long an agent that stays silent is fresh; no longer than from now on, where the clock was set back since."""
    left_s = fresh_until(agent, limits) - now
    return left_s if left_s == math.inf else min(left_s, limits.agent_ttl_s)
