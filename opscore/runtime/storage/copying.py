"""Directories that appear whole or not at all, and compact copies of a store made in them."""

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
    """A directory to fill, which gets its name once the block has ended and everything in it is safe.

    An empty directory that is there stays, because it may be a mount point, or be made for one user: what is filled is
    a hidden directory within, and the files are moved up then, as its owner's, that of the data last. What an earlier
    process left that was killed is cleared first.

    Args:
        destination: its name; nothing may be there, or an empty directory.
        mode: of one that is made, less the process's umask.

    Raises:
        StoreError: something is there, or it can't be written. Nothing is left behind then.
    """
    destination = destination.resolve()
    is_there = destination.is_dir()
    home = destination if is_there else destination.parent
    prefix = f".{destination.name}.partial-"
    try:
        home.mkdir(parents=True, exist_ok=True)
        _clear_leftovers(home, prefix)
        if destination.exists() and not (is_there and _is_empty(destination)):
            raise StoreError(f"{destination} exists and is not empty; name a directory that is not there")
        partial = Path(tempfile.mkdtemp(prefix=prefix, dir=home))
    except OSError as error:
        raise StoreError(f"{destination} can't be made: {error.strerror or error}") from error
    claim = _claimed(partial)
    try:
        # The outer one is for its maker's eyes only.
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
    """Return whether a directory holds nothing but what every new file system does."""
    return all(each.name in (besides, "lost+found") for each in directory.iterdir())


def _move_up(filled: Path, destination: Path, besides: str) -> None:
    """Move files into a directory, that of the data last: before it is there, nothing is taken for a store."""
    if not _is_empty(destination, besides):
        raise StoreError(f"{destination} is not empty any more; name a directory that nobody else uses")
    for file in sorted(filled.iterdir(), key=lambda file: file.name == DATA_FILE):
        if file.name == DATA_FILE:
            sync(destination)
        give(file, destination.stat())
        file.rename(destination / file.name)
    sync(destination)


def _clear_leftovers(home: Path, prefix: str) -> None:
    """Remove what processes left that were killed; who still fills theirs has a lock on it."""
    with contextlib.suppress(PermissionError):
        for each in list(home.iterdir()):
            if each.name.startswith(prefix) and each.is_dir() and not each.is_symlink():
                claim = _claimed(each)
                if claim is not None:
                    shutil.rmtree(each, ignore_errors=True)
                    os.close(claim)


def _claimed(directory: Path) -> int | None:
    """Lock a directory until its process ends or closes what this returns; None where it can't be had."""
    try:
        descriptor = os.open(directory, os.O_RDONLY | os.O_CLOEXEC)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        # Another process has it, or the file system knows no such locks: then nobody takes it for a leftover.
        os.close(descriptor)
        return None
    return descriptor


def copy_compact(reader: LmdbReader, directory: Path, on_progress: Callable[[int, int], None]) -> None:
    """Copy one commit of a store into a directory, compact, while others may write to it.

    Args:
        reader: the store.
        directory: where the copy's file is made.
        on_progress: told again and again how many bytes have been written, of about how many.

    Raises:
        StoreError: it can't be read.
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
            # Where this is left early, such as by Ctrl-C, LMDB finds that nobody reads any more, and gives up.
            os.close(outlet)
            thread.join()
    if failed:
        raise failed[0]


def compact(path: Path, on_progress: Callable[[int, int], None]) -> tuple[int, int]:
    """Put a compact copy in place of a store's file, while nobody else has it open, to read it or to write.

    Owner and mode stay as they were.

    Args:
        path: the data directory.
        on_progress: as `copy_compact` tells it.

    Returns:
        the bytes of the file before, and now.

    Raises:
        StoreLocked: another process has it open.
        StoreError: there is none, or no room for the copy, or it can't be written; the file is as it was.
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
            # What readers and the writer share is in another file, which has to learn of the new one before they look.
            LmdbReader(path, tables=(), map_bytes=0).close()
        return found.st_blocks * 512, (path / DATA_FILE).stat().st_blocks * 512
    except OSError as error:
        raise StoreError(f"{path} can't be compacted: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)
        lock.release()


@contextlib.contextmanager
def _nobody_reading(path: Path) -> Iterator[None]:
    """Keep every other process from opening the store, to read it as well.

    LMDB itself takes this lock: shared while a store is open, exclusively by who opens it first.
    """
    with (path / LOCK_FILE).open("rb+") as file:
        try:
            fcntl.lockf(file, fcntl.LOCK_EX | fcntl.LOCK_NB, 1, 0)
        except OSError as error:
            raise StoreLocked(str(path), "a process that reads it, such as a backup") from error
        yield
