"""Opening the store of a data directory with the domain's tables, and upgrading an older one."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from opscore.runtime.errors import StoreDamaged
from opscore.runtime.journal.tables import ALL_TABLES, INDEX_NAMES
from opscore.runtime.journal.typed_tables import Table
from opscore.runtime.storage import formats, sealing
from opscore.runtime.storage.lmdb_reader import LmdbReader
from opscore.runtime.storage.lmdb_store import MAP_BYTES, LmdbStore
from opscore.runtime.store import Put

UPGRADED_AT_ONCE: Final = 1_000
"""Rows upgraded in one commit."""

_log = logging.getLogger("opscore.store")


def open_store(path: Path, *, map_bytes: int = MAP_BYTES) -> LmdbStore:
    """Open a data directory for writing; one of an older release is upgraded first.

    Args:
        path: the data directory; it is created if it does not exist.
        map_bytes: the size in bytes to which its file may grow.

    Raises:
        StoreLocked: another process has it open.
        StoreError: it can't be opened or written.
    """
    store = LmdbStore(path, tables=[table.name for table in ALL_TABLES], indexes=INDEX_NAMES, map_bytes=map_bytes)
    try:
        if store.upgrading is not None:
            _upgrade(store)
    except BaseException:
        store.close()
        raise
    return store


def open_reader(path: Path, *, map_bytes: int = MAP_BYTES) -> LmdbReader:
    """Open a data directory only for reading; another process may have it open.

    Raises:
        StoreError: it does not exist, or can't be read.
    """
    names = [name for table in ALL_TABLES for name in (table.name, *INDEX_NAMES.get(table.name, ()))]
    return LmdbReader(path, tables=names, map_bytes=map_bytes)


def _upgrade(store: LmdbStore) -> None:
    """Give every row its index entries. This is idempotent, so a crash only costs time."""
    assert store.upgrading is not None, "there is something to do"
    _log.info("%s was written in format %s and is being upgraded", store.path, store.upgrading)
    for table in ALL_TABLES if store.upgrading < formats.ENTRIES_SINCE else ():
        after: bytes | None = None
        while table.indexes:
            with store.snapshot() as view:
                page = list(itertools.islice(view.scan_raw(table.name, after=after), UPGRADED_AT_ONCE))
            if not page:
                break
            after = page[-1][0]
            store.rewrite(_with_entries(table, page))
    store.upgraded()


def _with_entries(table: Table[Any], page: Sequence[tuple[bytes, bytes]]) -> Iterator[tuple[Put, int]]:
    for key, value in page:
        try:
            stored = sealing.opened(table.name, key, value)
            yield table.kept(key, stored), stored.version
        except StoreDamaged:
            _log.exception("a damaged row is not upgraded")
