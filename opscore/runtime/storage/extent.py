"""Whether a data file holds every page that its newest commit refers to.

LMDB maps the file and trusts its own page numbers: a truncated file kills the process with SIGBUS when a missing page
is touched, perhaps long after it was opened. Comparing the length with LMDB's page count is not enough, because a
sound file may be shorter: pages that a transaction allocated and freed again are counted and never written. So a
short file is walked from the roots of its newest commit, by reading and never by mapping.

The layout is that of LMDB's data version 1 (`lmdb.h`, `mdb.c`: `MDB_meta`, `MDB_page`, `MDB_node`, `MDB_db`).
"""

import os
import struct
from collections.abc import Iterator
from pathlib import Path
from typing import Final

import attrs

from opscore.runtime.errors import StoreDamaged

_MAGIC: Final = 0xBEEFC0DE
_META = struct.Struct("=II8xQI36xQ40xQQQ")
"""Magic, version, map size, page size, root of the free list, root of the tables, last page, transaction number."""
_META_AT: Final = 16
_PAGE = struct.Struct("=10xHHH")
_NODE = struct.Struct("=HHHH")
_NUMBER = struct.Struct("=Q")
_BRANCH: Final = 0x01
_BIG: Final = 0x01
_TREE: Final = 0x02
_TREE_ROOT_AT: Final = 40
_NO_PAGE: Final = 2**64 - 1


@attrs.frozen(kw_only=True)
class _Meta:
    page_bytes: int
    roots: tuple[int, int]
    last_page: int
    transaction: int
    map_bytes: int


def map_bytes(path: Path) -> int:
    """Return the largest map size that a data file states, in bytes; 0 if it is not an LMDB file.

    A commit states it in one of the first two pages, which take turns.

    Raises:
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        first = _meta(os.pread(file.fileno(), _META.size, _META_AT))
        if first is None:
            return 0
        second = _meta(os.pread(file.fileno(), _META.size, first.page_bytes + _META_AT))
    return max(first.map_bytes, 0 if second is None else second.map_bytes)


def newest_commit(path: Path) -> int:
    """Return LMDB's number of the newest commit in a data file; 0 if it is not an LMDB file.

    Raises:
        StoreDamaged: its second page is missing.
        OSError: it can't be read.
    """
    with path.open("rb") as file:
        meta = _newest_meta(file.fileno(), path)
    return 0 if meta is None else meta.transaction


def refuse_truncated(path: Path) -> None:
    """Refuse a data file that lacks a page which its newest commit needs; call this while no process writes to it.

    A file that is not LMDB's is left for LMDB to refuse.

    Args:
        path: the data file; it need not exist.

    Raises:
        StoreDamaged: the file is empty, or pages are missing.
        OSError: the file can't be read.
    """
    try:
        descriptor = os.open(path, os.O_RDONLY | os.O_CLOEXEC)
    except FileNotFoundError:
        return
    try:
        size = os.fstat(descriptor).st_size
        if size == 0:
            raise StoreDamaged(str(path), "it is empty; if this directory never held anything, remove the file")
        meta = _newest_meta(descriptor, path)
        if meta is not None and size < (meta.last_page + 1) * meta.page_bytes:
            _walk(descriptor, path, meta, pages=size // meta.page_bytes)
    finally:
        os.close(descriptor)


def _newest_meta(descriptor: int, path: Path) -> _Meta | None:
    first = _meta(os.pread(descriptor, _META.size, _META_AT))
    if first is None:
        return None
    second = _meta(os.pread(descriptor, _META.size, first.page_bytes + _META_AT))
    if second is None:
        raise StoreDamaged(str(path), "its second page is missing")
    return max(first, second, key=lambda meta: meta.transaction)


def _meta(head: bytes) -> _Meta | None:
    if len(head) < _META.size:
        return None
    magic, version, reserved, page_bytes, free_root, tables_root, last_page, transaction = _META.unpack(head)
    if magic != _MAGIC or version != 1 or not page_bytes:
        return None
    return _Meta(
        page_bytes=page_bytes,
        roots=(free_root, tables_root),
        last_page=last_page,
        transaction=transaction,
        map_bytes=reserved,
    )


def _walk(descriptor: int, path: Path, meta: _Meta, *, pages: int) -> None:
    try:
        for visited, (number, count) in enumerate(_extents(descriptor, meta)):
            if number + count > pages or visited > pages:
                raise StoreDamaged(str(path), f"it is cut short: page {number:,} is needed, it has {pages:,} pages")
    except struct.error as error:
        raise StoreDamaged(str(path), "it is shorter than its page count, and one of its pages is damaged") from error


def _extents(descriptor: int, meta: _Meta) -> Iterator[tuple[int, int]]:
    """Yield every run of pages that the commit refers to, as its first page and the number of pages."""
    waiting = [root for root in meta.roots if root != _NO_PAGE]
    while waiting:
        number = waiting.pop()
        yield number, 1
        page = os.pread(descriptor, meta.page_bytes, number * meta.page_bytes)
        flags, lower, _ = _PAGE.unpack_from(page)
        for offset in struct.unpack_from(f"={max(0, lower - _META_AT) // 2}H", page, _META_AT):
            low, high, node_flags, key_bytes = _NODE.unpack_from(page, offset)
            value_at = offset + _NODE.size + key_bytes
            if flags & _BRANCH:
                waiting.append(low | high << 16 | node_flags << 32)
            elif node_flags & _BIG:
                # A large value has pages of its own, the first of which begins with a page header.
                yield _NUMBER.unpack_from(page, value_at)[0], (_META_AT - 1 + (low | high << 16)) // meta.page_bytes + 1
            elif node_flags & _TREE:
                (root,) = _NUMBER.unpack_from(page, value_at + _TREE_ROOT_AT)
                waiting += [root] if root != _NO_PAGE else []
