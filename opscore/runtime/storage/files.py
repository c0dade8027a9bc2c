"""The files of a data directory: their names, how they are created and synced, and who owns them."""

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from opscore.runtime.errors import StoreFull

DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
"""The file that LMDB's readers and writer share, across processes; it means nothing once they have ended."""
LOCK_BYTES: Final = 8_192
"""Minimum size that LMDB gives it."""
COMPACTED: Final = "compact.partial"
"""The directory in which a compact copy is made. One that is found by the owner of the lock was never finished."""
PRIVATE: Final = 0o700
"""The mode of a data directory that is created: only its owner may see what is in it, such as payloads."""
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync(path: Path) -> None:
    """Sync a file, or the names in a directory. Syncing a file does not sync its name: sync its directory for that."""
    descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def make_directory(path: Path) -> None:
    """Make a data directory and those above it, in a way that outlasts a loss of power; one that is there stays.

    Raises:
        OSError: it can't be made.
    """
    missing = [each for each in (path, *path.parents) if not each.exists()]
    path.mkdir(mode=PRIVATE, parents=True, exist_ok=True)
    for each in missing:
        sync(each.resolve().parent)


def clear_compacted(directory: Path) -> None:
    """Remove the copy that a process left which was killed; call it with the directory locked."""
    if (directory / COMPACTED).exists():
        shutil.rmtree(directory / COMPACTED, ignore_errors=True)


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
