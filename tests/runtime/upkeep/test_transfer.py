"""A store goes out as lines and comes back as it was; what is not a whole export is refused."""

import json
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import StoreError, TransferError
from opscore.runtime.journal.opening import open_reader, open_store
from opscore.runtime.journal.tables import AGENTS
from opscore.runtime.storage import formats
from opscore.runtime.upkeep import transfer
from tests.runtime.journal.test_opening import EVERY_FORMAT, check_indexes, restored, rows, versions
from tests.runtime.world import MAP_BYTES, World, hire, one_task


def lines_of(path: Path) -> list[bytes]:
    with open_reader(path) as reader, reader.snapshot() as view:
        return list(transfer.exported(view))


@pytest.fixture
def lines(tmp_path: Path) -> list[bytes]:
    return lines_of(restored(formats.FORMAT, tmp_path / "source"))


@pytest.mark.parametrize("number", EVERY_FORMAT)
def test_a_store_of_any_format_comes_back_as_it_was(number: int, tmp_path: Path) -> None:
    exported = lines_of(restored(number, tmp_path / "source"))
    told: list[int] = []
    count = transfer.imported(exported, tmp_path / "copy", map_bytes=MAP_BYTES, on_progress=told.append)
    assert told[-1] == count == len(exported) - 2
    with open_store(tmp_path / "source", map_bytes=MAP_BYTES) as store, store.snapshot() as view:
        before = (rows(view), versions(view), view.last_sequence())
    with open_store(tmp_path / "copy", map_bytes=MAP_BYTES) as store, store.snapshot() as view:
        assert (rows(view), versions(view), view.last_sequence()) == before
        check_indexes(view)
    assert lines_of(tmp_path / "copy") == lines_of(tmp_path / "source")


def test_every_line_is_json_and_says_what_it_is(lines: list[bytes]) -> None:
    header, *body, trailer = [json.loads(line) for line in lines]
    assert header == {"opscore": "export", "version": 1, "format": formats.FORMAT, "sequence": 63}
    assert {tuple(row) for row in body} == {("table", "key", "schema", "version", "row")}
    assert {row["table"] for row in body} >= {"sessions", "tasks", "agents", "journal", "idempotency"}
    assert trailer["rows"] == len(body)


def test_what_was_unfinished_goes_on_in_the_copy(lines: list[bytes], tmp_path: Path) -> None:
    transfer.imported(lines, tmp_path / "copy", map_bytes=MAP_BYTES)

    async def main() -> None:
        world = World(tmp_path / "copy")
        async with world.node() as node:
            assert node.statistics().open_sessions == 6
            await hire(node, "able", "nobody", result="done")
            await trio.sleep(100)
            assert node.statistics().open_sessions == 4
            session = await node.trigger(one_task("new", agentCapability="nobody"))
            await node.wait(session.session_id)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def _cut(lines: list[bytes]) -> list[bytes]:
    return lines[:-1]


def _cut_within_a_line(lines: list[bytes]) -> list[bytes]:
    return [*lines[:-1], lines[-1][:20]]


def _changed(lines: list[bytes]) -> list[bytes]:
    return [line.replace(b'"flaky"', b'"other"') for line in lines]


def _left_out(lines: list[bytes]) -> list[bytes]:
    return [*lines[:5], *lines[6:]]


def _twice(lines: list[bytes]) -> list[bytes]:
    return [*lines[:5], *lines[4:]]


def _unknown_table(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"agents"', b'"robots"'), *lines[2:]]


def _newer_schema(lines: list[bytes]) -> list[bytes]:
    return [lines[0], lines[1].replace(b'"schema":%d' % AGENTS.schema, b'"schema":7'), *lines[2:]]


def _newer_export(lines: list[bytes]) -> list[bytes]:
    return [lines[0].replace(b'"version":1', b'"version":2'), *lines[1:]]


def _no_row(lines: list[bytes]) -> list[bytes]:
    return [lines[0], b'{"table":"agents","key":"a","schema":1,"version":1,"row":[]}\n', *lines[2:]]


def _with(number: int, **fields: object) -> Any:
    """Have a line, counted from 1 or from the end, say something else."""
    index = number - 1 if number > 0 else number

    def spoil(lines: list[bytes]) -> list[bytes]:
        changed = json.dumps({**json.loads(lines[index]), **fields}).encode() + b"\n"
        return [*lines[:index], changed, *lines[index:][1:]]

    return spoil


@pytest.mark.parametrize(
    ("spoil", "told"),
    [
        (_cut, "line 96 is not part of a complete export"),
        (_cut_within_a_line, "line 97 is not part of a complete export"),
        (_changed, "the file was changed"),
        (_left_out, "the file was changed"),
        (_twice, "the file was changed"),
        (_unknown_table, "line 2 is of table 'robots'"),
        (_newer_schema, "line 2 can't be imported: .* schema 7"),
        (_newer_export, "reads exports up to version 1"),
        (_with(1, version=0), "this is export of version 0; this release reads exports up to version 1"),
        (_with(1, format=formats.FORMAT + 1), "format 7; this release reads up to 6: import it with a newer one"),
        (_with(1, format=0), "of a store of format 0; this release reads up to"),
        (_no_row, "line 2 can't be imported: agents b'a' is damaged"),
        *[(_with(1, sequence=number), "line 1 is not part of a complete export") for number in (-1, 2**64)],
        *[(_with(2, version=number), "line 2 is not part of a complete export") for number in (-1, 2**64)],
        *[(_with(2, schema=number), "line 2 is not part of a complete export") for number in (-1, 2**16)],
        *[(_with(-2, key=number), "line 96 is not part of a complete export") for number in (-1, 2**64, 2**70)],
        (_with(2, key=""), "line 2 is not part of a complete export"),
        (_with(2, key="x" * 512), "line 2 has a key that is not valid for table 'agents'"),
        (_with(2, key="x" * 511), "line 2 can't be imported: key_bytes_max"),
        (_with(-2, key="x"), "line 96 has a key that is not valid for table 'journal'"),
        (_with(2, key=7), "line 2 has a key that is not valid for table 'agents'"),
        (lambda _: [], "line 1 is not part of a complete export"),
        (lambda _: [b"hello\n"], "line 1 is not part of a complete export"),
    ],
)
def test_what_is_no_whole_export_is_refused_by_line_and_leaves_nothing(
    spoil: Any, told: str, lines: list[bytes], tmp_path: Path
) -> None:
    with pytest.raises(TransferError, match=told):
        transfer.imported(spoil(lines), tmp_path / "copy", map_bytes=MAP_BYTES)
    assert sorted(each.name for each in tmp_path.iterdir()) == ["source"]


def test_a_directory_that_holds_anything_is_not_imported_into(lines: list[bytes], tmp_path: Path) -> None:
    (tmp_path / "copy").mkdir()
    (tmp_path / "copy" / "mine").touch()
    with pytest.raises(StoreError, match="is not empty"):
        transfer.imported(lines, tmp_path / "copy", map_bytes=MAP_BYTES)
    (tmp_path / "copy" / "mine").unlink()
    assert transfer.imported(lines, tmp_path / "copy", map_bytes=MAP_BYTES) == len(lines) - 2
