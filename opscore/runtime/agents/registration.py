"""The changes of an agent's row: pure functions from one row to the next."""

import random
from typing import Any, Final

from opscore.actors.backoff import Backoff
from opscore.runtime.agents.availability import RETRY_AFTER_S_MAX
from opscore.runtime.evolving import evolve
from opscore.runtime.limits import Limits
from opscore.runtime.models import STATE_IDLE, STATE_UNKNOWN, Agent, AgentSource, Registration

SUSPICION: Final = Backoff(initial_s=1.0, coefficient=2.0, max_s=60.0, jitter=0.5)


def names_of(capabilities: Any) -> tuple[str, ...]:
    """Return the names of an agent's capabilities.

    Raises:
        TypeError: it is a single string, which would be read as its characters, or an item is not a string.
    """
    if isinstance(capabilities, str):
        raise TypeError(f"capabilities must be a collection of names, not the single string {capabilities!r}")
    names = tuple(capabilities)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"capabilities must be a collection of names; {name!r} is not a string")
    return names


def registered(before: Agent | None, registration: Registration, now: float, *, by_report: bool = False) -> Agent:
    """Return the row of an agent that registers. State and cordon are kept; the order of reports starts anew."""
    kept_state = before.state if before is not None else STATE_UNKNOWN
    return Agent(
        **_described(registration),
        agent_id=registration.agent_id,
        source=registration.source,
        registered_at=now,
        state=STATE_IDLE if registration.source is AgentSource.LOCAL else kept_state,
        details=before.details if before is not None else None,
        received_at=before.received_at if before is not None else None,
        cordoned=before.cordoned if before is not None else False,
        introduced=not by_report,
    )


def is_news(before: Agent | None, registration: Registration) -> bool:
    """Whether an entry of a list is news: the agent is unknown, or its own source describes it differently.

    An agent that no source has introduced yet may be introduced by any.
    """
    if before is None or not before.introduced:
        return True
    said = _described(registration)
    return before.source is registration.source and any(getattr(before, field) != said[field] for field in said)


def _described(registration: Registration) -> dict[str, Any]:
    """Return the fields of an agent's row that its registration determines."""
    return {
        "name": registration.name or registration.agent_id,
        "version": registration.version,
        "capabilities": tuple(dict.fromkeys(registration.capabilities)),
        "contact_endpoint": registration.contact_endpoint,
        "metadata": registration.metadata,
    }


def reported(agent: Agent, state: str, details: dict[str, Any] | None, stamp: float | None, now: float) -> Agent:
    """Apply a report, which also ends a suspicion."""
    return evolve(
        agent,
        state=state,
        details=details,
        reported_at=agent.reported_at if stamp is None else stamp,
        received_at=now,
        suspected_until=0.0,
        suspicions=0,
    )


def accepted_stamp(agent: Agent, timestamp: float | None, now: float, limits: Limits) -> tuple[float | None, bool]:
    """Clamp a report's timestamp; also return whether the report is not older than the newest accepted one.

    If the stored timestamp lies beyond the clamp, the node's clock was set back since, and every report counts as new.
    """
    if timestamp is None:
        return None, True
    newest_possible = now + limits.clock_ahead_s_max
    stamp = min(timestamp, newest_possible)
    return stamp, agent.reported_at is None or stamp >= agent.reported_at or agent.reported_at > newest_possible


def claimed(agent: Agent, now: float) -> Agent:
    """Apply a claim, which reports the agent as idle without a timestamp of its own."""
    return reported(agent, STATE_IDLE, agent.details if agent.state == STATE_IDLE else None, None, now)


def suspected(agent: Agent, now: float, rng: random.Random, retry_after_s: float | None = None) -> Agent:
    """Suspect an agent that a delivery did not reach, for longer each time and at least until its `Retry-After`."""
    suspicions = agent.suspicions + 1
    delay_s = max(SUSPICION.delay_s(suspicions, rng), min(retry_after_s or 0.0, RETRY_AFTER_S_MAX))
    return evolve(agent, suspicions=suspicions, suspected_until=now + delay_s)


def suspected_less(agent: Agent, seconds: float, now: float, left_s: float | None) -> Agent:
    """Adjust a suspicion because the clock was set back, so that it ends when it would have without that.

    Args:
        agent: the agent before.
        seconds: by how much the clock was moved; negative if it was set back.
        now: wall time.
        left_s: the seconds left of the suspicion, if they are known.
    """
    if seconds >= 0 or agent.suspected_until <= now:
        return agent
    until = agent.suspected_until + seconds if left_s is None else now + left_s
    return evolve(agent, suspected_until=min(agent.suspected_until, max(now, until)))
