"""What the actors of the peers send one another; opscore's own messages stand beside its actors.

They are dataclasses because autogen-core serialises those, and takes no attrs class.
"""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Add:
    amount: int


@dataclass(frozen=True, slots=True)
class GetCount:
    """Asks how many messages were handled."""


@dataclass(frozen=True, slots=True)
class Token:
    """Goes round the ring."""


@dataclass(frozen=True, slots=True)
class Flood:
    """Tells a sender to send."""

    messages: int


ADD = Add(amount=1)
GET_COUNT = GetCount()
TOKEN = Token()
