"""The files of a data directory: their names, how they are created and synced, and who owns them."""

import contextlib
import errno
import os
from pathlib import Path
from typing import Final

from opscore.runtime.errors import StoreFull

DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
"""The file that LMDB's readers and writer share, across processes; it means nothing once they have ended."""
LOCK_BYTES: Final = 8_192
"""Minimum size that LMDB gives it."""
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync(path: Path) -> None:
    """Sync a file, or the names in a directory. Syncing a file does not sync its name: sync its directory for that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def give(file: int | Path, owner: os.stat_result) -> None:
    """Give a file the owner and group of another one, if this process may.

    Without this, files that root makes or replaces in the directory of another user would lock that user out.

    Args:
        file: its descriptor or path.
        owner: status of the file whose owner and group it gets.
    """
    with contextlib.suppress(OSError):
        os.chown(file, owner.st_uid, owner.st_gid)


def make_lock_file(directory: Path) -> None:
    """Create LMDB's lock file and allocate its space on the disk; call this before LMDB opens the directory.

    LMDB only sets the file's length and writes to it through a memory map, so a full disk would end the process by
    SIGBUS. Other errors are left for LMDB, which does without the file on a read-only file system.

    Raises:
        StoreFull: there is no room for it.
    """
    path = directory / LOCK_FILE
    with contextlib.suppress(OSError):
        if path.stat().st_blocks:
            # LMDB may have it open in this process, and closing a file releases the process's locks on it.
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
