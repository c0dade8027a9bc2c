"""What is wrong with what a soak has seen: what grew, what was left, and what the log should not have."""

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
"""Of these nothing is left when all is over."""
EXPECTED: Final = (
    r"schedule .*: (its due time starts no run|its run waits): ",
    r"\d+ of the agents could not be taken over",
)
"""Warnings that the load is there to cause."""
STOOD_STILL: Final = r"stood still"
"""What a server says that was killed, or that others kept from the processor."""
TIMES: Final = (" p50", " p99")
FAULTS_SHOWN: Final = 20


def of_samples(samples: Sequence[Sample], *, timed: bool) -> list[str]:
    """What grew, or got worse, by more than its bound; times only where they count."""
    found = [trend for trend in trends(samples, bound_of) if trend.is_too_much]
    return [f"grows: {trend}" for trend in found if timed or not trend.name.endswith(TIMES)]


def left(before: Mapping[str, float], after: Mapping[str, float]) -> dict[str, str]:
    """What is left, now that everything has ended, that was not there before it began."""
    found = {}
    for name in sorted(after):
        more = after[name] - before.get(name, 0.0)
        allowed = _allowed(name)
        if allowed is not None and more > allowed:
            found[name] = f"left over: {name}: {before.get(name, 0.0):,.0f} before, {after[name]:,.0f} after"
    return found


def _allowed(name: str) -> float | None:
    """How many more may be left; nothing where that is no matter."""
    if name in GONE:
        return 0.0
    if name in ("actors", "threads", "files"):
        return {"actors": 0.0, "threads": float(LEFT_THREADS), "files": float(LEFT_FILES)}[name]
    return left_allowed(name) if name.startswith(("instances: ", "held: ")) else None


def of_log(records: Sequence[Mapping[str, Any]], *, stood_still: bool) -> list[str]:
    """The warnings and errors that nobody expects, each kind once with how often it came."""
    patterns = [re.compile(text) for text in (*EXPECTED, *((STOOD_STILL,) if stood_still else ()))]
    unexpected = Counter(
        re.sub(r"[0-9a-f]{6,}|\d+", "…", f"{record.get('level')}: {record.get('event')}")
        for record in records
        if not any(pattern.search(str(record.get("event"))) for pattern in patterns)
    )
    return [f"logged {count:,} times: {what}" for what, count in unexpected.most_common(FAULTS_SHOWN)]
