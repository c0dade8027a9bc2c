"""The lock that admits one writer to a data directory: an advisory lock, because LMDB admits a second process."""

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
    """An exclusive lock on a directory; it names its holder and ends with the process."""

    def __init__(self, path: Path, descriptor: int) -> None:
        self.path = path
        self._descriptor = descriptor
        self._process = os.getpid()

    @classmethod
    def acquire(cls, directory: Path) -> Self:
        """Take the lock, and write host and process into its file.

        Raises:
            StoreLocked: another process holds it; the error names host and process.
            StoreError: the lock file can't be opened for writing, or the file system has no locks.
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
            # It must be possible to open a store on a full disk, to make room in it.
            os.ftruncate(descriptor, 0)
            os.pwrite(descriptor, f"process {os.getpid()} on host {platform.node()}\n".encode(), 0)
        return cls(path, descriptor)

    def release(self) -> None:
        """Release the lock. The file stays, because removing it would race with the next holder."""
        if self._descriptor >= 0:
            if os.getpid() == self._process:
                # A process forked in the meantime has a copy of the descriptor, which keeps the lock if we only close.
                fcntl.flock(self._descriptor, fcntl.LOCK_UN)
            os.close(self._descriptor)
            self._descriptor = -1
