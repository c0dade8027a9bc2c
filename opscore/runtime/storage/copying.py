"""Directories that appear whole or not at all, and compact copies of a store made in them."""

import contextlib
import fcntl
import os
import shutil
import threading
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Final

from opscore.runtime.errors import StoreError, StoreLocked
from opscore.runtime.storage.directory_lock import DirectoryLock
from opscore.runtime.storage.files import DATA_FILE, LOCK_FILE, sync
from opscore.runtime.storage.lmdb_reader import LmdbReader

BLOCK_BYTES: Final = 2**20


@contextlib.contextmanager
def appearing(destination: Path) -> Iterator[Path]:
    """A directory to fill, which gets its name once the block has ended and everything in it is safe.

    Args:
        destination: its name; nothing may be there, or an empty directory.

    Raises:
        StoreError: something is there, or it can't be written. Nothing is left behind then.
    """
    destination = destination.resolve()
    try:
        if destination.exists() and (not destination.is_dir() or any(destination.iterdir())):
            raise StoreError(f"{destination} exists and is not empty; name a directory that is not there")
        partial = destination.with_name(f".{destination.name}.partial-{os.getpid()}")
        partial.mkdir(parents=True)
    except OSError as error:
        raise StoreError(f"{destination} can't be made: {error.strerror or error}") from error
    try:
        yield partial
        for file in partial.iterdir():
            sync(file)
        sync(partial)
        partial.rename(destination)
        sync(destination.parent)
    except OSError as error:
        raise StoreError(f"{destination} can't be written: {error.strerror or error}") from error
    finally:
        shutil.rmtree(partial, ignore_errors=True)


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

    Args:
        path: the data directory.
        on_progress: as `copy_compact` tells it.

    Returns:
        the bytes of the file before, and now.

    Raises:
        StoreLocked: another process has it open.
        StoreError: there is none, or no room for the copy, or it can't be written; the file is as it was.
    """
    lock = DirectoryLock.acquire(path)
    partial = path / "compact.partial"
    try:
        shutil.rmtree(partial, ignore_errors=True)
        partial.mkdir()
        before = (path / DATA_FILE).stat().st_blocks * 512
        with LmdbReader(path, tables=(), map_bytes=0) as reader:
            copy_compact(reader, partial, on_progress)
        sync(partial / DATA_FILE)
        with _nobody_reading(path):
            (partial / DATA_FILE).rename(path / DATA_FILE)
            sync(path)
            # What readers and the writer share is in another file, which has to learn of the new one before they look.
            LmdbReader(path, tables=(), map_bytes=0).close()
        return before, (path / DATA_FILE).stat().st_blocks * 512
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
