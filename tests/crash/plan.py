"""Draws how the next kill comes from a seed, so that a campaign can be repeated."""

import random
from typing import Final

import attrs

from tests.crash.failpoints import Moment

FAILPOINT_WAIT_S: Final = 2.0
"""How long to wait for a failpoint before the server is killed from outside instead."""

_COMMITS: Final = (Moment.COMMIT_BEFORE, Moment.COMMIT_DURING, Moment.COMMIT_AFTER, Moment.COMMIT_ANSWERED)
_WEIGHTS: Final[dict[str, int]] = {
    "outside": 20,
    "outside, late": 3,
    "outside while it starts": 8,
    "outside while it stops": 5,
    "a commit": 28,
    "one of its first commits": 16,
    "a delivery": 10,
    "a reply": 10,
    "recovery": 6,
}


@attrs.frozen(kw_only=True)
class Plan:
    """One kill to come."""

    moment: Moment | None = None
    """The failpoint; None for a kill from outside."""
    after: int = 1
    """The passing of the failpoint at which it kills."""
    delay_s: float = 0.0
    """For a kill within a commit, how far into it, in seconds."""
    wait_s: float = FAILPOINT_WAIT_S
    """When the kill comes from outside: after the server listens, or after it was told to begin."""
    starting: bool = False
    """Whether the kill from outside does not wait until the server listens."""
    stopping_s: float | None = None
    """How long after the server was told to stop the kill from outside comes."""


def drawn(seed: int, number: int) -> Plan:
    """Return the plan of a campaign's Nth kill."""
    rng = random.Random(f"{seed} kill {number}")
    kind = rng.choices(list(_WEIGHTS), list(_WEIGHTS.values()))[0]
    match kind:
        case "outside":
            return Plan(wait_s=rng.uniform(0.05, 1.2))
        case "outside, late":
            # Leases that their agents forgot run out meanwhile.
            return Plan(wait_s=rng.uniform(1.2, 2.5))
        case "outside while it starts":
            return Plan(wait_s=rng.uniform(0.0, 0.15), starting=True)
        case "outside while it stops":
            return Plan(wait_s=rng.uniform(0.05, 0.5), stopping_s=rng.uniform(0.0, 0.05))
        case "a delivery":
            return Plan(moment=rng.choice([Moment.DELIVERY_BEFORE, Moment.DELIVERY_AFTER]), after=rng.randint(1, 25))
        case "a reply":
            return Plan(moment=rng.choice([Moment.REPLY_BEFORE, Moment.REPLY_AFTER]), after=rng.randint(1, 180))
        case "recovery":
            return Plan(moment=rng.choice([Moment.RECOVERY_BEGUN, Moment.RECOVERY_DONE]))
    after = rng.randint(1, 3) if kind == "one of its first commits" else rng.randint(4, 200)
    return Plan(moment=rng.choice(_COMMITS), after=after, delay_s=rng.uniform(0.0, 0.0015))
