"""The specification and the statistics of a mailbox."""

from __future__ import annotations

import enum

import attrs


class Overflow(enum.Enum):
    """What a full mailbox does with a message that is told or asked. `send` waits for room under any policy."""

    REJECT = "reject"
    """Raise `MailboxFull` to the sender."""
    DROP_OLDEST = "drop_oldest"
    """The oldest waiting message becomes a dead letter; if it was asked, its asker gets `MailboxFull`."""
    DROP_NEWEST = "drop_newest"
    """The new message becomes a dead letter; a new ask gets `MailboxFull`."""


@attrs.frozen(kw_only=True)
class MailboxSpec:
    """How much a mailbox holds, and what it does when it is full."""

    capacity: int = attrs.field(default=1024, validator=attrs.validators.ge(1))
    """How many user messages may wait."""
    overflow: Overflow = Overflow.REJECT
    """What happens to a message that arrives when the mailbox is full."""
    stash_max: int = attrs.field(default=1024, validator=attrs.validators.ge(0))
    """How many messages the actor may stash."""
    redeliveries: int = attrs.field(default=0, validator=attrs.validators.ge(0))
    """How often a message whose handler crashed or was cancelled is redelivered to the next incarnation, before the
    messages that wait. Its asker goes on waiting. After the last redelivery it becomes a dead letter."""


@attrs.frozen(kw_only=True)
class MailboxStatistics:
    """A mailbox as it was at one moment."""

    depth: int
    """User messages that wait."""
    high_water: int
    """Highest depth so far."""
    stashed: int
    """Stashed messages."""
    handled: int
    """Messages whose handler returned or answered with a declared error."""
    dropped: int
    """Messages that the overflow policy has dropped."""
