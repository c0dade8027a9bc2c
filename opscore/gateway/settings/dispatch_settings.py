"""How dispatch limits are written in the configuration: `capability:gpu=4`, `workflow:mail=100/min`."""

import re
from collections.abc import Sequence
from typing import Any, Final

import attrs

from opscore.runtime.limits import DispatchLimit

EXPECTED: Final = "limits such as capability:gpu=4 (at once) or workflow:mail=100/min (begun), separated by commas"
_WRITTEN: Final = re.compile(r"(capability|workflow):(.+)=(\d{1,9})(?:/(\d{0,6}(?:\.\d{1,3})?)(s|min|h))?")
_UNITS_S: Final = {"s": 1.0, "min": 60.0, "h": 3_600.0}


def limits_by_kind(texts: Sequence[str]) -> dict[str, dict[str, DispatchLimit]]:
    """Read limits, by kind (`capability` or `workflow`) and name; a name may have one limit of each form.

    Raises:
        ValueError: a text is no limit, or the same limit is given twice.
    """
    found: dict[str, dict[str, DispatchLimit]] = {"capability": {}, "workflow": {}}
    for text in texts:
        match = _WRITTEN.fullmatch(text)
        if match is None:
            raise ValueError(text)
        kind, name, count, times, unit = match.groups()
        given: dict[str, Any] = {"at_once": int(count)} if unit is None else {"per_interval": int(count)}
        interval_s = float(times or 1) * _UNITS_S.get(unit, 1.0)
        known = found[kind].get(name, DispatchLimit())
        if not int(count) or not interval_s or any(getattr(known, field) is not None for field in given):
            raise ValueError(text)
        interval: dict[str, Any] = {} if unit is None else {"interval_s": interval_s}
        found[kind][name] = attrs.evolve(known, **given, **interval)
    return found


def check(_settings: object, _field: object, texts: tuple[str, ...]) -> None:
    """Accept dispatch limits."""
    limits_by_kind(texts)
