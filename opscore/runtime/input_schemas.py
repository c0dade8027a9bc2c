"""The JSON Schema of a workflow's input: checked when the workflow is saved, asked when a run is triggered.

It is whoever writes workflows that writes schemas, so a schema is bounded as an expression is: it refers to nothing
outside of itself, its patterns are RE2's and cost steps, and what it may look at is counted.
"""

import functools
import json
from collections.abc import Callable, Iterator
from typing import Any, Final

import jsonschema
import referencing.exceptions

from opscore.runtime.errors import ExpressionFailed, ExpressionInvalid, Fault, InvalidDocument
from opscore.runtime.expressions import compile_expression
from opscore.runtime.values import walk

LOOKS_MAX: Final = 20_000
"""How often the keywords that lead to other schemas are looked at, for one input."""
FAULTS_MAX: Final = 100
_LEADING: Final = (
    "$ref", "$dynamicRef", "allOf", "anyOf", "oneOf", "not", "if", "dependentSchemas", "properties", "items",
    "prefixItems", "contains", "additionalProperties", "unevaluatedProperties", "unevaluatedItems", "propertyNames",
)  # fmt: skip
_UNBOUNDED: Final = ("patternProperties",)


class _TooMuch(Exception):
    pass


def schema_faults(schema: Any, where: str) -> Iterator[Fault]:
    """What is wrong with the schema itself."""
    if not isinstance(schema, dict):
        return
    for error in jsonschema.Draft202012Validator(jsonschema.Draft202012Validator.META_SCHEMA).iter_errors(schema):
        yield Fault(path=_path(where, error.absolute_path), message=error.message)
    for place, _, value in walk(schema):
        if not isinstance(value, dict):
            continue
        at = where if place is None else f"{where}.{place}"
        for name in ("$ref", "$dynamicRef"):
            if isinstance(value.get(name), str) and not value[name].startswith("#"):
                yield Fault(path=f"{at}.{name}", message="expected a reference within the schema, such as '#/$defs/x'")
        for name in _UNBOUNDED:
            if name in value and isinstance(value[name], dict):
                yield Fault(path=f"{at}.{name}", message="it is not supported; use properties and additionalProperties")
        if isinstance(value.get("pattern"), str):
            try:
                _matcher(value["pattern"]).holds({"item": ""})
            except (ExpressionInvalid, ExpressionFailed) as error:
                yield Fault(path=f"{at}.pattern", message=str(error))


def check_input(schema: dict[str, Any], payload: Any) -> None:
    """Refuse an input that its workflow's schema does not allow.

    Raises:
        InvalidDocument: with every fault, each at its path within the input.
    """
    faults: list[Fault] = []
    try:
        for error in _Bounded(schema).errors(payload):
            faults.append(Fault(path=_path("", error.absolute_path), message=_shortened(error.message)))
            if len(faults) == FAULTS_MAX:
                break
    except _TooMuch:
        faults = [Fault(path="", message=f"its schema takes more than {LOOKS_MAX:,} looks at this input")]
    except RecursionError:
        faults = [Fault(path="", message="its schema leads back to itself without end")]
    except referencing.exceptions.Unresolvable as error:
        faults = [Fault(path="", message=f"its schema refers to {error.ref!r}, which is not there")]
    if faults:
        raise InvalidDocument("input", tuple(faults))


class _Bounded:
    """A validator of one schema for one input."""

    def __init__(self, schema: dict[str, Any]) -> None:
        self._left = LOOKS_MAX
        known = jsonschema.Draft202012Validator.VALIDATORS
        checks = {name: self._counted(known[name]) for name in _LEADING if name in known}
        checks |= {"pattern": _pattern, "uniqueItems": _unique}
        kind: Any = jsonschema.validators.extend(jsonschema.Draft202012Validator, checks)  # type: ignore[no-untyped-call]
        self._validator = kind(schema)

    def errors(self, payload: Any) -> Iterator[jsonschema.ValidationError]:
        found: Iterator[jsonschema.ValidationError] = self._validator.iter_errors(payload)
        return found

    def _counted(self, check: Callable[..., Any]) -> Callable[..., Iterator[Any]]:
        def counted(validator: Any, value: Any, instance: Any, schema: Any) -> Iterator[Any]:
            self._left -= 1 + (len(instance) if isinstance(instance, list | dict) else 0)
            if self._left < 0:
                raise _TooMuch
            yield from check(validator, value, instance, schema) or ()

        return counted


@functools.lru_cache(maxsize=256)
def _matcher(pattern: str) -> Any:
    return compile_expression(f"item.matches({json.dumps(pattern)})")


def _pattern(_validator: Any, pattern: str, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if not isinstance(instance, str):
        return
    try:
        matches = _matcher(pattern).holds({"item": instance})
    except (ExpressionFailed, ExpressionInvalid) as error:
        yield jsonschema.ValidationError(f"the pattern {pattern!r} can't be tried: {error}")
        return
    if not matches:
        yield jsonschema.ValidationError(f"{instance!r} does not match {pattern!r}")


def _unique(_validator: Any, wanted: Any, instance: Any, _schema: Any) -> Iterator[jsonschema.ValidationError]:
    if wanted and isinstance(instance, list):
        seen = {json.dumps(item, sort_keys=True) for item in instance}
        if len(seen) < len(instance):
            yield jsonschema.ValidationError("an item is there more than once")


def _path(where: str, parts: Any) -> str:
    text = where + "".join(f"[{part}]" if isinstance(part, int) else f".{part}" for part in parts)
    return text.removeprefix(".")


def _shortened(message: str) -> str:
    return message if len(message) <= 500 else message[:499] + "…"  # noqa: PLR2004 (as faults of documents)
