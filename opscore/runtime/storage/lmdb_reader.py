"""Reading a data directory that may be in use: by another process, or by nobody. It never writes."""

import os
import time
from collections.abc import Sequence
from contextlib import AbstractContextManager
from pathlib import Path
from typing import Any, Self

import attrs
import lmdb

from opscore.runtime.errors import StoreDamaged, StoreError, StoreIncompatible
from opscore.runtime.storage import extent, formats, lmdb_failures, measures, readers
from opscore.runtime.storage.files import DATA_FILE, make_lock_file
from opscore.runtime.storage.lmdb_snapshot import META_TABLE, LmdbSnapshot, Reading
from opscore.runtime.storage.measures import StoreMeasure
from opscore.runtime.store import JOURNAL_TABLE


class LmdbReader:
    """The tables of a data directory, for reading alone. The server that writes it may run meanwhile.

    Args:
        path: the data directory.
        tables: the names of its tables and indexes; those that an older release did not make read as empty.
        map_bytes: the most that the file may grow to while it is read; what it says of itself, if that is more.

    Raises:
        StoreIncompatible: a newer release wrote it, or it is not a store.
        StoreDamaged: its file lost its end.
        StoreFull: the disk has no room for what its readers share.
        StoreError: there is none, or it can't be read.
    """

    def __init__(self, path: Path, *, tables: Sequence[str], map_bytes: int) -> None:
        self.path = path
        self._open(tables, map_bytes)

    def _open(self, tables: Sequence[str], map_bytes: int) -> None:
        file = self.path / DATA_FILE
        try:
            if not file.exists():
                raise StoreError(f"{self.path} holds no store: there is no {DATA_FILE}")
            _refuse_truncated(file)
            reserved = max(map_bytes, extent.map_bytes(file))
            make_lock_file(self.path)
            self._env = lmdb.open(
                os.fsencode(self.path), readonly=True, create=False, map_size=reserved, max_dbs=len(tables) + 8
            )
        except OSError as error:
            raise StoreError(f"{file} can't be read: {error.strerror or error}") from error
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self.path) from error
        try:
            readers.refuse_stale(self._env, self.path)
            self._tables = {name: self._handle(name) for name in (META_TABLE, JOURNAL_TABLE, *tables)}
            with self._env.begin() as transaction:
                self.format = self._format(transaction)
                """The layout of its file, which an upgrade that has not ended brings up to the newest."""
        except lmdb.Error as error:
            self._env.close()
            raise lmdb_failures.translated(error, self.path) from error
        except BaseException:
            self._env.close()
            raise

    def _format(self, transaction: lmdb.Transaction) -> int:
        meta = self._tables[META_TABLE]
        if meta is None:
            raise StoreIncompatible(str(self.path), "another program keeps its data there")
        found = transaction.get(formats.UPGRADING_KEY, db=meta) or transaction.get(formats.FORMAT_KEY, db=meta)
        return formats.number(bytes(found or b"none"), self.path)

    def _handle(self, name: str) -> Any:
        try:
            return self._env.open_db(name.encode(), create=False)
        except lmdb.NotFoundError:
            return None

    def __enter__(self) -> Self:
        """Return the open store."""
        return self

    def __exit__(self, *exception: object) -> None:
        """Close it."""
        self.close()

    def close(self) -> None:
        """Close it; closing twice is fine."""
        self._env.close()

    def snapshot(self) -> AbstractContextManager[LmdbSnapshot]:
        """Read at one commit. While it is open no page is used again, so the file may grow: be quick.

        Raises:
            StoreDamaged: a page, or a value that is read, is not what was written.
        """
        return Reading(self._env, self._tables, self.path)

    def measure(self) -> StoreMeasure:
        """Sizes and counts; the file may grow to what its writer reserves, not to what is reserved to read it.

        Raises:
            StoreError: it has grown past what was reserved to read it, or can't be read.
        """
        try:
            with self._env.begin() as transaction:
                found = measures.measured(self._env, transaction, self._tables)
                return attrs.evolve(found, map_bytes=self._map_bytes(transaction))
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self.path) from error
        except OSError as error:
            raise StoreError(f"{self.path / DATA_FILE} can't be read: {error.strerror or error}") from error

    def only_reserve_left(self) -> bool:
        """Whether its writer refuses new work, as far as that can be told from outside.

        Raises:
            StoreError: it can't be read.
        """
        try:
            with self._env.begin() as transaction:
                map_bytes = self._map_bytes(transaction)
                return measures.only_reserve_left(self._env, transaction, self._tables, self.path, map_bytes)
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self.path) from error
        except OSError as error:
            raise StoreError(f"{self.path / DATA_FILE} can't be read: {error.strerror or error}") from error

    def _map_bytes(self, transaction: lmdb.Transaction) -> int:
        noted = transaction.get(formats.MAP_KEY, db=self._tables[META_TABLE])
        return extent.map_bytes(self.path / DATA_FILE) if noted is None else int(noted)

    def copy_to(self, descriptor: int) -> None:
        """Write a compact copy of one commit to a file or pipe, while others may write to the store; it is not synced.

        Raises:
            StoreDamaged: a page is not what was written.
            StoreError: it can't be written.
        """
        try:
            self._env.copyfd(descriptor, compact=True)
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self.path) from error


def _refuse_truncated(file: Path) -> None:
    """Refuse a file that lost its end; what a writer changes while it is looked at is looked at again."""
    for _ in range(readers.LOOKS_MAX):
        commit = extent.newest_commit(file)
        try:
            extent.refuse_truncated(file)
        except StoreDamaged:
            if extent.newest_commit(file) == commit:
                raise
            time.sleep(readers.LOOK_AGAIN_S)
        else:
            return
