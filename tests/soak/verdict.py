"""The verdict of a soak: which figures grew, what was left over, and which log records should not be there."""

import re
from collections import Counter
from collections.abc import Mapping, Sequence
from typing import Any, Final

from tests.soak.bounds import LEFT_FILES, LEFT_THREADS, bound_of, left_allowed
from tests.soak.trend import Sample, trends

GONE: Final = (
    "messages waiting",
    "open runs",
    "deliveries",
    "listeners",
    "commits in line",
    "due times armed",
)
"""The figures that have to be 0 at the end."""
EXPECTED: Final = (
    r"schedule .*: (its due time starts no run|its run waits): ",
    r"\d+ of the agents could not be taken over",
)
"""Warnings that the load causes on purpose."""
STOOD_STILL: Final = r"stood still"
"""A warning of servers that were killed, or that got no processor time."""
TIMES: Final = (" p50", " p99")
FAULTS_SHOWN: Final = 20


def of_samples(samples: Sequence[Sample], *, timed: bool) -> list[str]:
    """Return the figures that grew or got worse by more than their bound; times only if `timed`."""
    found = [trend for trend in trends(samples, bound_of) if trend.is_too_much]
    return [f"grows: {trend}" for trend in found if timed or not trend.name.endswith(TIMES)]


def left(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, str]:
    """Return what is left at the end that was not there at the beginning."""
    found = {}
    for name in sorted(after):
        more = after[name] - before.get(name, 0.0)
        allowed = _allowed(name)
        if allowed is not None and more > allowed:
            found[name] = f"left over: {name}: {before.get(name, 0.0):,.0f} before, {after[name]:,.0f} after"
    return found


def _allowed(name: str) -> float | None:
    """Return how many more may be left; None for any number."""
    if name in GONE:
        return 0.0
    if name in ("actors", "threads", "files"):
        return {"actors": 0.0, "threads": float(LEFT_THREADS), "files": float(LEFT_FILES)}[name]
    return left_allowed(name) if name.startswith(("instances: ", "held: ")) else None


def of_log(records: Sequence[Mapping[str, Any]], *, stood_still: bool) -> list[str]:
    """Return the unexpected warnings and errors, each kind once with its count."""
    patterns = [re.compile(text) for text in (*EXPECTED, *((STOOD_STILL,) if stood_still else ()))]
    unexpected = Counter(
        re.sub(r"[0-9a-f]{6,}|\d+", "…", f"{record.get('level')}: {record.get('event')}")
        for record in records
        if not any(pattern.search(str(record.get("event"))) for pattern in patterns)
    )
    return [f"logged {count:,} times: {what}" for what, count in unexpected.most_common(FAULTS_SHOWN)]
