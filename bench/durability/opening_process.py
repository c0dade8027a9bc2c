"""Opens a node once: `python -m bench.durability.opening_process DIRECTORY UNFINISHED`.

Prints how long that took and what memory it holds, and ends without closing anything, as if it were killed: the next
opening finds the store as this one did.
"""

import gc
import json
import os
import sys
import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import trio

from opscore.runtime.node import open_node

Figures = dict[str, float]
KIB = 1024


def memory() -> Figures:
    """Return the resident bytes of this process: its own, and those of files, mostly of the store's map."""
    lines = Path("/proc/self/smaps_rollup").read_text().splitlines()[1:]
    sizes = {name: int(size.split()[0]) * KIB for name, size in (line.split(":") for line in lines)}
    return {"anonymous": sizes["Anonymous"], "file": sizes["Rss"] - sizes["Anonymous"]}


async def opened(path: Path, unfinished: int) -> Figures:
    """Open the node, read its memory once everything has been taken up, and close it."""
    async with _open(path, unfinished) as figures:
        return figures


@asynccontextmanager
async def _open(path: Path, unfinished: int) -> AsyncIterator[Figures]:
    began = time.perf_counter()
    async with open_node(path) as node:
        seconds = time.perf_counter() - began
        found = node.statistics().open_sessions
        if found != unfinished:
            raise RuntimeError(f"{found:,} unfinished sessions were taken up instead of {unfinished:,}")
        gc.collect()
        yield {"seconds": seconds, **memory()}


async def _opened_for_good(path: Path, unfinished: int) -> None:
    async with _open(path, unfinished) as figures:
        print(json.dumps(figures), flush=True)
        os._exit(0)


def main() -> None:
    directory, unfinished = sys.argv[1:]
    trio.run(_opened_for_good, Path(directory), int(unfinished))


if __name__ == "__main__":
    main()
