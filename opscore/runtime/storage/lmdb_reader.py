"""Read-only access to a data directory, whether or not a server has it open."""

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
    """The tables of a data directory, read-only. A server may write to it in the meantime.

    Args:
        path: the data directory.
        tables: names of its tables and indexes; one that an older release did not create reads as empty.
        map_bytes: bytes that the file may grow to while it is read; the file's own map size, if that is larger.

    Raises:
        StoreIncompatible: a newer release wrote it, or it is not a store.
        StoreDamaged: the data file is truncated.
        StoreLocked: a process still reads a data file that this one has replaced.
        StoreFull: the disk has no room for the lock file.
        StoreError: there is no store, or it can't be read.
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
                """Format of its file; while an upgrade is unfinished, the format before."""
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
        """Close the store."""
        self.close()

    def close(self) -> None:
        """Close the store; closing it twice is fine."""
        self._env.close()

    def snapshot(self) -> AbstractContextManager[LmdbSnapshot]:
        """Read at the newest commit. Be quick: pages freed since then can't be reused meanwhile, so the file may grow.

        Raises:
            StoreDamaged: a page or a value that is read is damaged.
        """
        return Reading(self._env, self._tables, self.path)

    def measure(self) -> StoreMeasure:
        """Return sizes and counts. The map size is that of the file's writer, not the one reserved for reading.

        Raises:
            StoreError: the file has outgrown the map reserved for reading, or can't be read.
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
        """Write a compact copy of one commit to a file or pipe, without syncing it. The store may be written meanwhile.

        Raises:
            StoreDamaged: a page is damaged.
            StoreError: the copy can't be written.
        """
        try:
            self._env.copyfd(descriptor, compact=True)
        except lmdb.Error as error:
            raise lmdb_failures.translated(error, self.path) from error


def _refuse_truncated(file: Path) -> None:
    """Refuse a truncated file; look again if a commit was made during the check."""
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
