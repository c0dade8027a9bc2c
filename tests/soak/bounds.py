"""Bounds on how much each figure may grow under a steady load, and on what may be left after it."""

from typing import Final

from tests.soak.trend import Bound

MEBIBYTE: Final = 2.0**20
IGNORED: Final = frozenset({"cpu seconds", "rows: sequence", "dead letters"})
"""Figures that count completed work."""

_BOUNDS: Final[dict[str, Bound]] = {
    # Each run leaves at most a hundred bytes. The floor and the share allow for what the allocator keeps.
    "anonymous memory": Bound(floor=12 * MEBIBYTE, share=0.05, per_run=100.0),
    "resident": Bound(floor=24 * MEBIBYTE, share=0.10, per_run=100.0),
    "store used": Bound(floor=4 * MEBIBYTE, share=0.15),
    "threads": Bound(floor=4.0),
    "files": Bound(floor=12.0, share=0.25),
    "actors": Bound(floor=25.0, share=0.5),
    "objects": Bound(floor=20_000.0, share=0.08, per_run=1.0),
    "a trigger p50": Bound(floor=0.010, share=0.5),
    "a trigger p99": Bound(floor=0.150, share=1.0),
    "a run p50": Bound(floor=0.030, share=0.5),
    "a run p99": Bound(floor=0.400, share=1.0),
    "unfinished runs": Bound(floor=60.0, share=0.5),
}
_COUNTED: Final = Bound(floor=60.0, share=0.5, per_run=0.05)
"""For instances and entries of collections: one for every twentieth run is a leak."""
_ROWS: Final = Bound(floor=800.0, share=0.35)
LEFT_FILES: Final = 8
LEFT_THREADS: Final = 3
LEFT_COUNTED: Final = 40
"""How many more instances and entries of a type than before the load may be left, mostly by caches."""
LEFT_IN_CACHES: Final = {
    # The cache of parsed definitions keeps 256, with all their parts.
    "opscore.runtime.definitions": 20_000,
    "opscore.runtime.expression": 20_000,
    "opscore.runtime.library": 300,
    # The newest durations of commits, and the newest messages that nobody handled, with their contents.
    "opscore.runtime.journal.journal.JournalMeter._latencies_s": 1_024,
    "opscore.actors.dead_letters": 300,
    # Obsolete entries of heaps, until they are swept.
    "opscore.runtime.timers.TimersActor._heap": 128,
    "opscore.runtime.timers.TimersActor._queued": 128,
    "opscore.runtime.dispatch.lines._Line.entries": 128,
}
"""How much bounded caches keep, by a prefix of the name."""


def bound_of(name: str) -> Bound:
    """Return how much a figure may grow."""
    if name in _BOUNDS:
        return _BOUNDS[name]
    if name.startswith("rows: "):
        return _ROWS
    kept = in_caches(name)
    return Bound(floor=kept, share=0.5) if kept else _COUNTED


def in_caches(name: str) -> float:
    """Return how many of these instances or entries caches may keep."""
    _, _, counted = name.rpartition(": ")
    return float(next((kept for start, kept in LEFT_IN_CACHES.items() if counted.startswith(start)), 0))


def left_allowed(name: str) -> float:
    """Return how many more of these may be left at the end than there were at the beginning."""
    return LEFT_COUNTED + in_caches(name)
