"""The files of a data directory: how they are made, whose they are, and how they outlast a loss of power."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from opscore.runtime.errors import StoreFull

DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
"""What LMDB's readers and writer share, across processes; it means nothing once they have ended."""
LOCK_BYTES: Final = 8_192
"""What LMDB makes it of at least."""
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, outlast a loss of power; to sync a file does not promise its name."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give(file: int | Path, owner: os.stat_result) -> None:
    """Give a file to whom another one belongs, where this process may.

    What root makes or replaces in somebody else's directory would lock them out.

    Args:
        file: its descriptor, or its path.
        owner: what is known of the other one.
    """
    with contextlib.suppress(OSError):
        os.chown(file, owner.st_uid, owner.st_gid)


def make_lock_file(directory: Path) -> None:
    """Give the file that LMDB's readers share its room on the disk; call it before LMDB opens the directory.

    LMDB sets its length alone, and writes to it as to memory: on a full disk that ends the process by SIGBUS. What else
    keeps it from being made is for LMDB to judge, which does without it where nothing can be written at all.

    Raises:
        StoreFull: there is no room for it.
    """
    path = directory / LOCK_FILE
    with contextlib.suppress(OSError):
        if path.stat().st_blocks:
            # Left alone where LMDB has made it: to close a file gives up the locks that this process has on it.
            return
    try:
        descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        try:
            give(descriptor, directory.stat())
            if hasattr(os, "posix_fallocate"):
                os.posix_fallocate(descriptor, 0, max(os.fstat(descriptor).st_size, LOCK_BYTES))
        finally:
            os.close(descriptor)
    except OSError as error:
        if error.errno in NO_ROOM:
            raise StoreFull(str(directory), f"there is no room for {LOCK_FILE}") from error
