"""A store whose files are not its directory's any more acknowledges nothing that nobody would find."""

import os
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from opscore.runtime.errors import StoreReadOnly
from opscore.runtime.storage.held_files import HeldFiles
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Put, Submission
from tests.gateway.gateway_process import gateway, problem
from tests.runtime.storage.store_process import TABLES

MAP_BYTES = 64 * 1024**2


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    with LmdbStore(tmp_path / "data", tables=TABLES, map_bytes=MAP_BYTES) as opened:
        yield opened


def put(key: bytes) -> list[Submission]:
    return [Submission(writes=(Put("left", key, b"body", 1),))]


@pytest.mark.parametrize("name", ["data.mdb", "opscore.lock", "lock.mdb"])
@pytest.mark.parametrize("how", ["removed", "replaced"])
def test_nothing_is_written_while_a_file_is_gone_or_another_is_in_its_place(
    how: str, name: str, store: LmdbStore
) -> None:
    assert store.apply(put(b"a")) == [1]
    file, aside = store.path / name, store.path / "aside"
    file.rename(aside)
    if how == "replaced":
        shutil.copy(aside, file)
    for _ in range(2):
        with pytest.raises(StoreReadOnly, match=f"its {name} was removed or replaced: put it back, or start again"):
            store.apply(put(b"b"))
    with store.snapshot() as view:
        assert [key for key, _ in view.scan("left")] == [b"a"]
    aside.rename(file)
    assert store.apply(put(b"b")) == [2]


def test_a_directory_that_is_moved_as_a_whole_has_its_files_with_it(store: LmdbStore, tmp_path: Path) -> None:
    store.path.rename(tmp_path / "elsewhere")
    assert store.apply(put(b"a")) == [1]


def test_a_relative_path_is_meant_from_where_the_store_was_opened(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    with LmdbStore(Path("data"), tables=TABLES, map_bytes=MAP_BYTES) as store:
        monkeypatch.chdir("/")
        assert store.apply(put(b"a")) == [1]


def test_the_files_are_let_go_of_once(tmp_path: Path) -> None:
    files = HeldFiles(tmp_path, ())
    files.close()
    # Another file now has the number that the directory had.
    with (tmp_path / "other").open("wb") as other:
        files.close()
        assert os.fstat(other.fileno()).st_size == 0


def test_a_server_whose_directory_was_removed_takes_nothing_and_ends_in_order(tmp_path: Path) -> None:
    with gateway(tmp_path / "data") as (process, wire):
        agent = wire.register("able")
        shutil.rmtree(tmp_path / "data")
        problem(wire.post("/agent", {"agentId": "late"}), 503, "store_read_only")
        assert wire.get(f"/agent/{agent}").status_code == 200
        assert process.end() == 0
        assert "its data.mdb was removed or replaced" in process.log()
    assert not (tmp_path / "data").exists()
