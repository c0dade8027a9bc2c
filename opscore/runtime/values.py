"""Checking and copying payloads, results and documents: they have to be JSON, of limited size and depth."""

import functools
import math
from collections.abc import Iterable, Iterator
from typing import Any, Final, TypeVar

import attrs

from opscore.runtime.codec import FREE, decode_json, encode_json
from opscore.runtime.delivery import Completed, Failed, Judgement
from opscore.runtime.errors import Fault, LimitExceeded
from opscore.runtime.evolving import evolve
from opscore.runtime.lease import Lease
from opscore.runtime.limits import Limits
from opscore.runtime.models import Agent, Assignment, Failure, Session, Signal, Task

RowT = TypeVar("RowT", Agent, Assignment, Lease, Session, Signal, Task)

_ATOMS: Final = frozenset({type(None), bool, int, float, str})
_NAMES: Final = frozenset({str})
RESULT_TOO_LARGE: Final = "result_too_large"
"""The code of the failure of a result that is too large to store; it is not retried."""
_INTEGER_BITS_MAX: Final = 14_000
"""About 4,200 decimal digits; by default Python writes and reads no more than 4,300."""


@attrs.frozen
class Place:
    """The place of a value in a document, as a step from the place of the value that contains it."""

    outer: "Place | None"
    step: str | int

    def __str__(self) -> str:
        """The path, such as `tasks[2].nextTaskId`."""
        steps = []
        place: Place | None = self
        while place is not None:
            steps.append(place.step)
            place = place.outer
        return path_of(reversed(steps))


def path_of(steps: Iterable[str | int], start: str = "") -> str:
    """Write a path, such as `tasks[2].nextTaskId`.

    Args:
        steps: the names and indexes that lead to a value.
        start: the path at which they begin.
    """
    return (start + "".join(f"[{step}]" if isinstance(step, int) else f".{step}" for step in steps)).removeprefix(".")


def walk(document: Any) -> Iterator[tuple[Place | None, int, Any]]:
    """Visit every value of a document in order, and yield its place, its depth and the value.

    It keeps its own stack, so that no depth overflows Python's, and formats no path until a place is printed.
    """
    waiting: list[tuple[Place | None, int, Any]] = [(None, 0, document)]
    while waiting:
        place, depth, value = waiting.pop()
        yield place, depth, value
        if isinstance(value, dict):
            inner = [(Place(place, str(name)), depth + 1, item) for name, item in value.items()]
            waiting.extend(reversed(inner))
        elif isinstance(value, list | tuple):
            waiting.extend((Place(place, index), depth + 1, value[index]) for index in reversed(range(len(value))))


def document_faults(document: Any, limits: Limits) -> list[Fault]:
    """Find values that JSON can't represent, such as a date from YAML, and where a document exceeds its limits."""
    faults = []
    for count, (place, depth, value) in enumerate(walk(document), start=1):
        path = "" if place is None else place
        if count > limits.document_values_max:
            return [Fault(path="", message=f"document_values_max allows {limits.document_values_max:,} values")]
        if depth > limits.nesting_max:
            return [Fault(path=str(path), message=f"nesting_max allows {limits.nesting_max:,} levels")]
        wrong = _not_json(value)
        if wrong is not None:
            faults.append(Fault(path=str(path), message=wrong))
    return faults


def _not_json(value: Any) -> str | None:
    """Return what keeps a value itself, regardless of the values inside it, from being JSON."""
    match value:
        case None | bool() | list():
            return None
        case str():
            return None if _is_text(value) else "this text holds half of a surrogate pair"
        case int():
            return None if value.bit_length() <= _INTEGER_BITS_MAX else "this number is too large"
        case float():
            return None if math.isfinite(value) else f"{value} is not JSON"
        case dict():
            strange = [name for name in value if not isinstance(name, str)]
            if strange:
                return f"expected names that are strings, found {strange[0]!r}"
            return None if all(map(_is_text, value)) else "a name holds half of a surrogate pair"
        case _:
            return f"{type(value).__name__} is not JSON"


def _is_text(value: str) -> bool:
    if value.isascii():
        return True
    try:
        value.encode()
    except UnicodeEncodeError:
        return False
    return True


def check_value(value: Any, limits: Limits) -> None:
    """Check that a value can be stored.

    Raises:
        LimitExceeded: it is larger than `value_bytes_max`, or nests deeper than `nesting_max`.
        ValueError, TypeError: it is not JSON.
    """
    _check(value, limits, "value_bytes_max", limits.value_bytes_max)


def check_texts(texts: Iterable[Any], limits: Limits) -> None:
    """Check that each of these is a string that can be stored, or None, which stands for a text that is not given.

    Raises:
        LimitExceeded: one is larger than `value_bytes_max`.
        ValueError, TypeError: one is not a string, or holds half of a surrogate pair.
    """
    for text in texts:
        if text is not None:
            check_is_text(text)
        check_value(text, limits)


def check_is_text(value: Any, what: str = "a string") -> None:
    """Check that a value is a string.

    Args:
        value: the value.
        what: what was expected, for the error's message.

    Raises:
        TypeError: it is not a string.
    """
    if not isinstance(value, str):
        raise TypeError(f"expected {what}, found {value!r}")


def check_progress(value: Any, limits: Limits) -> None:
    """Check that a value can be stored as the progress of an attempt.

    Raises:
        LimitExceeded: it is larger than `progress_bytes_max`, or nests deeper than `nesting_max`.
        ValueError, TypeError: it is not JSON.
    """
    _check(value, limits, "progress_bytes_max", limits.progress_bytes_max)


def _check(value: Any, limits: Limits, limit: str, bytes_max: int) -> None:
    if value is None:
        return
    try:
        body = encode_json(value)
    except RecursionError:
        raise LimitExceeded("nesting_max", limits.nesting_max, _depth(value)) from None
    except (ValueError, TypeError) as error:
        raise _in_words(value, error, limits) from error
    if len(body) > bytes_max:
        raise LimitExceeded(limit, bytes_max, len(body))
    # Most values have fewer brackets than the levels that are allowed, and need no walk.
    if body.count(b"[") + body.count(b"{") > limits.nesting_max and (depth := _depth(value)) > limits.nesting_max:
        raise LimitExceeded("nesting_max", limits.nesting_max, depth)


def _in_words(value: Any, error: ValueError | TypeError, limits: Limits) -> ValueError | TypeError:
    """Return an error of the same type whose message says what can't be stored, and where it is."""
    kind = TypeError if isinstance(error, TypeError) else ValueError
    for place, depth, each in walk(value):
        if depth > limits.nesting_max:
            # The message has no place, because the path into a value that contains itself never ends.
            return kind("it contains itself, or nests too deeply")
        wrong = _not_storable(each)
        if wrong is not None:
            return kind(wrong if place is None else f"{wrong}, at {place}")
    return error


def _not_storable(value: Any) -> str | None:
    """As `_not_json`, but accept what the encoder converts: tuples, and names that are numbers or None."""
    if isinstance(value, tuple):
        return None
    if isinstance(value, dict):
        value = {name: item for name, item in value.items() if not isinstance(name, int | float | None)}
    return _not_json(value)


def _depth(value: Any) -> int:
    return max(depth for _, depth, _ in walk(value))


def copied(value: Any, limits: Limits) -> Any:
    """Return a checked copy of a value as JSON has it, so that the caller may go on changing the original.

    Raises:
        LimitExceeded, ValueError, TypeError: as `check_value`.
    """
    check_value(value, limits)
    return deep_copy(value)


def deep_copy(value: Any) -> Any:
    """Return a copy of a value as JSON has it, which is how it would be read from the store.

    Tuples become lists, numbers of other libraries plain numbers, and names that are not strings become strings.

    Raises:
        ValueError, TypeError: it is not JSON.
    """
    kind = type(value)
    if kind in _ATOMS:
        return value
    if kind is dict and _NAMES.issuperset(map(type, value)):
        return {name: deep_copy(item) for name, item in value.items()}
    if kind is list:
        return [deep_copy(item) for item in value]
    return decode_json(encode_json(value))


def own(row: RowT) -> RowT:
    """Return a row with copies of its JSON values, which the caller may change without affecting anyone else."""
    kind: Any = type(row)
    values = ((name, getattr(row, name)) for name in _fields_of_json(kind))
    copies = {name: deep_copy(value) for name, value in values if isinstance(value, dict | list)}
    return evolve(row, **copies) if copies else row


@functools.cache
def _fields_of_json(kind: Any) -> tuple[str, ...]:
    return tuple(field.name for field in attrs.fields(kind) if field.type in (*FREE, dict[str, str]))


def checked(judgement: Judgement, limits: Limits) -> Judgement:
    """Copy a result; turn one that can't be stored into a failure that is not retried."""
    if not isinstance(judgement, Completed):
        return judgement
    try:
        return Completed(result=copied(judgement.result, limits))
    except LimitExceeded as error:
        return Failed(
            error=Failure(message=f"the result is too large: {error}", code=RESULT_TOO_LARGE),
            retryable=False,
        )
    except (ValueError, TypeError) as error:
        return Failed(
            error=Failure(message=f"the result is not JSON: {error}", code="result_not_json"), retryable=False
        )
