"""What is in the memory of a node's process: its own figures, instances by their types, and what collections hold."""

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
"""Modules whose instances are counted one type at a time; of others the whole alone is."""
ALONE_S: Final = 60.0
"""For how long no other thread asks for the interpreter; a look takes a fraction of a second."""

Census = dict[str, Mapping[str, float]]


def census(*, whole: bool) -> Census:
    """Count, in any thread.

    Args:
        whole: collect garbage first, so that nothing counts that nobody refers to.

    Returns:
        `gauges`, figures of the whole; `types`, instances by type; `held`, how much stands in the collections of each
        attribute of each type, those of modules among them.
    """
    if whole:
        gc.collect()
    with _alone():
        return _census()


@contextmanager
def _alone() -> Iterator[None]:
    """Have no other thread run, and no garbage collected, while the probe refers to everything there is.

    A tuple that another thread is just making must be nobody else's, or making it fails; and a collection would find
    that everything is referred to, and leave it for much later.
    """
    interval_s, collects = sys.getswitchinterval(), gc.isenabled()
    gc.disable()
    sys.setswitchinterval(ALONE_S)
    # Whoever waits for the interpreter already does so by the interval that was.
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
                # Several may hold one and the same.
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
    """The figures that a node knows of itself; to be asked in its own thread."""
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
    """Forget the deadlines that were met; to be called in the node's own thread.

    A bounded number of them stands in the heap for half a minute yet, with what was asked: nobody has to wait so long.
    """
    node._core.addresses.system.environment.timers._sweep()  # noqa: SLF001 (as above)


def _held_by(owner: Any) -> Iterator[tuple[str, Any]]:
    """The collections among an object's attributes."""
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
    """How much is in the collections that are in one."""
    inner = list(collection.values() if isinstance(collection, dict) else collection)
    return sum(len(each) for each in inner if isinstance(each, _SIZED))
