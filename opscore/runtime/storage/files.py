"""The files of a data directory, and how they are made to outlast a loss of power."""

import os
from pathlib import Path
from typing import Final

DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
"""What LMDB's readers and writer share, across processes; it means nothing once they have ended."""


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, outlast a loss of power; to sync a file does not promise its name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
