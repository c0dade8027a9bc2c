"""Translates LMDB's errors into those of the store: a full disk, a damaged file, another format."""

import errno
import os
from pathlib import Path
from typing import Final

import lmdb

from opscore.runtime.errors import (
    SameNumber,
    StoreDamaged,
    StoreError,
    StoreFull,
    StoreIncompatible,
    StoreReadOnly,
)
from opscore.runtime.storage import room
from opscore.runtime.storage.files import NO_ROOM

_FREE_BYTES_MIN: Final = 1024**2
_NOT_PERMITTED: Final = (errno.EROFS, errno.EPERM, errno.EACCES)


def full(error: lmdb.Error | OSError, path: Path) -> StoreFull | None:
    """Return the error for a full disk or map, if that is the cause.

    LMDB reports a write that was cut short as an I/O error, so the free space is checked as well.
    """
    if isinstance(error, lmdb.MapFullError):
        return StoreFull(str(path), "the map is at its configured size")
    reason = next((text for text in map(os.strerror, NO_ROOM) if text in str(error)), None)
    if reason is None and room.growth(path) < _FREE_BYTES_MIN:
        reason = "no space left on the disk"
    return None if reason is None else StoreFull(str(path), reason)


def not_writable(error: lmdb.Error | OSError, path: Path) -> StoreReadOnly | None:
    """Return the error for a write that is not permitted, and so had no effect, if that is the cause."""
    reason = next((text for text in map(os.strerror, _NOT_PERMITTED) if text in str(error)), None)
    return None if reason is None else StoreReadOnly(str(path), reason)


def translated(error: lmdb.Error | OSError, path: Path) -> StoreError:
    """Return the store's error for one of LMDB or the operating system."""
    if isinstance(error, lmdb.InvalidError):
        return StoreIncompatible(str(path), "its file is not an LMDB environment")
    if isinstance(error, lmdb.VersionMismatchError):
        return StoreIncompatible(str(path), "another LMDB version wrote it")
    if isinstance(error, lmdb.CorruptedError | lmdb.PageNotFoundError):
        return StoreDamaged(str(path), str(error))
    if os.strerror(errno.EAGAIN) in str(error):
        # A reader locks the byte at the offset of its process id, in the lock file that all readers share.
        return SameNumber(str(path), os.getpid())
    if os.strerror(errno.ENOMEM) in str(error):
        return StoreError(
            f"{path} can't be mapped: {error}; lower map_bytes, or raise this process's limit (ulimit -v)"
        )
    return full(error, path) or StoreError(f"{path} can't be used: {error}")
