"""Opening the store of a data directory with the domain's tables, and bringing an older one up to date."""

import itertools
import logging
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

from opscore.runtime.errors import StoreDamaged
from opscore.runtime.storage import formats, sealing
from opscore.runtime.storage.lmdb_reader import LmdbReader
from opscore.runtime.storage.lmdb_store import MAP_BYTES, LmdbStore
from opscore.runtime.store import Put
from opscore.runtime.tables import ALL_TABLES, INDEX_NAMES
from opscore.runtime.typed_tables import Table

UPGRADED_AT_ONCE: Final = 1_000
"""Rows brought up to date in one commit."""

_log = logging.getLogger("opscore.store")


def open_store(path: Path, *, map_bytes: int = MAP_BYTES) -> LmdbStore:
    """Open a data directory for writing; one of an older release is brought up to date first.

    Args:
        path: the data directory; made if it is not there.
        map_bytes: the most that its file may grow to, in bytes.

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
    """Open a data directory for reading alone, while another process may have it open.

    Raises:
        StoreError: there is none, or it can't be read.
    """
    names = [name for table in ALL_TABLES for name in (table.name, *INDEX_NAMES.get(table.name, ()))]
    return LmdbReader(path, tables=names, map_bytes=map_bytes)


def _upgrade(store: LmdbStore) -> None:
    """Give every row its entries in the indexes. What is done twice is done once, so a crash only costs time."""
    assert store.upgrading is not None, "there is something to do"
    _log.info("%s was written in format %s and is brought up to date", store.path, store.upgrading)
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
            _log.exception("a row is left as it is")
