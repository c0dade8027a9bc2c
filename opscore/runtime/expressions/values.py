"""The kinds of JSON that an expression meets, in words, and what its numbers are held to."""

import math
from collections.abc import Mapping
from typing import Any, Final

from opscore.runtime.errors import ExpressionFailed

WHOLE_MIN: Final = -(2**63)
WHOLE_MAX: Final = 2**63 - 1
_SHOWN_CHARACTERS_MAX: Final = 60


class MadeList(list[Any]):
    """A list that an expression made, and not one out of its scope."""


class MadeMap(dict[str, Any]):
    """An object that an expression made."""


_KINDS: Final[dict[type, str]] = {
    type(None): "null",
    bool: "a boolean",
    int: "a number",
    float: "a number",
    str: "text",
    list: "a list",
    dict: "an object",
    MadeList: "a list",
    MadeMap: "an object",
}


def kind(value: Any) -> str:
    """Which of JSON's kinds a value is of, in words."""
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    if isinstance(value, Mapping):
        return "an object"
    return next((words for each, words in _KINDS.items() if isinstance(value, each)), type(value).__name__)


def shown(value: Any) -> str:
    """Quote a name or a text in a message."""
    text = value if isinstance(value, str) else str(value)
    return f'"{text}"' if len(text) <= _SHOWN_CHARACTERS_MAX else f'"{text[:_SHOWN_CHARACTERS_MAX]}…"'


def whole(number: int) -> int:
    """Hold a whole number to CEL's 64 bits."""
    if WHOLE_MIN <= number <= WHOLE_MAX:
        return number
    raise ExpressionFailed("a whole number does not fit 64 bits")


def finite(number: float) -> float:
    """Refuse what JSON has no number for."""
    if math.isfinite(number):
        return number
    raise ExpressionFailed("a number is too large for a double")


def boolean(value: Any, what: str) -> bool:
    """Demand a boolean."""
    if isinstance(value, bool):
        return value
    raise ExpressionFailed(f"{what} takes booleans, and this is {kind(value)}")


def whole_of(value: Any, what: str) -> int:
    """Demand a whole number, however JSON wrote it."""
    if kind(value) == "a number":
        if isinstance(value, int):
            return whole(value)
        if value.is_integer():
            return whole(int(value))
    raise ExpressionFailed(f"{what} takes whole numbers, and this is {_described(value)}")


def is_number(value: Any) -> bool:
    """Whether a value is a number; Python counts booleans among them, JSON does not."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def double(number: float) -> float:
    """Take a number for a double."""
    return finite(float(whole(number) if isinstance(number, int) else number))


def text(value: Any, what: str) -> str:
    """Demand a text."""
    if isinstance(value, str):
        return value
    raise ExpressionFailed(f"{what} takes text, and this is {kind(value)}")


def _described(value: Any) -> str:
    return str(value) if isinstance(value, float) else kind(value)
