"""How much room a store has, and whether only its reserve is left.

A store may grow to the size of its map, as far as the file system and this process's file size limit allow. Only pages
in use count as used: free pages are reused before the file grows. The last 5 %, and at least 512 KiB, are reserved for
finishing accepted work, for retention and for recovery.
"""

import math
import os
import resource
from pathlib import Path
from typing import Final

from opscore.runtime.storage.files import DATA_FILE

RESERVE: Final = 0.05
"""Share of a store that new work may not use."""
RESERVE_BYTES_MIN: Final = 512 * 1024
"""Minimum reserve, for small stores: a commit copies some dozen pages before it frees any, and a large row needs
adjacent pages."""
HELD_COMMITS_MAX: Final = 64
"""How many commits old a snapshot, such as that of a backup, may be before the pages that it holds count as used."""


def growth(path: Path) -> float:
    """Return the bytes by which the file system and this process's file size limit let the data file grow."""
    limit, _ = resource.getrlimit(resource.RLIMIT_FSIZE)
    try:
        state = os.statvfs(path)
        allowed = math.inf if limit == resource.RLIM_INFINITY else limit - (path / DATA_FILE).stat().st_size
    except OSError:
        return math.inf
    return min(state.f_bavail * state.f_frsize, allowed)


def capacity(path: Path, *, map_bytes: int, file_bytes: int) -> float:
    """Return the bytes that a store can hold.

    Args:
        path: the data directory.
        map_bytes: size of the map.
        file_bytes: bytes up to the last page that was ever used, free pages included.
    """
    return min(map_bytes, file_bytes + growth(path))


def only_reserve_left(capacity_bytes: float, used_bytes: int) -> bool:
    """Return whether new work has to be refused, because only the reserve is left."""
    return capacity_bytes - used_bytes < max(RESERVE * capacity_bytes, RESERVE_BYTES_MIN)
