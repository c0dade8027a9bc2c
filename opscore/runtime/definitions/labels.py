"""Labels and business keys, by which runs are found."""

from collections.abc import Iterator, Mapping
from typing import Any

from opscore.runtime.definitions.definition import Definition
from opscore.runtime.errors import Fault
from opscore.runtime.limits import Limits


def label_faults(labels: Any, limits: Limits) -> Iterator[Fault]:
    """Yield the faults of an object that should be a run's labels; their paths are relative to the object."""
    if len(labels) > limits.labels_max:
        yield Fault(path="", message=f"labels_max allows {limits.labels_max}, found {len(labels)}")
        return
    for name, value in labels.items():
        message = _fault(name, value, limits)
        if message is not None:
            yield Fault(path=f".{name[: limits.label_name_bytes_max]}", message=message)


def business_key_faults(key: Any, limits: Limits) -> Iterator[Fault]:
    """Yield a fault if a string can't be a run's business key."""
    if not 0 < _size(key) <= limits.business_key_bytes_max:
        yield Fault(path="", message=f"expected 1 to {limits.business_key_bytes_max} bytes (business_key_bytes_max)")


def labels_of(definition: Definition, given: Mapping[str, str], limits: Limits) -> dict[str, str]:
    """Return the labels of a run: those of its trigger, then the valid ones of its definition, up to `labels_max`.

    A definition may have labels of any type and number; those that can't be labels of a run are notes of its author.
    """
    own = definition.document.get("labels") or {}
    inherited = {name: value for name, value in own.items() if _fault(name, value, limits) is None}
    return dict(list({**given, **inherited, **given}.items())[: limits.labels_max])


def _fault(name: str, value: Any, limits: Limits) -> str | None:
    if not 0 < _size(name) <= limits.label_name_bytes_max or ":" in name:
        return f"expected a name of 1 to {limits.label_name_bytes_max} bytes (label_name_bytes_max) without a colon"
    if not isinstance(value, str):
        return "expected a string"
    if _size(value) > limits.label_value_bytes_max:
        return f"expected {limits.label_value_bytes_max} bytes at most (label_value_bytes_max)"
    return None


def _size(text: str) -> int:
    return len(text.encode(errors="replace"))
