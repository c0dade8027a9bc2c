"""Time zones: what a zone's clock shows at a moment, when it shows a given reading, and when it is changed.

Moments are Unix seconds; readings of a clock are `datetime`s without a zone.
"""

import difflib
import functools
import zoneinfo
from datetime import datetime, timedelta
from typing import Final

NAME_CHARACTERS_MAX: Final = 64
"""Twice the length of the longest name that exists."""
_PROBE_S: Final = 86_400
"""The step of the search for changes: no clock is changed twice within a day."""


@functools.cache
def _names() -> dict[str, str]:
    """Return the names of every zone that this machine knows, by the name in lower case."""
    # Some systems keep the machine's own zone among the others.
    return {name.casefold(): name for name in sorted(zoneinfo.available_timezones() - {"localtime"})}


def named(name: str) -> zoneinfo.ZoneInfo:
    """Return a zone of the IANA database, such as `Europe/Berlin`.

    Raises:
        ValueError: there is no zone with this name; the message suggests a similar one.
    """
    known = _names()
    # A name that is not known is never turned into the path of a file.
    if known.get(name.casefold()) == name:
        return zoneinfo.ZoneInfo(name)
    near = difflib.get_close_matches(name[:NAME_CHARACTERS_MAX].casefold(), known, n=1)
    hint = f"; did you mean {known[near[0]]}?" if near else ""
    raise ValueError(f"expected a time zone such as Europe/Berlin, found {name[:NAME_CHARACTERS_MAX]!r}{hint}")


def reading(zone: zoneinfo.ZoneInfo, at: int) -> datetime:
    """Return what the clock shows at a moment."""
    return datetime.fromtimestamp(at, zone).replace(tzinfo=None)


def moment(zone: zoneinfo.ZoneInfo, shown: datetime) -> int:
    """Return the moment at which the clock shows this reading, without fractions of a second.

    For a reading that the clock shows twice, that is the first time. For one that it never shows, that is the moment at
    which it is put forward past it.
    """
    first = int(shown.replace(tzinfo=zone, fold=0).timestamp())
    if reading(zone, first) == shown.replace(microsecond=0, fold=0):
        return first
    # By PEP 495, the two interpretations of a reading that is never shown lie before and after the change.
    before = int(shown.replace(tzinfo=zone, fold=1).timestamp())
    change = changed(zone, before, first)
    assert change is not None, "a reading is never shown because the clock is put forward past it"
    return change


def changed(zone: zoneinfo.ZoneInfo, since: int, until: int) -> int | None:
    """Return the first moment after `since`, and not after `until`, at which the zone's UTC offset changes, if any."""
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
