"""The kinds of JSON values, their names in messages, and the checks of an expression's operands and numbers."""

import math
from collections.abc import Mapping
from typing import Any, Final

from opscore.runtime.errors import ExpressionFailed

WHOLE_MIN: Final = -(2**63)
WHOLE_MAX: Final = 2**63 - 1
_SHOWN_CHARACTERS_MAX: Final = 60


class MadeList(list[Any]):
    """A list that an expression made, as opposed to one from its scope."""


class MadeMap(dict[str, Any]):
    """An object that an expression made, as opposed to one from its scope."""


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
    """Return the kind of a JSON value, in words for messages."""
    found = _KINDS.get(type(value))
    if found is not None:
        return found
    if isinstance(value, Mapping):
        return "an object"
    return next((words for each, words in _KINDS.items() if isinstance(value, each)), type(value).__name__)


def shown(value: Any) -> str:
    """Quote a name or a text for a message, shortened if it is long."""
    text = value if isinstance(value, str) else str(value)
    return f'"{text}"' if len(text) <= _SHOWN_CHARACTERS_MAX else f'"{text[:_SHOWN_CHARACTERS_MAX]}…"'


def whole(number: int) -> int:
    """Return a whole number, or raise if it exceeds CEL's 64 bits."""
    if WHOLE_MIN <= number <= WHOLE_MAX:
        return number
    raise ExpressionFailed("a whole number does not fit 64 bits")


def finite(number: float) -> float:
    """Return a double, or raise if it is NaN or infinite, which JSON can't represent."""
    if math.isfinite(number):
        return number
    raise ExpressionFailed("a number is too large for a double")


def boolean(value: Any, what: str) -> bool:
    """Return a boolean, or raise if the value is not one."""
    if isinstance(value, bool):
        return value
    raise ExpressionFailed(f"{what} takes booleans, not {kind(value)}")


def whole_of(value: Any, what: str) -> int:
    """Return a whole number, which may be written as `1.0`, or raise if the value is not one."""
    if kind(value) == "a number":
        if isinstance(value, int):
            return whole(value)
        if value.is_integer():
            return whole(int(value))
    raise ExpressionFailed(f"{what} takes whole numbers, not {_described(value)}")


def is_number(value: Any) -> bool:
    """Return whether a value is a JSON number; in Python, a boolean is an `int` as well."""
    return isinstance(value, int | float) and not isinstance(value, bool)


def double(number: float) -> float:
    """Convert a number to a double, or raise if it does not fit."""
    return finite(float(whole(number) if isinstance(number, int) else number))


def text(value: Any, what: str) -> str:
    """Return a text, or raise if the value is not one."""
    if isinstance(value, str):
        return value
    raise ExpressionFailed(f"{what} takes text, not {kind(value)}")


def _described(value: Any) -> str:
    return str(value) if isinstance(value, float) else kind(value)
