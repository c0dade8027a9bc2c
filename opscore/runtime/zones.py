"""Time zones: what the clock on the wall of a place shows, when it shows a given time, and when it is changed.

Moments are Unix seconds, readings of a clock are `datetime`s without a zone.
"""

import difflib
import functools
import zoneinfo
from datetime import datetime, timedelta
from typing import Final

NAME_CHARACTERS_MAX: Final = 64
"""The longest name there is has half of that."""
_PROBE_S: Final = 86_400
"""No clock is changed twice within a day."""


@functools.cache
def _names() -> dict[str, str]:
    """Every zone that this machine knows, by its name in lower case."""
    # Some systems keep the machine's own zone among the others.
    return {name.casefold(): name for name in sorted(zoneinfo.available_timezones() - {"localtime"})}


def named(name: str) -> zoneinfo.ZoneInfo:
    """Find a zone of the IANA database, such as `Europe/Berlin`.

    Raises:
        ValueError: there is none of this name; the message says which comes near.
    """
    known = _names()
    # No other name is ever made a path.
    if known.get(name.casefold()) == name:
        return zoneinfo.ZoneInfo(name)
    near = difflib.get_close_matches(name[:NAME_CHARACTERS_MAX].casefold(), known, n=1)
    hint = f"; did you mean {known[near[0]]}?" if near else ""
    raise ValueError(f"expected a time zone such as Europe/Berlin, found {name[:NAME_CHARACTERS_MAX]!r}{hint}")


def reading(zone: zoneinfo.ZoneInfo, at: int) -> datetime:
    """What the clock shows at a moment."""
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None)


def moment(zone: zoneinfo.ZoneInfo, shown: datetime) -> int:
    """When the clock shows this reading, fractions of a second left out.

    The first time, where it is set back and shows it twice; the moment at which it is set, where it is put forward past
    it and never shows it.
    """
    first = int(shown.replace(tzinfo=zone, fold=0).timestamp())
    if reading(zone, first) == shown.replace(microsecond=0, fold=0):
        return first
    # By PEP 495 the two ways to read what is never shown lie before and behind the change.
    before = int(shown.replace(tzinfo=zone, fold=1).timestamp())
    change = changed(zone, before, first)
    assert change is not None, "a reading is never shown because the clock is put forward past it"
    return change


def changed(zone: zoneinfo.ZoneInfo, since: int, until: int) -> int | None:
    """The first moment after `since`, `until` at the latest, from which the clock is off UTC by another amount."""
    offset = _offset(zone, since)
    while since < until:
        probe = min(since + _PROBE_S, until)
        if _offset(zone, probe) != offset:
            return _first_of_another(zone, offset, since, probe)
        since = probe
    return None


def _first_of_another(zone: zoneinfo.ZoneInfo, offset: timedelta | None, same: int, other: int) -> int:
    while other - same > 1:
        middle = (same + other) // 2
        if _offset(zone, middle) == offset:
            same = middle
        else:
            other = middle
    return other


def _offset(zone: zoneinfo.ZoneInfo, at: int) -> timedelta | None:
    return datetime.fromtimestamp(at, zone).utcoffset()
