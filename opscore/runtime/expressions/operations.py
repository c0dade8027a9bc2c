"""Operators and functions of CEL on JSON values.

Numbers are compared by value: JSON does not distinguish 1 from 1.0, and neither do comparisons. Arithmetic on whole
numbers gives a whole number of at most 64 bits; with a double in it, it gives a double. No operation gives NaN or an
infinity. In all else the rules are CEL's (https://github.com/google/cel-spec/blob/master/doc/langdef.md). An operation
that takes longer than a step costs more than one.
"""

import operator
import re
from collections.abc import Callable, Mapping
from typing import Any, Final

from opscore.runtime.errors import ExpressionExhausted, ExpressionFailed
from opscore.runtime.expressions.bounds import ITEMS_MAX, TEXT_CHARACTERS_MAX, Budget
from opscore.runtime.expressions.patterns import matches
from opscore.runtime.expressions.values import (
    MadeList,
    boolean,
    double,
    finite,
    is_number,
    kind,
    shown,
    text,
    whole,
    whole_of,
)

_NUMBER: Final = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]+)?")
_WHOLE: Final = re.compile(r"[+-]?[0-9]+")
_NUMBER_CHARACTERS_MAX: Final = 64
_STEPS_A_PAIR: Final = 4
_STEPS_AN_ITEM: Final = 2
_JOINED_A_STEP: Final = 16
_SOUGHT_A_STEP: Final = 16
_SOUGHT_AT_EACH: Final = (100, 30_000, 128)
"""Bounds of the worst case of a search: length of the part that is compared at each place, number of places, and
characters compared in the time of a step."""


def _arithmetic(sign: str, apply: Callable[[Any, Any], Any]) -> Callable[[Budget, Any, Any], Any]:
    def calculate(_budget: Budget, left: Any, right: Any) -> Any:
        if not (is_number(left) and is_number(right)):
            raise ExpressionFailed(f"{sign} does not take {kind(left)} and {kind(right)}")
        if isinstance(left, int) and isinstance(right, int):
            return whole(apply(whole(left), whole(right)))
        return finite(apply(double(left), double(right)))

    return calculate


subtract = _arithmetic("-", operator.sub)
multiply = _arithmetic("*", operator.mul)
_sum = _arithmetic("+", operator.add)


def add(budget: Budget, left: Any, right: Any) -> Any:
    """Add numbers, join texts or lists."""
    if isinstance(left, str) and isinstance(right, str):
        length = len(left) + len(right)
        if length > TEXT_CHARACTERS_MAX:
            raise ExpressionExhausted(f"a text may have at most {TEXT_CHARACTERS_MAX:,} characters")
        budget.spend_text(length)
        return left + right
    if isinstance(left, list) and isinstance(right, list):
        length = len(left) + len(right)
        if length > ITEMS_MAX:
            raise ExpressionExhausted(f"a list that is made may have at most {ITEMS_MAX:,} items")
        budget.spend(1 + length // _JOINED_A_STEP)
        return MadeList((*left, *right))
    return _sum(budget, left, right)


def divide(_budget: Budget, left: Any, right: Any) -> Any:
    """Divide; the quotient of whole numbers is truncated towards zero, as in CEL."""
    if not (is_number(left) and is_number(right)):
        raise ExpressionFailed(f"/ does not take {kind(left)} and {kind(right)}")
    if right == 0:
        raise ExpressionFailed("division by zero")
    if isinstance(left, int) and isinstance(right, int):
        quotient = abs(whole(left)) // abs(whole(right))
        return whole(quotient if (left < 0) == (right < 0) else -quotient)
    return finite(double(left) / double(right))


def remainder(_budget: Budget, left: Any, right: Any) -> int:
    """Return the remainder of a division of whole numbers; it has the sign of the dividend."""
    dividend, divisor = whole_of(left, "%"), whole_of(right, "%")
    if divisor == 0:
        raise ExpressionFailed("division by zero")
    rest = abs(dividend) % abs(divisor)
    return -rest if dividend < 0 else rest


def negate(_budget: Budget, value: Any) -> Any:
    """Negate a number."""
    if not is_number(value):
        raise ExpressionFailed(f"- takes a number, not {kind(value)}")
    return whole(-whole(value)) if isinstance(value, int) else -finite(value)


def invert(_budget: Budget, value: Any) -> bool:
    """Negate a boolean."""
    return not boolean(value, "!")


def comparison(sign: str, apply: Callable[[Any, Any], bool]) -> Callable[[Budget, Any, Any], bool]:
    """Make an operator that compares numbers by value, texts by code points, and false before true."""

    def compare(budget: Budget, left: Any, right: Any) -> bool:
        what = kind(left)
        if what != kind(right) or what not in {"a number", "text", "a boolean"}:
            raise ExpressionFailed(f"{sign} does not take {what} and {kind(right)}")
        if isinstance(left, str):
            budget.spend_text(min(len(left), len(right)))
        return apply(left, right)

    return compare


def equal(budget: Budget, left: Any, right: Any) -> bool:
    """Compare by value, to any depth; values of different kinds are never equal, and 1 equals 1.0."""
    pairs = [(left, right)]
    while pairs:
        one, other = pairs.pop()
        if one is other:
            continue
        what = kind(one)
        if what != kind(other):
            return False
        match what:
            case "a list":
                if len(one) != len(other):
                    return False
                budget.spend(1 + _STEPS_A_PAIR * len(one))
                pairs.extend(zip(one, other, strict=True))
            case "an object":
                if len(one) != len(other):
                    return False
                budget.spend(1 + _STEPS_A_PAIR * len(one))
                if any(name not in other for name in one):
                    return False
                pairs.extend((value, other[name]) for name, value in one.items())
            case _:
                if isinstance(one, str):
                    budget.spend_text(len(one) if len(one) == len(other) else 0)
                if one != other:
                    return False
    return True


def unequal(budget: Budget, left: Any, right: Any) -> bool:
    """Return whether two values differ."""
    return not equal(budget, left, right)


def within(budget: Budget, item: Any, container: Any) -> bool:
    """Return whether a list contains a value, or an object a name."""
    if isinstance(container, Mapping):
        return isinstance(item, str) and item in container
    if not isinstance(container, list):
        raise ExpressionFailed(f"in takes a list or an object, not {kind(container)}")
    budget.spend(1 + _STEPS_AN_ITEM * len(container))
    return any(equal(budget, item, each) for each in container)


def size(_budget: Budget, value: Any) -> int:
    """Return the number of code points of a text, items of a list, or names of an object."""
    if isinstance(value, str | list | Mapping):
        return len(value)
    raise ExpressionFailed(f"size takes text, a list or an object, not {kind(value)}")


def on_text(name: str, apply: Callable[[str, str], bool]) -> Callable[[Budget, Any, Any], bool]:
    """Make a function of two texts."""

    def call(budget: Budget, value: Any, part: Any) -> bool:
        whole_text, sought = text(value, name), text(part, name)
        budget.spend_text(len(whole_text) + len(sought))
        return apply(whole_text, sought)

    return call


def contains(budget: Budget, value: Any, part: Any) -> bool:
    """Return whether a text contains another."""
    within_it, sought = text(value, "contains"), text(part, "contains")
    part_max, text_max, at_each = _SOUGHT_AT_EACH
    budget.spend(1 + len(within_it) // _SOUGHT_A_STEP)
    budget.spend(min(len(sought), part_max) * min(len(within_it), text_max) // at_each)
    return sought in within_it


def to_whole(_budget: Budget, value: Any) -> int:
    """Truncate a double towards zero, or parse a text."""
    if isinstance(value, str):
        if len(value) > _NUMBER_CHARACTERS_MAX or not _WHOLE.fullmatch(value):
            raise ExpressionFailed(f"{shown(value)} is not a whole number")
        return whole(int(value))
    if is_number(value):
        return whole(int(finite(value) if isinstance(value, float) else value))
    raise ExpressionFailed(f"int takes a number or text, not {kind(value)}")


def to_double(_budget: Budget, value: Any) -> float:
    """Convert a number to a double, or parse a text."""
    if isinstance(value, str):
        if len(value) > _NUMBER_CHARACTERS_MAX or not _NUMBER.fullmatch(value):
            raise ExpressionFailed(f"{shown(value)} is not a number")
        return finite(float(value))
    if is_number(value):
        return double(value)
    raise ExpressionFailed(f"double takes a number or text, not {kind(value)}")


def to_text(_budget: Budget, value: Any) -> str:
    """Convert a number or a boolean to text; a whole double has no decimals, as in CEL."""
    match value:
        case str():
            return value
        case bool():
            return "true" if value else "false"
        case int():
            return str(whole(value))
        case float():
            return repr(finite(value)).removesuffix(".0")
        case _:
            raise ExpressionFailed(f"string takes text, a number or a boolean, not {kind(value)}")


def to_boolean(_budget: Budget, value: Any) -> bool:
    """Convert the text `true` or `false` to a boolean."""
    if isinstance(value, bool):
        return value
    if isinstance(value, str) and value in {"true", "false"}:
        return value == "true"
    raise ExpressionFailed(
        f'bool takes "true" or "false", not {shown(value) if isinstance(value, str) else kind(value)}'
    )


def as_is(_budget: Budget, value: Any) -> Any:
    """Return the value unchanged: `dyn` is for CEL's type checker, which is not used here."""
    return value


OPERATIONS: Final[dict[str, Callable[..., Any]]] = {
    "_+_": add,
    "_-_": subtract,
    "_*_": multiply,
    "_/_": divide,
    "_%_": remainder,
    "-_": negate,
    "!_": invert,
    "_==_": equal,
    "_!=_": unequal,
    "_<_": comparison("<", operator.lt),
    "_<=_": comparison("<=", operator.le),
    "_>_": comparison(">", operator.gt),
    "_>=_": comparison(">=", operator.ge),
    "@in": within,
    "size": size,
    "contains": contains,
    "startsWith": on_text("startsWith", str.startswith),
    "endsWith": on_text("endsWith", str.endswith),
    "matches": matches,
    "int": to_whole,
    "double": to_double,
    "string": to_text,
    "bool": to_boolean,
    "dyn": as_is,
}
"""Operations whose operands are all evaluated first; `steps` has `&&`, `||`, `?:`, `[]`, fields and macros."""
