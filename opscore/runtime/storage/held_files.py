"""Notices files that were removed from their directory, or replaced, while a process has them open."""

import os
from collections.abc import Iterable
from pathlib import Path


class HeldFiles:
    """Remembers which files a directory has, so that a file that is removed or replaced later is noticed.

    A process can go on writing to a removed file, and nobody ever finds what it wrote. The directory is held by its
    descriptor, so a directory that is moved as a whole keeps its files.

    Args:
        directory: is kept open until `close`.
        names: the files, which must exist.

    Raises:
        OSError: the directory or a file can't be examined.
    """

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._found = {name: os.stat(name, dir_fd=self._directory) for name in names}
        except BaseException:
            self.close()
            raise

    def displaced(self) -> str | None:
        """Return the name of a file that was removed or replaced; None if there is none."""
        for name, found in self._found.items():
            try:
                if not os.path.samestat(os.stat(name, dir_fd=self._directory), found):
                    return name
            except FileNotFoundError:
                return name
            except OSError:
                # A file that can't be examined need not be gone.
                continue
        return None

    def close(self) -> None:
        """Close the directory; closing twice is fine."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
