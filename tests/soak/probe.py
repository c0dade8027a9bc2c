"""Counts what is in the memory of a node's process: its own figures, instances by type, and entries of collections."""

import gc
import sys
import time
from collections import Counter, OrderedDict, deque
from collections.abc import Iterable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any, Final

from opscore.runtime.node import Node
from opscore.runtime.timers import TimersActor

_SIZED: Final = (dict, list, set, deque, Counter, OrderedDict)
_OURS: Final = ("opscore.", "tests.soak.")
_COUNTED: Final = ("opscore.", "trio.", "asyncio", "uvicorn.", "httptools", "httpx", "httpcore", "starlette.", "lmdb")
"""Modules whose instances are counted by type; instances of others are only counted together."""
ALONE_S: Final = 60.0
"""How long no other thread requests the interpreter; a census takes a fraction of a second."""

Census = dict[str, Mapping[str, float]]


def census(*, whole: bool) -> Census:
    """Take a census, in any thread.

    Args:
        whole: collect garbage first, so that unreachable objects are not counted.

    Returns:
        `gauges`, figures of the process; `types`, the number of instances by type; `held`, the number of entries in
        the collections of each attribute of each type, and of each module.
    """
    if whole:
        gc.collect()
    with _alone():
        return _census()


@contextmanager
def _alone() -> Iterator[None]:
    """Let no other thread run, and no garbage be collected, while the probe refers to all objects.

    A tuple that another thread is building must not be referred to from elsewhere, or building it fails. A garbage
    collection would find everything reachable, and move it to an older generation.
    """
    interval_s, collects = sys.getswitchinterval(), gc.isenabled()
    gc.disable()
    sys.setswitchinterval(ALONE_S)
    # Threads that already wait for the interpreter use the old interval.
    time.sleep(4 * interval_s)
    try:
        yield
    finally:
        sys.setswitchinterval(interval_s)
        if collects:
            gc.enable()


def _census() -> Census:
    objects = gc.get_objects()
    types: Counter[str] = Counter()
    held: Counter[str] = Counter()
    gauges: Counter[str] = Counter({"objects": len(objects)})
    seen: set[int] = set()
    for each in objects:
        kind = type(each)
        module = str(kind.__module__)
        if module.startswith(_COUNTED):
            types[f"{module}.{kind.__qualname__}"] += 1
        if module.startswith(_OURS):
            for name, collection in _held_by(each):
                # Several attributes may hold the same collection.
                if id(collection) not in seen:
                    seen.add(id(collection))
                    held[f"{module}.{kind.__qualname__}.{name}"] += len(collection) + _within(collection)
        if isinstance(each, TimersActor):
            found = each.statistics()
            gauges["due times armed"] += found.armed
            gauges["due times queued"] += found.queued
    for name, imported in list(sys.modules.items()):
        if name.startswith(_OURS):
            for attribute, value in list(vars(imported).items()):
                if isinstance(value, _SIZED) and not attribute.startswith("__"):
                    held[f"{name}:{attribute}"] += len(value)
    return {part: dict(found) for part, found in (("gauges", gauges), ("types", types), ("held", +held))}


def figures(node: Node) -> dict[str, float]:
    """Return the node's own figures; to be called in its own thread."""
    statistics, system = node.statistics(), node._core.addresses.system  # noqa: SLF001 (nobody else has to see it)
    snapshot = system.snapshot()
    return {
        "actors": len(snapshot),
        "messages waiting": sum(each.depth + each.stashed for each in snapshot),
        "restarts of actors": sum(each.restarts for each in snapshot),
        "open runs": statistics.open_sessions,
        "deliveries": statistics.deliveries,
        "listeners": statistics.listeners,
        "commits in line": statistics.journal.in_line,
        "timers of actors": system.statistics().timers,
    }


def sweep(node: Node) -> None:
    """Sweep the deadlines that were met; to be called in the node's own thread.

    A bounded number of them stays in the heap for another half a minute, with their messages; this saves the wait.
    """
    node._core.addresses.system.environment.timers._sweep()  # noqa: SLF001 (as above)


def _held_by(owner: Any) -> Iterator[tuple[str, Any]]:
    """Yield the collections among an object's attributes."""
    for name in _attributes(owner):
        try:
            value = object.__getattribute__(owner, name)
        except AttributeError:
            continue
        if isinstance(value, _SIZED):
            yield name, value


def _attributes(owner: Any) -> Iterable[str]:
    yield from list(getattr(owner, "__dict__", ()))
    for kind in type(owner).__mro__:
        slots = kind.__dict__.get("__slots__", ())
        yield from (slots,) if isinstance(slots, str) else slots


def _within(collection: Any) -> int:
    """Return the number of entries in the collections within a collection."""
    inner = list(collection.values() if isinstance(collection, dict) else collection)
    return sum(len(each) for each in inner if isinstance(each, _SIZED))
