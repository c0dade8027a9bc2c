"""The file of API keys: read as a whole, and replaced as a whole, durably, by one writer at a time."""

import contextlib
import fcntl
import json
import os
import re
import secrets
import stat
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

from opscore.runtime.storage.files import give, make_directory

FILE_NAME = "keys.json"
FILE_VERSION = 1

_SHA256 = re.compile(r"[0-9a-f]{64}")


class KeysError(Exception):
    """The key file or the requested change is not usable; the text says what to do."""


@attrs.frozen(kw_only=True)
class Key:
    """One row of the key file. It does not contain the secret."""

    id: str
    name: str
    scope: str
    """As given: `admin`, `operator`, `agent`, `agent:<id>` or `viewer`."""

    sha256: str = attrs.field(repr=False)
    """The hash of the whole token, in hex."""

    created_at: str
    """ISO 8601, UTC."""


def load(file: Path) -> tuple[Key, ...]:
    """Read the keys, oldest first; none if there is no file.

    Raises:
        KeysError: The file cannot be read, is damaged, or may be written by others than its owner.
    """
    try:
        with file.open("rb") as stream:
            if os.fstat(stream.fileno()).st_mode & (stat.S_IWGRP | stat.S_IWOTH):
                raise KeysError(f"Others than its owner may write to {file}: `chmod 600 {file}` first.")
            document = json.loads(stream.read())
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise KeysError(f"The key file {file} cannot be read: {error.strerror}.") from error
    except RecursionError as error:
        raise KeysError(f"The key file {file} is damaged: restore it, or delete it to start over.") from error
    except ValueError as error:
        raise KeysError(f"The key file {file} is damaged ({error}): restore it, or delete it to start over.") from error
    if isinstance(document, dict) and document.get("version") not in (None, FILE_VERSION):
        raise KeysError(
            f"The key file {file} is of version {document['version']!r}; this opscore reads {FILE_VERSION}."
        )
    try:
        return tuple(_key(row) for row in document["keys"])
    except (KeyError, TypeError, ValueError) as error:
        raise KeysError(f"The key file {file} is damaged: restore it, or delete it to start over.") from error


def store(file: Path, keys: tuple[Key, ...]) -> None:
    """Replace the file, readable by its owner alone; a crash at any moment leaves the old or the new one.

    The owner stays the same; a new file gets the owner of the directory.

    Raises:
        KeysError: The file cannot be written.
    """
    document = {"version": FILE_VERSION, "keys": [attrs.asdict(key) for key in keys]}
    aside = file.with_name(f".{file.name}.{secrets.token_hex(4)}")
    try:
        descriptor = os.open(aside, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
        try:
            with os.fdopen(descriptor, "w", encoding="utf-8") as stream:
                give(descriptor, (file if file.exists() else file.parent).stat())
                json.dump(document, stream, indent=2)
                stream.write("\n")
                stream.flush()
                os.fsync(stream.fileno())
            aside.replace(file)
        finally:
            aside.unlink(missing_ok=True)
        _sync_directory(file.parent)
    except OSError as error:
        raise KeysError(f"The key file {file} cannot be written: {error.strerror}.") from error


@contextlib.contextmanager
def locked(file: Path) -> Iterator[None]:
    """Keep other processes from changing the file during the block; a missing directory is created.

    Raises:
        KeysError: The directory cannot be created or opened.
    """
    try:
        make_directory(file.parent)
        # The lock is on the directory, because every change replaces the file, and a lock on it would be lost.
        descriptor = os.open(file.parent, os.O_RDONLY | os.O_DIRECTORY)
    except OSError as error:
        raise KeysError(f"The directory {file.parent} cannot be used: {error.strerror}.") from error
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX)
        yield
    finally:
        os.close(descriptor)


def mark(file: Path) -> tuple[int, ...] | None:
    """A cheap mark that changes with the file; None if there is no file.

    Raises:
        KeysError: The directory cannot be searched.
    """
    try:
        status = file.stat()
    except FileNotFoundError:
        return None
    except OSError as error:
        raise KeysError(f"The key file {file} cannot be accessed: {error.strerror}.") from error
    # It includes what chmod changes, because the file's mode decides whether it may be used.
    return status.st_mtime_ns, status.st_ctime_ns, status.st_size, status.st_ino, status.st_mode


def _key(row: dict[str, Any]) -> Key:
    key = Key(**row)
    if not all(isinstance(value, str) for value in row.values()) or not _SHA256.fullmatch(key.sha256):
        raise ValueError(key.id)
    return key


def _sync_directory(directory: Path) -> None:
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
