"""Directories that appear whole or not at all, and compact copies of a store."""

import contextlib
import fcntl
import os
import shutil
import stat
import tempfile
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from opscore.runtime.errors import StoreError, StoreLocked
from opscore.runtime.storage.directory_lock import DirectoryLock
from opscore.runtime.storage.files import COMPACTED, DATA_FILE, LOCK_FILE, PRIVATE, clear_compacted, give, sync
from opscore.runtime.storage.lmdb_reader import LmdbReader

BLOCK_BYTES: Final = 2**20


@contextlib.contextmanager
def appearing(destination: Path, *, mode: int = 0o777) -> Iterator[Path]:
    """Yield a directory to fill, which is moved to `destination` once the block has ended and its files are synced.

    An existing empty directory is kept, because it may be a mount point or have been made for one user. A hidden
    directory within it is then filled, and its files are moved up and given to the owner, the data file last. What a
    process that was killed has left behind is removed first.

    Args:
        destination: must not exist, or be an empty directory.
        mode: of a directory that is created, less the umask of the process.

    Raises:
        StoreError: `destination` exists and is not empty, or it can't be written. Nothing is left behind.
    """
    destination = destination.resolve()
    is_there = destination.is_dir()
    home = destination if is_there else destination.parent
    prefix = f".{destination.name}.partial-"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(home, prefix)
        if destination.exists() and not (is_there and _is_empty(destination)):
            raise StoreError(f"{destination} exists and is not empty; name a directory that does not exist")
        partial = Path(tempfile.mkdtemp(prefix=prefix, dir=home))
    except OSError as error:
        raise StoreError(f"{destination} can't be made: {error.strerror or error}") from error
    claim = _claimed(partial)
    try:
        # `mkdtemp` makes a directory that only its owner can read; this one gets the mode that was asked for.
        filled = partial / "filled"
        filled.mkdir(mode)
        yield filled
        for file in filled.iterdir():
            sync(file)
        sync(filled)
        if is_there:
            _move_up(filled, destination, besides=partial.name)
        else:
            filled.rename(destination)
            sync(destination.parent)
    except OSError as error:
        raise StoreError(f"{destination} can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        if claim is not None:
            os.close(claim)


def _is_empty(directory: Path, besides: str = "") -> bool:
    """Return whether a directory is empty, apart from `besides` and the `lost+found` of a new file system."""
    return all(each.name in (besides, "lost+found") for each in directory.iterdir())


def _move_up(filled: Path, destination: Path, besides: str) -> None:
    """Move files into a directory, the data file last: without it, a directory is not taken for a store."""
    if not _is_empty(destination, besides):
        raise StoreError(f"{destination} is not empty any more; name a directory that nothing else writes to")
    for file in sorted(filled.iterdir(), key=lambda file: file.name == DATA_FILE):
        if file.name == DATA_FILE:
            sync(destination)
        give(file, destination.stat())
        file.rename(destination / file.name)
    sync(destination)


def _clear_leftovers(home: Path, prefix: str) -> None:
    """Remove what processes that were killed have left behind; a process that still runs holds a lock on its own."""
    with contextlib.suppress(PermissionError):
        for each in list(home.iterdir()):
            if each.name.startswith(prefix) and each.is_dir() and not each.is_symlink():
                claim = _claimed(each)
                if claim is not None:
                    shutil.rmtree(each, ignore_errors=True)
                    os.close(claim)


def _claimed(directory: Path) -> int | None:
    """Lock a directory until the process ends or closes the returned descriptor; None if it can't be locked."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Another process has the lock, or the file system has no locks: then no process takes it for a leftover.
        os.close(descriptor)
        return None
    return descriptor


def copy_compact(reader: LmdbReader, directory: Path, on_progress: Callable[[int, int], None]) -> None:
    """Make a compact copy of one commit of a store, which may be written to in the meantime.

    Args:
        reader: the store.
        directory: where the data file of the copy is made.
        on_progress: called repeatedly with the bytes written and the approximate total.

    Raises:
        StoreError: the store can't be read.
        OSError: the copy can't be written.
    """
    expected = reader.measure().used_bytes
    failed: list[StoreError] = []
    outlet, inlet = os.pipe()

    def copy() -> None:
        try:
            reader.copy_to(inlet)
        except StoreError as error:
            failed.append(error)
        finally:
            os.close(inlet)

    thread = threading.Thread(target=copy, name="opscore-copy")
    done = 0
    with (directory / DATA_FILE).open("xb") as file:
        thread.start()
        try:
            while block := os.read(outlet, BLOCK_BYTES):
                file.write(block)
                done += len(block)
                on_progress(done, expected)
        finally:
            # If the loop ends early, by Ctrl-C for example, LMDB's next write to the pipe fails and it gives up.
            os.close(outlet)
            thread.join()
    if failed:
        raise failed[0]


def compact(path: Path, on_progress: Callable[[int, int], None]) -> tuple[int, int]:
    """Replace a store's data file with a compact copy, while no other process has the store open.

    The file keeps its owner and mode.

    Args:
        path: the data directory.
        on_progress: as for `copy_compact`.

    Returns:
        the bytes that the file takes on the disk, before and after.

    Raises:
        StoreLocked: another process has the store open, for writing or for reading.
        StoreError: there is no store, no room for the copy, or it can't be written; the file is unchanged.
    """
    if not (path / DATA_FILE).exists():
        raise StoreError(f"{path} holds no store: there is no {DATA_FILE}")
    lock = DirectoryLock.acquire(path)
    partial = path / COMPACTED
    try:
        clear_compacted(path)
        partial.mkdir(PRIVATE)
        found = (path / DATA_FILE).stat()
        with LmdbReader(path, tables=(), map_bytes=0) as reader:
            copy_compact(reader, partial, on_progress)
        (partial / DATA_FILE).chmod(stat.S_IMODE(found.st_mode))
        give(partial / DATA_FILE, found)
        sync(partial / DATA_FILE)
        with _nobody_reading(path):
            (partial / DATA_FILE).rename(path / DATA_FILE)
            sync(path)
            # The lock file, which readers and the writer share, still describes the old file. Opening the store once
            # updates it before another process can look.
            LmdbReader(path, tables=(), map_bytes=0).close()
        return found.st_blocks * 512, (path / DATA_FILE).stat().st_blocks * 512
    except OSError as error:
        raise StoreError(f"{path} can't be compacted: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        lock.release()


@contextlib.contextmanager
def _nobody_reading(path: Path) -> Iterator[None]:
    """Keep all other processes from opening the store, even for reading.

    This is LMDB's own lock: it holds it shared while a store is open, and exclusively when it is the first to open it.
    """
    with (path / LOCK_FILE).open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        except OSError as error:
            raise StoreLocked(str(path), "a process that reads it, such as a backup") from error
        yield
