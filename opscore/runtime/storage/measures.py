"""Sizes and counts of a store, as they are at one commit."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import attrs
import lmdb

from opscore.runtime.storage import readers, room


@attrs.frozen(kw_only=True)
class TableMeasure:
    """What one table or index holds."""

    rows: int
    bytes: int
    """Of its pages, those that are half empty included."""


@attrs.frozen(kw_only=True)
class StoreMeasure:
    """What a store holds, in bytes."""

    tables: dict[str, TableMeasure]
    used_bytes: int
    """Of the pages that hold something."""
    file_bytes: int
    """Up to where the file is used; pages that were given back are used again before it grows."""
    map_bytes: int
    """The most that the file may grow to."""
    readers: int
    """Snapshots open, in this process and in others; pages given back since the oldest wait for it."""


def measured(environment: lmdb.Environment, transaction: lmdb.Transaction, tables: Mapping[str, Any]) -> StoreMeasure:
    """Measure the tables, which costs nothing that grows with them."""
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
    """What the pages of the tables and indexes take that hold something."""
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
