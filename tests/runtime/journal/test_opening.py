"""What earlier releases wrote is read by this one: every format there ever was lies in `stores/`."""

import gzip
import itertools
from pathlib import Path
from typing import Any

import lmdb
import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.journal.opening import open_reader, open_store
from opscore.runtime.journal.tables import ALL_TABLES, RECORDS, TASKS_READY
from opscore.runtime.models import SessionStatus
from opscore.runtime.storage import formats, lmdb_store
from opscore.runtime.store import SCHEMA_MAX, Snapshot
from tests.runtime import make_store
from tests.runtime.world import MAP_BYTES, World, join

STORES = Path(__file__).parent / "stores"
EVERY_FORMAT = range(1, formats.FORMAT + 1)


def restored(number: int, path: Path) -> Path:
    path.mkdir(exist_ok=True)
    (path / "data.mdb").write_bytes(gzip.decompress((STORES / f"format-{number}.mdb.gz").read_bytes()))
    return path


def rows(view: Snapshot) -> dict[str, Any]:
    return {table.name: [row for row, _ in table.scan(view)] for table in (*ALL_TABLES, RECORDS)}


def versions(view: Snapshot) -> dict[str, dict[bytes, int]]:
    return {table.name: {key: stored.version for key, stored in view.scan(table.name)} for table in ALL_TABLES}


def check_indexes(view: Snapshot) -> None:
    """Every row has the entries that its table says, and there are no others."""
    for table in ALL_TABLES:
        expected: dict[str, set[tuple[bytes, bytes]]] = {index.name: set() for index in table.indexes}
        for key, stored in view.scan(table.name):
            for entry in table.kept(key, stored).entries:
                expected[entry.index].add((entry.place + key, key))
        for index in table.indexes:
            assert {(line, stored.body) for line, stored in view.scan(index.name)} == expected[index.name], index.name


@pytest.mark.parametrize("number", EVERY_FORMAT)
def test_a_store_of_every_format_there_ever_was_is_read_whole(number: int, tmp_path: Path) -> None:
    before = make_store.rows(restored(number, tmp_path))
    with open_store(tmp_path, map_bytes=MAP_BYTES) as store, store.snapshot() as view:
        assert store.upgrading is None
        found = rows(view)
        check_indexes(view)
        assert view.last_sequence() == int.from_bytes(before["meta"][b"sequence"][2:10], "big")
        for name, lines in versions(view).items():
            assert lines == {key: int.from_bytes(value[2:10], "big") for key, value in before.get(name, {}).items()}
    assert {name: len(lines) for name, lines in found.items() if lines} == {
        name: len(lines) for name, lines in before.items() if name in found and lines
    }
    assert {session.status for session in found["sessions"]} >= {SessionStatus.COMPLETED, SessionStatus.FAILED}


@pytest.mark.parametrize("number", EVERY_FORMAT)
def test_what_was_unfinished_in_any_format_goes_on_from_where_it_was(number: int, tmp_path: Path) -> None:
    async def main() -> None:
        world = World(restored(number, tmp_path))
        async with world.node() as node:
            open_before = node.statistics().open_sessions
            assert open_before == (5 if number < 3 else 6)
            for capability in ("nobody", "work", "rare", "test_capability", "another_capability"):
                await join(node, f"new {capability}", capability)
            with trio.fail_after(100_000):
                while node.statistics().open_sessions:
                    for given in list(world.messenger.delivered):
                        world.messenger.delivered.remove(given)
                        await node.complete(given.task_id, given.attempt, "done")
                        await node.report_state(given.agent_id, "idle")
                    await trio.sleep(1)
        with world.rows() as view:
            assert list(TASKS_READY.lines(view)) == []
            check_indexes(view)

    trio.run(main, clock=MockClock(autojump_threshold=0))


def test_a_store_whose_upgrade_an_older_release_did_not_end_is_brought_up_from_where_it_was(tmp_path: Path) -> None:
    restored(1, tmp_path)
    with lmdb.open(str(tmp_path), max_dbs=64, map_size=MAP_BYTES) as environment:
        meta = environment.open_db(b"meta", create=False)
        with environment.begin(write=True, db=meta) as transaction:
            transaction.put(b"format", b"2")
            transaction.put(b"upgrading", b"1")
    with open_store(tmp_path, map_bytes=MAP_BYTES) as store, store.snapshot() as view:
        assert store.upgrading is None
        check_indexes(view)
        assert list(TASKS_READY.lines(view)) != []


def test_every_schema_of_every_table_has_been_kept_as_some_release_wrote_it(tmp_path: Path) -> None:
    written: set[tuple[str, int]] = set()
    for number in EVERY_FORMAT:
        for name, values in make_store.rows(restored(number, tmp_path / str(number))).items():
            written |= {(name, int.from_bytes(value[:2], "big") & SCHEMA_MAX) for value in values.values()}
    for table in (*ALL_TABLES, RECORDS):
        assert set(table.upcasters) == set(range(1, table.schema)), f"{table.name} lacks an upcaster"
        assert {(table.name, schema) for schema in range(1, table.schema + 1)} <= written, f"{table.name} lacks a file"


def test_an_upgrade_that_is_killed_half_way_goes_on_at_the_next_opening(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    restored(1, tmp_path)
    original, commits = lmdb_store.LmdbStore.rewrite, itertools.count()

    def dying(store: lmdb_store.LmdbStore, *arguments: Any, **keywords: Any) -> None:
        if next(commits) == 2:
            raise KeyboardInterrupt
        original(store, *arguments, **keywords)

    monkeypatch.setattr(lmdb_store.LmdbStore, "rewrite", dying)
    with pytest.raises(KeyboardInterrupt):
        open_store(tmp_path, map_bytes=MAP_BYTES)
    monkeypatch.undo()
    with open_reader(tmp_path) as reader:
        assert reader.format == 1
    assert make_store.rows(tmp_path)["meta"][b"format"] == b"%d" % formats.FORMAT
    with open_store(tmp_path, map_bytes=MAP_BYTES) as store, store.snapshot() as view:
        check_indexes(view)
    with open_reader(tmp_path) as reader:
        assert reader.format == formats.FORMAT
