"""What a few expressions come to, by hand: those that random workflows are drawn with, and no other."""

import re
from collections.abc import Mapping
from typing import Any

Names = Mapping[str, Any]


class NoValueError(Exception):
    """The expression has no value where it is evaluated."""


def value_of(template: Any, names: Names) -> Any:
    """A template with its expressions replaced; each is the whole of its string.

    Raises:
        NoValueError: one of them has none.
    """
    if isinstance(template, str) and template.startswith("${"):
        return expression(template[2:-1], names)
    if isinstance(template, list):
        return [value_of(each, names) for each in template]
    if isinstance(template, dict):
        return {name: value_of(each, names) for name, each in template.items()}
    return template


def list_of(template: Any, names: Names) -> list[Any]:
    """The value of a template that gives a list.

    Raises:
        NoValueError: it has none, or another one.
    """
    found = value_of(template, names)
    if not isinstance(found, list):
        raise NoValueError(template)
    return found


def condition(text: str, names: Names) -> bool:
    """Whether a condition is true.

    Raises:
        NoValueError: it has no value, or one that is neither true nor false.
    """
    found = expression(text.removeprefix("${").removesuffix("}"), names)
    if not isinstance(found, bool):
        raise NoValueError(text)
    return found


def expression(text: str, names: Names) -> Any:
    """The value of an operation, a constant or a path."""
    for sign in (" == ", " > ", " / "):
        if sign in text:
            left, right = (expression(part, names) for part in text.split(sign))
            return operation(sign.strip(), left, right)
    if re.fullmatch(r"\d+", text):
        return int(text)
    if text.startswith("'"):
        return text.strip("'")
    if text in ("null", "true", "false"):
        return {"null": None, "true": True, "false": False}[text]
    found: Any = names
    for part in text.split("."):
        if not isinstance(found, Mapping) or part not in found:
            raise NoValueError(text)
        found = found[part]
    return found


def operation(sign: str, left: Any, right: Any) -> Any:
    """What comes of two values."""
    if sign == "==":
        return left == right
    if not isinstance(left, int) or not isinstance(right, int) or (sign == "/" and right == 0):
        raise NoValueError(sign)
    return left > right if sign == ">" else left // right
