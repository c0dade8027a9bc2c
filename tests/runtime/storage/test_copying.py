"""Copies of a store while it is written; what appears, appears whole."""

import os
import subprocess
import sys
from pathlib import Path

import pytest

from opscore.runtime.errors import StoreError, StoreLocked
from opscore.runtime.storage.copying import appearing, compact, copy_compact
from opscore.runtime.storage.files import DATA_FILE
from opscore.runtime.storage.lmdb_reader import LmdbReader
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import JOURNAL_TABLE, Delete, Put, Submission
from tests.runtime.storage import store_process
from tests.runtime.storage.store_process import TABLES

MAP_BYTES = 256 * 1024**2


def reader(path: Path) -> LmdbReader:
    return LmdbReader(path, tables=TABLES, map_bytes=MAP_BYTES)


def nothing(_done: int, _total: int) -> None: ...


def test_a_copy_made_while_another_process_commits_is_one_commit_whole(tmp_path: Path) -> None:
    live = tmp_path / "live"
    command = [sys.executable, store_process.__file__, "commit", str(live)]
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        try:
            for number in range(5):
                acknowledged = int([child.stdout.readline() for _ in range(200)][-1])
                told: list[int] = []

                def tell(done: int, _total: int, told: list[int] = told) -> None:
                    told.append(done)

                with reader(live) as opened, appearing(tmp_path / f"copy {number}") as directory:
                    copy_compact(opened, directory, tell)
                after = int(child.stdout.readline())
                assert told
                with LmdbStore(tmp_path / f"copy {number}", tables=TABLES) as copy, copy.snapshot() as view:
                    last = view.last_sequence()
                    assert acknowledged <= last
                    expected = [(each, b"%d " % each * 200) for each in range(1, last + 1)]
                    for table in (*TABLES, JOURNAL_TABLE):
                        found = [(int.from_bytes(key, "big"), stored.body) for key, stored in view.scan(table)]
                        assert found == expected
                assert after > acknowledged
        finally:
            child.kill()
    with LmdbStore(live, tables=TABLES) as store, store.snapshot() as view:
        assert view.last_sequence() > 1_000


def test_a_directory_appears_only_once_everything_in_it_is_there(tmp_path: Path) -> None:
    with appearing(tmp_path / "new") as directory:
        (directory / "file").write_text("whole")
        assert not (tmp_path / "new").exists()
    assert (tmp_path / "new" / "file").read_text() == "whole"
    assert [each.name for each in tmp_path.iterdir()] == ["new"]


@pytest.mark.parametrize("error", [RuntimeError, KeyboardInterrupt])
def test_what_fails_half_way_leaves_nothing(error: type[BaseException], tmp_path: Path) -> None:
    def fill() -> None:
        with appearing(tmp_path / "new") as directory:
            (directory / "file").write_text("half")
            raise error

    with pytest.raises(error):
        fill()
    assert list(tmp_path.iterdir()) == []


def test_a_directory_that_holds_something_is_left_alone_and_an_empty_one_is_taken(tmp_path: Path) -> None:
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "mine").touch()
    with pytest.raises(StoreError, match="is not empty"), appearing(tmp_path / "full"):
        raise AssertionError("it is not entered")
    (tmp_path / "empty").mkdir()
    with appearing(tmp_path / "empty") as directory:
        (directory / "file").touch()
    assert (tmp_path / "empty" / "file").exists()


def test_an_empty_directory_keeps_its_mode_and_its_owner(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    os.chown(private, 65534, 65534)
    before = private.stat()
    with appearing(private) as directory:
        (directory / "file").touch()
    after = private.stat()
    assert (after.st_ino, after.st_mode, after.st_uid) == (before.st_ino, before.st_mode, 65534)
    assert [each.name for each in private.iterdir()] == ["file"]
    with appearing(tmp_path / "new") as directory:
        (directory / "file").touch()
    (tmp_path / "usual").mkdir()
    assert (tmp_path / "new").stat().st_mode == (tmp_path / "usual").stat().st_mode


def test_an_empty_file_system_is_filled_where_it_is_mounted_with_the_data_last(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    moved: list[str] = []
    rename = Path.rename

    def noted(self: Path, target: Path) -> Path:
        assert not (target.parent / DATA_FILE).exists()
        moved.append(self.name)
        return rename(self, target)

    monkeypatch.setattr(Path, "rename", noted)
    subprocess.run(["mount", "-t", "tmpfs", "tmpfs", str(tmp_path)], check=True)
    try:
        (tmp_path / "lost+found").mkdir()
        with appearing(tmp_path) as directory:
            for name in (DATA_FILE, "keys.json", "another"):
                (directory / name).touch()
            assert not (tmp_path / DATA_FILE).exists()
        assert sorted(each.name for each in tmp_path.iterdir()) == ["another", DATA_FILE, "keys.json", "lost+found"]
        assert sorted(moved[:2]) == ["another", "keys.json"]
    finally:
        subprocess.run(["umount", str(tmp_path)], check=True)


def test_a_directory_that_somebody_else_fills_meanwhile_is_theirs(tmp_path: Path) -> None:
    def fill() -> None:
        with appearing(tmp_path) as directory:
            (directory / DATA_FILE).touch()
            (tmp_path / DATA_FILE).write_text("theirs")

    with pytest.raises(StoreError, match="is not empty any more"):
        fill()
    assert [(each.name, each.read_text()) for each in tmp_path.iterdir()] == [(DATA_FILE, "theirs")]


FILLS = """
import sys
from pathlib import Path
from opscore.runtime.storage.copying import appearing
with appearing(Path(sys.argv[1])) as directory:
    (directory / "half").touch()
    print("fills", flush=True)
    sys.stdin.read()
"""


@pytest.mark.parametrize("is_there", [True, False])
def test_what_a_killed_process_left_is_cleared_and_what_a_living_one_fills_is_not(
    is_there: bool, tmp_path: Path
) -> None:
    destination = tmp_path / "new"
    if is_there:
        destination.mkdir()
    # Of a release that named them by its process id, which in a container is always the same.
    (tmp_path / ".new.partial-1").mkdir()
    home = destination if is_there else tmp_path
    command = [sys.executable, "-c", FILLS, str(destination)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "fills\n"
        if is_there:
            with pytest.raises(StoreError, match="is not empty"), appearing(destination):
                raise AssertionError("it is not entered")
        else:
            with pytest.raises(RuntimeError), appearing(destination):
                raise RuntimeError
        (left,) = home.iterdir() if is_there else home.glob(".new.*")
        child.kill()
    assert left.is_dir()
    with appearing(destination) as directory:
        (directory / "file").touch()
    assert [each.name for each in destination.iterdir()] == ["file"]
    assert not left.exists()


def test_a_copy_that_finds_no_room_is_an_error_and_leaves_nothing(tmp_path: Path) -> None:
    with LmdbStore(tmp_path / "live", tables=TABLES, map_bytes=MAP_BYTES) as store:
        store.apply([Submission(writes=(Put("left", b"large", b"v" * 3 * 1024**2, 1),))])
    small = tmp_path / "small"
    small.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", "size=1m", "tmpfs", str(small)], check=True)
    try:
        with reader(tmp_path / "live") as opened, pytest.raises(StoreError), appearing(small / "copy") as directory:
            copy_compact(opened, directory, nothing)
        assert list(small.iterdir()) == []
    finally:
        subprocess.run(["umount", str(small)], check=True)


def test_compacting_gives_the_disk_back_what_was_deleted_and_needs_the_directory_for_itself(tmp_path: Path) -> None:
    with LmdbStore(tmp_path, tables=TABLES, map_bytes=MAP_BYTES) as store:
        writes = tuple(Put("left", b"%d" % number, b"v" * 50_000, 1) for number in range(100))
        store.apply([Submission(writes=writes)])
        store.apply([Submission(writes=tuple(Delete("left", b"%d" % number) for number in range(1, 100)))])
        size = (tmp_path / DATA_FILE).stat().st_size
    with LmdbStore(tmp_path, tables=TABLES, map_bytes=MAP_BYTES), pytest.raises(StoreLocked, match="by process"):
        compact(tmp_path, nothing)
    before, after = compact(tmp_path, nothing)
    assert before >= size > 20 * after
    with LmdbStore(tmp_path, tables=TABLES, map_bytes=MAP_BYTES) as store, store.snapshot() as view:
        assert [key for key, _ in view.scan("left")] == [b"0"]
        assert view.last_sequence() == 2
    assert sorted(each.name for each in tmp_path.iterdir()) == ["data.mdb", "lock.mdb", "opscore.lock"]


READS = """
import lmdb, sys
environment = lmdb.open(sys.argv[1], readonly=True, max_dbs=9)
transaction = environment.begin()
print("reads", flush=True)
sys.stdin.read()
"""


@pytest.mark.parametrize("commits", [10, 11])
def test_a_file_that_another_process_reads_is_not_replaced_and_one_that_was_replaced_all_the_same_is_refused(
    commits: int, tmp_path: Path
) -> None:
    def put(store: LmdbStore, number: int) -> None:
        store.apply([Submission(writes=(Put("left", b"%d" % number, b"", 1),))])

    live, copy = tmp_path / "live", tmp_path / "copy"
    with LmdbStore(live, tables=TABLES, map_bytes=MAP_BYTES) as store:
        for number in range(commits):
            put(store, number)
    with reader(live) as opened, appearing(copy) as directory:
        copy_compact(opened, directory, nothing)
    command = [sys.executable, "-c", READS, str(live)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True) as child:
        assert child.stdout is not None
        assert child.stdout.readline() == "reads\n"
        with pytest.raises(StoreLocked, match="a process that reads it"):
            compact(live, nothing)
        # Somebody restores a backup by hand, under the reader's feet.
        (copy / DATA_FILE).rename(live / DATA_FILE)
        with pytest.raises(StoreLocked, match="a process that still reads the file that was replaced"):
            LmdbStore(live, tables=TABLES, map_bytes=MAP_BYTES)
        with pytest.raises(StoreLocked, match="a process that still reads the file that was replaced"):
            reader(live)
        child.kill()
    with LmdbStore(live, tables=TABLES, map_bytes=MAP_BYTES) as store, store.snapshot() as view:
        assert view.count("left") == commits
