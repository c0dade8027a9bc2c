"""What is imported is read in bounds, whatever the file holds."""

import io
from pathlib import Path
from typing import Any, BinaryIO, cast

import pytest

from opscore.runtime.errors import TransferError
from opscore.runtime.journal.opening import open_reader, open_store
from opscore.runtime.journal.tables import REVISIONS, Revision
from opscore.runtime.store import Submission
from opscore.runtime.upkeep import transfer
from tests.runtime.world import MAP_BYTES

HEADER = b'{"opscore":"export","version":1,"format":6,"sequence":1}\n'


class Endless(io.RawIOBase):
    """A file that begins with some bytes and goes on for ever with one; it counts what was read of it."""

    def __init__(self, begins: bytes, goes_on: bytes) -> None:
        self._begins, self._goes_on = begins, goes_on
        self.read_bytes = 0

    def readable(self) -> bool:
        return True

    def readinto(self, buffer: Any) -> int:
        begun = self._begins[self.read_bytes : self.read_bytes + len(buffer)]
        buffer[:] = begun.ljust(len(buffer), self._goes_on)
        self.read_bytes += len(buffer)
        return len(buffer)


@pytest.mark.parametrize(
    ("begins", "goes_on", "told", "most"),
    [
        (b"", b"\0", "line 1 is not part of a complete export: it has no end", 2**16),
        (HEADER[:-1], b" ", "line 1 is not part of a complete export: it has no end", 2**16),
        (HEADER, b"\0", "line 2 is not part of a complete export: it has no end", 2**21),
        (HEADER + b'{"table":"agents","key":"', b"x", "line 2 is not part of a complete export", 5 * 2**20),
    ],
)
def test_a_line_without_an_end_is_refused_and_not_read_to_it(
    begins: bytes, goes_on: bytes, told: str, most: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(transfer, "LINE_BYTES_MAX", 3 * 2**20)
    endless = Endless(begins, goes_on)
    lines = transfer.lines_of(cast(BinaryIO, io.BufferedReader(endless)))
    with pytest.raises(TransferError, match=told):
        transfer.imported(lines, tmp_path / "copy", map_bytes=MAP_BYTES)
    assert endless.read_bytes <= most
    assert list(tmp_path.iterdir()) == []


@pytest.mark.parametrize("size", [2**20 - 100, 2**20, 5 * 2**20, 5 * 2**20 + 1])
def test_a_row_may_be_longer_than_what_is_read_at_a_time(size: int, tmp_path: Path) -> None:
    with open_store(tmp_path / "source", map_bytes=MAP_BYTES) as store:
        row = Revision(definition_key="d", document={"id": "w", "text": "x" * size})
        store.apply([Submission(writes=(REVISIONS.put(row),))])
    with open_reader(tmp_path / "source") as reader, reader.snapshot() as view:
        exported = list(transfer.exported(view))
    stream = io.BytesIO(b"".join(exported))
    assert list(transfer.lines_of(stream)) == exported
    stream.seek(0)
    assert transfer.imported(transfer.lines_of(stream), tmp_path / "copy", map_bytes=MAP_BYTES) == 1
