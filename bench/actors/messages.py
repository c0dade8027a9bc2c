"""The messages of the peers' actors; those of opscore are in the module of its actors.

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
    """The token that goes round the ring."""


@dataclass(frozen=True, slots=True)
class Flood:
    """Tells a sender to send."""

    messages: int


ADD = Add(amount=1)
GET_COUNT = GetCount()
TOKEN = Token()
