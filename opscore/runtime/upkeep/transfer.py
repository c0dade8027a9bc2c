"""Exporting a store as JSON lines, and importing it.

The first line identifies the export and its commit. Then comes a line for each row and each record. The last line has
their number and a digest of every byte before it, so that a file that was cut short or changed is refused. Rows are
copied as they were written, with their schemas and versions; indexes are built anew.
"""

import hashlib
import itertools
import json
from collections.abc import Callable, Iterable, Iterator
from pathlib import Path
from typing import Annotated, Any, BinaryIO, Final

import msgspec

from opscore.runtime.errors import LimitExceeded, StoreError, TransferError
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import ALL_TABLES, RECORDS, sequence_key
from opscore.runtime.journal.typed_tables import Table
from opscore.runtime.storage import formats
from opscore.runtime.storage.copying import appearing
from opscore.runtime.storage.directory_lock import LOCK_NAME
from opscore.runtime.storage.files import LOCK_FILE, PRIVATE
from opscore.runtime.storage.lmdb_store import MAP_BYTES
from opscore.runtime.store import JOURNAL_TABLE, KEY_BYTES_MAX, SCHEMA_MAX, Put, Snapshot, Stored

EXPORT_VERSION: Final = 1
IMPORTED_AT_ONCE: Final = 2_000
"""Rows that are imported in one commit."""
HEADER_BYTES_MAX: Final = 4 * 2**10
"""The longest first line, which a file that is no export may exceed."""
LINE_BYTES_MAX: Final = 2**30 + 2**20
"""The longest line: a row may be as large as the largest body that a server can be set to take."""
LINE_PART_BYTES: Final = 2**20
"""How much of a line is read at a time."""


# The ranges that a store can hold: a file with other numbers is not an export.
_Sequence = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Schema = Annotated[int, msgspec.Meta(ge=0, le=SCHEMA_MAX)]
_Key = Annotated[str, msgspec.Meta(min_length=1)]


class _Header(msgspec.Struct):
    opscore: str
    version: int
    format: int
    sequence: _Sequence


class _Row(msgspec.Struct):
    table: str
    key: _Key | _Sequence
    schema: _Schema
    version: _Sequence
    row: msgspec.Raw


class _Trailer(msgspec.Struct):
    rows: int
    sha256: str


_TABLES: Final[dict[str, Table[Any]]] = {table.name: table for table in (*ALL_TABLES, RECORDS)}
_HEADER = msgspec.json.Decoder(_Header)
_ROW = msgspec.json.Decoder(_Row)
_TRAILER = msgspec.json.Decoder(_Trailer)


def exported(view: Snapshot) -> Iterator[bytes]:
    """Yield every line of the export of a snapshot, including line ends.

    Raises:
        StoreDamaged: a value is not what was written.
    """
    digest, count = hashlib.sha256(), 0
    header = {
        "opscore": "export", "version": EXPORT_VERSION, "format": formats.FORMAT, "sequence": view.last_sequence(),
    }  # fmt: skip
    for line in itertools.chain([_line(header)], _rows(view)):
        digest.update(line)
        count += 1
        yield line
    yield _line({"rows": count - 1, "sha256": digest.hexdigest()})


def _rows(view: Snapshot) -> Iterator[bytes]:
    for name in _TABLES:
        for key, stored in view.scan(name):
            shown = int.from_bytes(key, "big") if name == JOURNAL_TABLE else key.decode()
            head = _line({"table": name, "key": shown, "schema": stored.schema, "version": stored.version})
            yield b'%s,"row":%s}\n' % (head[:-2], stored.body)


def _line(document: dict[str, Any]) -> bytes:
    return json.dumps(document, ensure_ascii=False, separators=(",", ":")).encode() + b"\n"


def count_of(view: Snapshot) -> int:
    """Return how many rows the export of a snapshot has."""
    return sum(view.count(name) for name in _TABLES)


def lines_of(stream: BinaryIO) -> Iterator[bytes]:
    """Yield the lines of an export, including line ends. One that can't be a line of an export is not read to its end.

    Raises:
        TransferError: a line is too long; the message names it.
    """
    most = HEADER_BYTES_MAX
    for number in itertools.count(1):
        line = stream.readline(min(most + 1, LINE_PART_BYTES))
        if not line:
            return
        if len(line) > most or (len(line) == LINE_PART_BYTES and not line.endswith(b"\n")):
            line = _whole(line, stream, number, most)
        yield line
        most = LINE_BYTES_MAX


def _whole(begun: bytes, stream: BinaryIO, number: int, most: int) -> bytes:
    """Read the rest of a line that is longer than a part of it."""
    parts, size = [begun], len(begun)
    # A gap in a file is filled with zeros, and another file has other lines.
    while size <= most and begun.startswith(b"{"):
        if not (part := stream.readline(LINE_PART_BYTES)):
            return b"".join(parts)
        parts.append(part)
        size += len(part)
        if part.endswith(b"\n") and size <= most:
            return b"".join(parts)
    raise TransferError(f"line {number} is not part of a complete export: it has no end within {size:,} bytes")


def imported(
    lines: Iterable[bytes],
    destination: Path,
    *,
    map_bytes: int = MAP_BYTES,
    on_progress: Callable[[int], None] = lambda _: None,
) -> int:
    """Create a data directory (mode 0700) from an export; it appears once everything is in it and synced.

    Args:
        lines: the lines of the export, including line ends.
        destination: the directory, which must be empty or not exist.
        map_bytes: the size in bytes to which its file may grow.
        on_progress: is called now and then with the number of rows that were read so far.

    Returns:
        the number of rows.

    Raises:
        TransferError: the export is incomplete, or was changed; the message names the line.
        StoreError: the directory can't be created or written.
    """
    with appearing(destination, mode=PRIVATE) as directory, open_store(directory, map_bytes=map_bytes) as store:
        reading = _Reading(iter(lines))
        while rows := list(itertools.islice(reading.rows(), IMPORTED_AT_ONCE)):
            store.rewrite(rows)
            on_progress(reading.count)
        reading.check_end()
        store.rewrite((), sequence=reading.header.sequence)
        for leftover in (LOCK_FILE, LOCK_NAME):
            (directory / leftover).unlink(missing_ok=True)
        return reading.count


class _Reading:
    """Reads an export line by line; one line is held back, because the last line is the trailer."""

    def __init__(self, lines: Iterator[bytes]) -> None:
        self._lines = lines
        self._digest = hashlib.sha256()
        first = next(lines, b"")
        self.header = _parsed(_HEADER, first, 1)
        if self.header.opscore != "export" or not 0 < self.header.version <= EXPORT_VERSION:
            found = f"{self.header.opscore} of version {self.header.version}"
            raise TransferError(f"this is {found}; this release reads exports up to version {EXPORT_VERSION}")
        if not 0 < self.header.format <= formats.FORMAT:
            found = f"an export of a store of format {self.header.format}"
            raise TransferError(
                f"this is {found}; this release reads up to {formats.FORMAT}: import it with a newer one"
            )
        self._digest.update(first)
        self._held: bytes | None = next(lines, None)
        self.count = 0

    def rows(self) -> Iterator[tuple[Put, int]]:
        """Yield the rows that follow, each with its version."""
        while (following := next(self._lines, None)) is not None:
            assert self._held is not None, "a line is held as long as there are any"
            line, self._held = self._held, following
            self._digest.update(line)
            self.count += 1
            yield self._put(line, self.count + 1)

    def _put(self, line: bytes, number: int) -> tuple[Put, int]:
        found = _parsed(_ROW, line, number)
        table = _TABLES.get(found.table)
        if table is None:
            raise TransferError(f"line {number} is of table {found.table!r}, which this release does not know")
        key = sequence_key(found.key) if isinstance(found.key, int) else found.key.encode()
        if isinstance(found.key, int) is not (found.table == JOURNAL_TABLE) or len(key) > KEY_BYTES_MAX:
            raise TransferError(f"line {number} has a key that is not valid for table {found.table!r}")
        try:
            return table.kept(key, Stored(bytes(found.row), found.schema, found.version)), found.version
        except (StoreError, LimitExceeded) as error:
            raise TransferError(f"line {number} can't be imported: {error}") from error

    def check_end(self) -> None:
        """Check that the trailer is there, and matches the lines before it.

        Raises:
            TransferError: it is not, or does not.
        """
        number = self.count + 2
        trailer = _parsed(_TRAILER, self._held or b"", number)
        if trailer.rows != self.count or trailer.sha256 != self._digest.hexdigest():
            raise TransferError(f"line {number} does not match the lines before it: the file was changed")


def _parsed(decoder: "msgspec.json.Decoder[Any]", line: bytes, number: int) -> Any:
    try:
        return decoder.decode(line)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise TransferError(f"line {number} is not part of a complete export: {error}") from error
