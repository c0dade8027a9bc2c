"""The JSON Schema of a workflow's input: checked when the workflow is saved, applied when a run is triggered.

The authors of workflows write schemas, so these are bounded as expressions are: a schema refers to nothing outside of
itself, its patterns are RE2's, and the cost of applying it is counted, including that of its messages.
"""

import functools
import itertools
import json
import urllib.parse
from collections.abc import Callable, Iterator
from contextvars import ContextVar
from typing import Any, Final

import attrs
import jsonschema

from opscore.runtime.errors import ExpressionFailed, Fault, InvalidDocument
from opscore.runtime.expressions.patterns import fits
from opscore.runtime.values import Place, path_of, walk

INPUT: Final = "input"
"""The subject of `InvalidDocument` when an input is refused; callers may replace it by the name of what was sent."""
STEPS_MAX: Final = 1_000_000
"""Steps that a check may take: 10 for each keyword that is looked at and each fault, 1 for each value that is read."""
DEPTH_MAX: Final = 100
"""Levels to which keywords may nest while an input is checked; each level uses some of Python's stack."""
META_DEPTH_MAX: Final = 200
"""The same while a schema itself is checked."""
SCHEMA_NESTING_MAX: Final = 40
"""Levels of the schema's document."""
FAULTS_MAX: Final = 100
"""Maximum number of faults of an input that are reported."""
SHOWN_CHARACTERS: Final = 100
"""Characters of a value that a message shows."""
_KEYWORD_STEPS: Final = 10
_CHARACTERS_A_STEP: Final = 10
_DEEP: Final = frozenset({"const", "enum", "pattern", "uniqueItems"})
"""Keywords that read the whole of a value."""
_NAMES: Final = {"None": "null", "True": "true", "False": "false"}
"""Python's names of constants, and those of JSON."""
_ANCHORS: Final = ("$anchor", "$dynamicAnchor")
_UNSUPPORTED: Final = {
    "patternProperties": "properties and additionalProperties",
    "unevaluatedProperties": "additionalProperties",
    "unevaluatedItems": "items",
}
"""Keywords whose cost can't be counted, and what to use instead."""
_DATA: Final = frozenset({"const", "default", "enum", "examples"})
"""Keywords whose values are data and not schemas, whatever they look like."""
_NAMED: Final = frozenset({"$defs", "definitions", "dependentSchemas", "patternProperties", "properties"})
"""Keywords whose values hold schemas by name; the names are arbitrary and not keywords."""


def schema_faults(schema: Any, where: str) -> Iterator[Fault]:
    """Yield the faults of a schema."""
    if not isinstance(schema, dict):
        return
    if any(depth > SCHEMA_NESTING_MAX for _, depth, _ in walk(schema)):
        yield Fault(path=where, message=f"a schema nests {SCHEMA_NESTING_MAX} levels deep at most")
        return
    meta = jsonschema.Draft202012Validator.META_SCHEMA
    try:
        for error in _errors(meta, schema, _Budget(STEPS_MAX, META_DEPTH_MAX)):
            yield Fault(path=path_of(error.absolute_path, where), message=said_of(error))
    except _TooMuch as error:
        yield Fault(path=where, message=f"checking it {error}")
        return
    parts = [(where if place is None else f"{where}.{place}", part) for place, part in _parts(schema)]
    anchors = {part.get(name) for _, part in parts for name in _ANCHORS if isinstance(part.get(name), str)}
    budget = _Budget(STEPS_MAX, DEPTH_MAX)
    for path, part in parts:
        yield from _reference_faults(part, path, schema, anchors)
        yield from _keyword_faults(part, path)
        yield from _pattern_faults(part, path, budget)


def _parts(value: Any, place: Place | None = None, *, named: bool = False) -> Iterator[tuple[Place | None, Any]]:
    """Yield every schema in a value, with its place; `named` if the value is no schema but holds schemas by name."""
    if isinstance(value, list | tuple):
        for index, item in enumerate(value):
            yield from _parts(item, Place(place, index))
    elif isinstance(value, dict):
        if not named:
            yield place, value
        for name, item in value.items():
            if named or name not in _DATA:
                yield from _parts(item, Place(place, str(name)), named=not named and name in _NAMED)


def _reference_faults(part: dict[str, Any], where: str, schema: dict[str, Any], anchors: set[Any]) -> Iterator[Fault]:
    for name in ("$ref", "$dynamicRef"):
        if isinstance(part.get(name), str) and not _leads_somewhere(part[name], schema, anchors):
            message = f"expected a reference to a schema within this one, such as '#/$defs/x', found {part[name]!r}"
            yield Fault(path=f"{where}.{name}", message=message)
    if part is not schema and isinstance(part.get("$id"), str):
        yield Fault(path=f"{where}.$id", message="it is not supported within a schema; use $anchor")


def _leads_somewhere(reference: str, schema: Any, anchors: set[Any]) -> bool:
    if not reference.startswith("#"):
        return False
    if not reference.startswith("#/"):
        return reference == "#" or reference[1:] in anchors
    named = False
    for quoted in reference[2:].split("/"):
        step = urllib.parse.unquote(quoted).replace("~1", "/").replace("~0", "~")
        if isinstance(schema, list):
            schema = dict(zip(map(str, range(len(schema))), schema, strict=True))
        if not isinstance(schema, dict) or step not in schema or (step in _DATA and not named):
            return False
        named = not named and step in _NAMED
        schema = schema[step]
    return isinstance(schema, dict | bool)


def _keyword_faults(schema: dict[str, Any], where: str) -> Iterator[Fault]:
    for name, other in _UNSUPPORTED.items():
        if name in schema:
            yield Fault(path=f"{where}.{name}", message=f"it is not supported; use {other}")


def _pattern_faults(schema: dict[str, Any], where: str, budget: "_Budget") -> Iterator[Fault]:
    if isinstance(schema.get("pattern"), str):
        try:
            fits("", schema["pattern"], budget.spend)
        except ExpressionFailed as error:
            yield Fault(path=f"{where}.pattern", message=str(error))
        except _TooMuch as error:
            yield Fault(path=f"{where}.pattern", message=f"reading it, and the patterns before it, {error}")


def check_input(schema: dict[str, Any], payload: Any) -> None:
    """Refuse an input that does not match the schema of its workflow.

    Raises:
        InvalidDocument: with every fault, up to `FAULTS_MAX`, each with its path within the input.
    """
    try:
        found = itertools.islice(_errors(_brief(schema), payload, _Budget(STEPS_MAX, DEPTH_MAX)), FAULTS_MAX)
        faults = [Fault(path=path_of(error.absolute_path), message=said_of(error)).shortened() for error in found]
    except _TooMuch as error:
        faults = [Fault(path="", message=f"checking it against its schema {error}")]
    except Exception as error:  # noqa: BLE001 (what a user's schema makes the library raise is a fault of the schema)
        told = f"its schema can't be applied to it: {type(error).__name__}: {error}"
        faults = [Fault(path="", message=told).shortened()]
    if faults:
        raise InvalidDocument(INPUT, tuple(faults))


def said_of(error: jsonschema.ValidationError) -> str:
    """Return the library's message, with `null`, `true` and `false` as in JSON."""
    shown = repr(error.instance)
    if shown in _NAMES and error.message.startswith(shown):
        return _NAMES[shown] + error.message.removeprefix(shown)
    return error.message


# --- what it costs --------------------------------------------------------------------------------------------


class _TooMuch(Exception):
    pass


@attrs.define
class _Budget:
    """The steps and levels that a check has left."""

    steps: int
    depth: int

    def spend(self, steps: int) -> None:
        self.steps -= steps
        if self.steps < 0:
            raise _TooMuch("takes too many steps")

    def descend(self) -> None:
        # The depth is limited here because a RecursionError inside of a library's native code would be a panic.
        self.depth -= 1
        if self.depth < 0:
            raise _TooMuch("leads too deep: its references may be circular")


_budget: ContextVar[_Budget] = ContextVar("_budget")


def _errors(schema: Any, value: Any, budget: _Budget) -> Iterator[jsonschema.ValidationError]:
    _budget.set(budget)
    found: Iterator[jsonschema.ValidationError] = _counting()(schema).iter_errors(_brief(value))
    return found


@functools.cache
def _counting() -> Any:
    """Return the class of validators that count their steps."""
    checks = {**jsonschema.Draft202012Validator.VALIDATORS, "pattern": _pattern, "uniqueItems": _unique}
    checks |= dict.fromkeys(_UNSUPPORTED, _unsupported)
    counted = {name: _counted(name, check) for name, check in checks.items()}
    kind: Any = jsonschema.validators.extend(jsonschema.Draft202012Validator, counted)  # type: ignore[no-untyped-call]
    # At each `$schema`, the class's own `evolve` would change to the library's class, which counts nothing.
    kind.evolve = attrs.evolve
    return kind


def _counted(name: str, check: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
    size = _weight if name in _DEEP else _length

    def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
        budget = _budget.get()
        budget.spend(_KEYWORD_STEPS + size(value) + size(instance))
        budget.descend()
        try:
            for error in check(validator, value, instance, schema) or ():
                budget.spend(_KEYWORD_STEPS)
                yield error
        finally:
            budget.depth += 1

    return counted


def _length(value: Any) -> int:
    return len(value) if isinstance(value, list | dict) else 0


def _weight(value: Any) -> int:
    if isinstance(value, str):
        return len(value) // _CHARACTERS_A_STEP
    return value.weight if isinstance(value, _List | _Object) else _length(value)


# --- values that are quoted in messages in a short form --------------------------------------------------------


class _Text(str):
    __slots__ = ()

    def __repr__(self) -> str:
        return repr(str(self[:SHOWN_CHARACTERS]))[:-1] + "…'"


class _List(list[Any]):
    weight = 0

    def __repr__(self) -> str:
        return "[…]" if self.weight > SHOWN_CHARACTERS else super().__repr__()


class _Object(dict[str, Any]):
    weight = 0

    def __repr__(self) -> str:
        return "{…}" if self.weight > SHOWN_CHARACTERS else super().__repr__()


def _brief(value: Any) -> Any:
    """Return the same value, but with a short `repr`, and with its weight: how many values it holds."""
    if isinstance(value, str):
        return value if len(value) <= SHOWN_CHARACTERS else _Text(value)
    if isinstance(value, list | tuple):
        listed = _List(map(_brief, value))
        listed.weight = len(listed) + sum(map(_weight, listed))
        return listed
    if isinstance(value, dict):
        named = _Object((_brief(name), _brief(item)) for name, item in value.items())
        named.weight = len(named) + sum(_weight(name) + _weight(item) for name, item in named.items())
        return named
    return value


# --- keywords that would have no bound on their cost in the library --------------------------------------------


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(instance, str):
        return
    try:
        found = fits(str(instance), pattern, _budget.get().spend)
    except ExpressionFailed as error:
        yield jsonschema.ValidationError(f"the pattern {pattern!r} can't be matched: {error}")
        return
    if not found:
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if wanted and isinstance(instance, list):
        seen = {_identity(item) for item in instance}
        if len(seen) < len(instance):
            yield jsonschema.ValidationError("an item occurs more than once")


def _identity(value: Any) -> Any:
    """Return a key that is equal for values which JSON Schema takes as equal, such as 1 and 1.0, but not 1 and true."""
    if isinstance(value, list | dict):
        return "json", json.dumps(_numbered(value), sort_keys=True)
    return (bool, value) if isinstance(value, bool) else value


def _numbered(value: Any) -> Any:
    if isinstance(value, list):
        return [_numbered(item) for item in value]
    if isinstance(value, dict):
        return {name: _numbered(item) for name, item in value.items()}
    return int(value) if isinstance(value, float) and value.is_integer() else value


def _unsupported(_validator: Any, _wanted: Any, _instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    yield jsonschema.ValidationError(f"its schema has one of {', '.join(_UNSUPPORTED)}, which are not supported")
