"""One writer for a data directory: an advisory lock of our own, because LMDB itself admits a second process."""

import contextlib
import fcntl
import os
import platform
from pathlib import Path
from typing import Final, Self

from opscore.runtime.errors import StoreError, StoreLocked
from opscore.runtime.storage.files import give

LOCK_NAME: Final = "opscore.lock"


class DirectoryLock:
    """An exclusive lock on a directory that names its holder and dies with the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._process = os.getpid()

    @classmethod
    def acquire(cls, directory: Path) -> Self:
        """Take the lock and write down host and process.

        Raises:
            StoreLocked: someone else holds it; the error names the host and process.
            StoreError: the lock file can't be written, or the file system knows no locks.
        """
        path = directory / LOCK_NAME
        try:
            descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
        except OSError as error:
            raise StoreError(f"{path} can't be opened for writing: {error.strerror or error}") from error
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            owner = os.pread(descriptor, 512, 0).decode(errors="replace").strip()
            os.close(descriptor)
            raise StoreLocked(str(directory), owner or "another process") from error
        except OSError as error:
            os.close(descriptor)
            raise StoreError(f"{path} can't be locked: {error.strerror or error}") from error
        if not os.fstat(descriptor).st_size:
            give(descriptor, directory.stat())
        with contextlib.suppress(OSError):
            # A full disk must not keep a store from being opened to make room in it.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on host {platform.node()}\n".encode(), 0)
        return cls(path, descriptor)

    def release(self) -> None:
        """Give the directory free; the file stays, because removing it would race with the next holder."""
        if self._descriptor >= 0:
            if os.getpid() == self._process:
                # A process that was forked off meanwhile has the descriptor as well, and would go on to hold the lock.
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1
