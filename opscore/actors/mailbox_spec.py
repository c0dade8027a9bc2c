"""How much a mailbox holds and what it does beyond that, and its figures: values."""

from __future__ import annotations

import enum

import attrs


class Overflow(enum.Enum):
    """What a full mailbox does with a tell; the fourth policy is the sender's: `send` waits for room under each."""

    REJECT = "reject"
    """Raise `MailboxFull` to the sender."""
    DROP_OLDEST = "drop_oldest"
    """The oldest waiting message becomes a dead letter."""
    DROP_NEWEST = "drop_newest"
    """The message told becomes a dead letter; an ask gets `MailboxFull`."""


@attrs.frozen(kw_only=True)
class MailboxSpec:
    """How much a mailbox holds, and what it does beyond that."""

    capacity: int = attrs.field(default=1024, validator=attrs.validators.ge(1))
    """User messages that may wait at a time."""
    overflow: Overflow = Overflow.REJECT
    """What happens to a message beyond that."""
    stash_max: int = attrs.field(default=1024, validator=attrs.validators.ge(0))
    """Messages that the actor may put aside at a time."""
    redeliveries: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    """How often a message whose handler crashed, or was cancelled, comes before what waits with the next
    incarnation. Its asker goes on waiting. After that, and by default at once, it is a dead letter."""


@attrs.frozen(kw_only=True)
class MailboxStatistics:
    """A mailbox as it was at one moment."""

    depth: int
    """User messages waiting."""
    high_water: int
    """The most that ever waited at a time."""
    stashed: int
    """User messages put aside by the actor."""
    handled: int
    """Messages whose handler returned or answered with a declared error."""
    dropped: int
    """Messages that the overflow policy dropped."""
