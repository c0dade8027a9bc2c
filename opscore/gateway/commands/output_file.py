"""Where a command writes its output: standard output, or a file that appears once it is complete."""

import contextlib
import fcntl
import os
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import BinaryIO

from opscore.gateway.commands.failures import Failed


@contextlib.contextmanager
def written(file: Path, *, anew: bool = False) -> Iterator[BinaryIO]:
    """Open standard output for `-`, or a file that replaces any earlier one once it is complete.

    Something that is no regular file, such as a FIFO or a device, is written to directly. A file has a hidden name
    until it is complete; hidden files that were left by killed processes are removed first.

    Args:
        file: its name.
        anew: refuse a file that exists.

    Raises:
        Failed: it is a directory, or exists already, or can't be written.
        OSError: the output can't be written.
    """
    if str(file) == "-":
        yield sys.stdout.buffer
        sys.stdout.buffer.flush()
        return
    if file.is_dir():
        raise Failed(f"{file} is a directory; name a file, or - for standard output")
    if anew and file.is_file():
        raise Failed(f"{file} exists; name a file that does not exist, or - for standard output")
    if file.exists() and not file.is_file():
        with file.open("wb") as out:
            yield out
        return
    # If a link leads to a file, that file is replaced and not the link, which may be /dev/stdout.
    file = file.resolve()
    if not file.parent.is_dir():
        raise Failed(f"{file.parent} is not a directory; create it first")
    prefix = f".{file.name}.partial-"
    _clear_leftovers(file.parent, prefix)
    partial = file.with_name(f"{prefix}{os.getpid()}")
    try:
        with partial.open("wb") as out:
            _claim(out)
            yield out
            out.flush()
            os.fsync(out.fileno())
        partial.rename(file)
    except OSError as error:
        # The error of a full disk, for example, names no file; and the user did not name the hidden one.
        if error.filename in (None, str(partial)):
            raise Failed(f"{file} can't be written: {error.strerror}") from error
        raise
    finally:
        partial.unlink(missing_ok=True)


def _claim(file: BinaryIO) -> bool:
    """Lock a file until it is closed or its process ends; `False` if another process holds the lock."""
    try:
        fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        return False
    return True


def _clear_leftovers(directory: Path, prefix: str) -> None:
    """Remove hidden files that killed processes left; a process that still writes holds a lock on its file."""
    with contextlib.suppress(OSError):
        for each in list(directory.iterdir()):
            if each.name.startswith(prefix) and each.is_file() and not each.is_symlink():
                with each.open("rb") as leftover:
                    if _claim(leftover):
                        each.unlink()
