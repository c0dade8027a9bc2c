"""How an agent's row changes: pure functions from one row to the next."""

import random
from typing import Any, Final

import attrs

from opscore.actors.backoff import Backoff
from opscore.runtime.availability import RETRY_AFTER_S_MAX
from opscore.runtime.limits import Limits
from opscore.runtime.models import STATE_IDLE, STATE_UNKNOWN, Agent, AgentSource, Registration

SUSPICION: Final = Backoff(initial_s=1.0, coefficient=2.0, max_s=60.0, jitter=0.5)


def names_of(capabilities: Any) -> tuple[str, ...]:
    """Read the names of what an agent can do.

    Raises:
        TypeError: it is one text, which would be taken for its characters, or holds something else than texts.
    """
    if isinstance(capabilities, str):
        raise TypeError(f"capabilities is a collection of names, not the one text {capabilities!r}")
    names = tuple(capabilities)
    for name in names:
        if not isinstance(name, str):
            raise TypeError(f"capabilities is a collection of names; {name!r} is no text")
    return names


def registered(before: Agent | None, registration: Registration, now: float, *, by_report: bool = False) -> Agent:
    """Register, or register again: that keeps the state and the cordon, and forgets the order of reports."""
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
    """Whether a list tells something new: of nobody that is known, or of one that its own source describes anew.

    Whom nobody has introduced yet is anybody's to introduce.
    """
    if before is None or not before.introduced:
        return True
    said = _described(registration)
    return before.source is registration.source and any(getattr(before, field) != said[field] for field in said)


def _described(registration: Registration) -> dict[str, Any]:
    """What a registration says of an agent, as its row has it."""
    return {
        "name": registration.name or registration.agent_id,
        "version": registration.version,
        "capabilities": tuple(dict.fromkeys(registration.capabilities)),
        "contact_endpoint": registration.contact_endpoint,
        "metadata": registration.metadata,
    }


def reported(agent: Agent, state: str, details: dict[str, Any] | None, stamp: float | None, now: float) -> Agent:
    """Take in a report; hearing of the agent ends its suspicion."""
    return attrs.evolve(
        agent,
        state=state,
        details=details,
        reported_at=agent.reported_at if stamp is None else stamp,
        received_at=now,
        suspected_until=0.0,
        suspicions=0,
    )


def accepted_stamp(agent: Agent, timestamp: float | None, now: float, limits: Limits) -> tuple[float | None, bool]:
    """Clamp a report's timestamp, and say whether the report is new: not older than the newest accepted one.

    One that would be clamped now was accepted before the node's clock was set back: nothing is older than that.
    """
    if timestamp is None:
        return None, True
    newest_possible = now + limits.clock_ahead_s_max
    stamp = min(timestamp, newest_possible)
    return stamp, agent.reported_at is None or stamp >= agent.reported_at or agent.reported_at > newest_possible


def claimed(agent: Agent, now: float) -> Agent:
    """Claiming says that the agent is idle; the order of its own timestamps stays as it is."""
    return reported(agent, STATE_IDLE, agent.details if agent.state == STATE_IDLE else None, None, now)


def suspected(agent: Agent, now: float, rng: random.Random, retry_after_s: float | None = None) -> Agent:
    """A delivery did not reach it: try again later, ever later, but not before the time that it asked for."""
    suspicions = agent.suspicions + 1
    delay_s = max(SUSPICION.delay_s(suspicions, rng), min(retry_after_s or 0.0, RETRY_AFTER_S_MAX))
    return attrs.evolve(agent, suspicions=suspicions, suspected_until=now + delay_s)


def suspected_less(agent: Agent, seconds: float, now: float, left_s: float | None) -> Agent:
    """The clock was set back by so many seconds: who is suspected comes free when it would have without that.

    Args:
        agent: as it is.
        seconds: less than nothing, if it was set back.
        now: wall time.
        left_s: what is left of its suspicion, where that is known.
    """
    if seconds >= 0 or agent.suspected_until <= now:
        return agent
    until = agent.suspected_until + seconds if left_s is None else now + left_s
    return attrs.evolve(agent, suspected_until=min(agent.suspected_until, max(now, until)))
