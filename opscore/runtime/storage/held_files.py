"""Whether the files that a process has open are still those of their directory."""

import os
from collections.abc import Iterable
from pathlib import Path


class HeldFiles:
    """Files of a directory, as they were when this was made.

    A process goes on to write to a file that was removed, and nobody ever finds what it wrote. The directory is known
    by its descriptor: where it is moved as a whole, its files go with it and are still its own.

    Args:
        directory: it stays open until `close`.
        names: of the files; they are there.

    Raises:
        OSError: they can't be looked at.
    """

    def __init__(self, directory: Path, names: Iterable[str]) -> None:
        self._directory = os.open(directory, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
        try:
            self._found = {name: os.stat(name, dir_fd=self._directory) for name in names}
        except BaseException:
            self.close()
            raise

    def displaced(self) -> str | None:
        """The name of a file that is gone, or in whose place there is another one; nothing, where none is."""
        for name, found in self._found.items():
            try:
                if not os.path.samestat(os.stat(name, dir_fd=self._directory), found):
                    return name
            except FileNotFoundError:
                return name
            except OSError:
                # Not to be looked at is not to be gone.
                continue
        return None

    def close(self) -> None:
        """Close the directory; closing twice is fine."""
        if self._directory >= 0:
            os.close(self._directory)
            self._directory = -1
