"""How much a process grew, by one of two measures.

`rss` is the resident set that the kernel counts: all memory that is used, including stacks and the allocator's slack.
`traced` is what tracemalloc counts: exactly the memory of Python's objects. Garbage is collected before each reading.
"""

import gc
import os
import tracemalloc
from pathlib import Path
from types import TracebackType
from typing import Self

import attrs


@attrs.frozen(kw_only=True)
class Growth:
    """Bytes that all actors of a run take together."""

    started_bytes: int
    """Once all had started and none had handled anything."""
    handled_bytes: int
    """Once each had handled one message and was idle again."""
    handled: int
    """Messages that the actors counted."""


class Footprint:
    """Measures the growth since `mark`."""

    def __init__(self, *, traced: bool) -> None:
        self._traced = traced
        self._marked = 0

    @property
    def traced(self) -> bool:
        return self._traced

    def __enter__(self) -> Self:
        if self._traced:
            tracemalloc.start()
        return self

    def __exit__(self, _: type[BaseException] | None, __: BaseException | None, ___: TracebackType | None) -> None:
        if self._traced:
            tracemalloc.stop()

    def mark(self) -> None:
        self._marked = self._now()

    def growth(self) -> int:
        return self._now() - self._marked

    def _now(self) -> int:
        gc.collect()
        if self._traced:
            return tracemalloc.get_traced_memory()[0]
        return int(Path("/proc/self/statm").read_text().split()[1]) * os.sysconf("SC_PAGE_SIZE")
