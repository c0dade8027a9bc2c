"""The files of a data directory: how they are made, whose they are, and how they outlast a loss of power."""

import contextlib
import errno
import os
import shutil
from pathlib import Path
from typing import Final

from opscore.runtime.errors import StoreFull

DATA_FILE: Final = "data.mdb"
LOCK_FILE: Final = "lock.mdb"
"""What LMDB's readers and writer share, across processes; it means nothing once they have ended."""
LOCK_BYTES: Final = 8_192
"""What LMDB makes it of at least."""
COMPACTED: Final = "compact.partial"
"""The directory that a compact copy is made in; one that is found by who has the lock was never finished."""
PRIVATE: Final = 0o700
"""The mode of a data directory that is made: what is in it, such as payloads, is its owner's alone."""
NO_ROOM: Final = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)


def sync(path: Path) -> None:
    """Make a file, or the names in a directory, outlast a loss of power; to sync a file does not promise its name."""
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
