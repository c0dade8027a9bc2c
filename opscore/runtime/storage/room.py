"""How much room a store has, and whether only its reserve is left.

A store may grow to its map, and to what the file system (or this process's limit on the size of a file) leaves it.
What counts as used are the pages that hold something: those that were given back are used again before the file
grows. The last 5 %, 512 KiB at least, are kept for finishing what was accepted, for retention and for recovery.
"""

import math
import os
import resource
from pathlib import Path
from typing import Final

from opscore.runtime.storage.files import DATA_FILE

RESERVE: Final = 0.05
"""The share of a store that new work may not use."""
RESERVE_BYTES_MIN: Final = 512 * 1024
"""What it may not use of a small one: a commit copies some dozen pages before it gives any back, and a large row needs
pages that lie side by side."""
HELD_COMMITS_MAX: Final = 64
"""How far behind a snapshot may be before the pages that it holds count as used, a backup's for example."""


def growth(path: Path) -> float:
    """How many bytes the file system, and this process's limit on the size of a file, leave to the data file."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        state = os.statvfs(path)
        allowed = math.inf if limit == resource.RLIM_INFINITY else limit - (path / DATA_FILE).stat().st_size
    except OSError:
        return math.inf
    return min(state.f_bavail * state.f_frsize, allowed)


def capacity(path: Path, *, map_bytes: int, file_bytes: int) -> float:
    """How many bytes a store may come to hold.

    Args:
        path: the data directory.
        map_bytes: what the map reserves.
        file_bytes: up to where the file is used, holes included.
    """
    return min(map_bytes, file_bytes + growth(path))


def only_reserve_left(capacity_bytes: float, used_bytes: int) -> bool:
    """Whether new work has to be refused."""
    return capacity_bytes - used_bytes < max(RESERVE * capacity_bytes, RESERVE_BYTES_MIN)
