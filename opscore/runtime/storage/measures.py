"""Sizes and counts of a store at one commit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import lmdb

from opscore.runtime.storage import readers, room


@attrs.frozen(kw_only=True)
class TableMeasure:
    """Size of one table or index."""

    rows: int
    bytes: int
    """Bytes of its pages, including pages that are partly empty."""


@attrs.frozen(kw_only=True)
class StoreMeasure:
    """Size of a store."""

    tables: dict[str, TableMeasure]
    used_bytes: int
    """Bytes of the pages that are in use."""
    file_bytes: int
    """Bytes up to the last page that was ever used; free pages are reused before the file grows."""
    map_bytes: int
    """Bytes that the file may grow to."""
    readers: int
    """Open snapshots, in this process and in others. Pages freed since the oldest can't be reused before it ends."""


def measured(environment: lmdb.Environment, transaction: lmdb.Transaction, tables: Mapping[str, Any]) -> StoreMeasure:
    """Measure the store, at a cost that does not grow with its tables."""
    found = _tables(transaction, tables)
    info = environment.info()
    return StoreMeasure(
        tables=found,
        used_bytes=sum(each.bytes for each in found.values()),
        file_bytes=(info["last_pgno"] + 1) * environment.stat()["psize"],
        map_bytes=info["map_size"],
        readers=len(readers.snapshots(environment)),
    )


def used_bytes(transaction: lmdb.Transaction, tables: Mapping[str, Any]) -> int:
    """Return the bytes of the pages that are in use by tables and indexes."""
    return sum(each.bytes for each in _tables(transaction, tables).values())


def only_reserve_left(
    environment: lmdb.Environment, transaction: lmdb.Transaction, tables: Mapping[str, Any], path: Path, map_bytes: int
) -> bool:
    """Whether new work has to be refused: the one rule, for who writes and for who looks.

    Args:
        environment: the store.
        transaction: reads it.
        tables: its tables and indexes.
        path: its directory.
        map_bytes: the most that it may grow to.
    """
    file_bytes = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    capacity = room.capacity(path, map_bytes=map_bytes, file_bytes=file_bytes)
    # The pages are counted only where the file has grown near to what it may.
    if not room.only_reserve_left(capacity, file_bytes):
        return False
    held = readers.commits_held(environment) > room.HELD_COMMITS_MAX
    # What was given back since a snapshot that is still open can't be used again before it ends.
    return room.only_reserve_left(capacity, file_bytes if held else used_bytes(transaction, tables))


def _tables(transaction: lmdb.Transaction, tables: Mapping[str, Any]) -> dict[str, TableMeasure]:
    return {name: _table(transaction.stat(handle)) for name, handle in tables.items() if handle is not None}


def _table(stat: Any) -> TableMeasure:
    pages = stat["branch_pages"] + stat["leaf_pages"] + stat["overflow_pages"]
    return TableMeasure(rows=stat["entries"], bytes=pages * stat["psize"])
