import os
import shutil
from pathlib import Path

import lmdb
import pytest

from opscore.runtime.errors import StoreDamaged, StoreError
from opscore.runtime.storage.extent import refuse_truncated
from opscore.runtime.storage.files import DATA_FILE
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Delete, Put, Submission

PAGE = 4_096


def a_store(path: Path) -> dict[bytes, bytes]:
    """A store with small and large values and a free list; returns what it holds."""
    rows = {b"%04d" % number: b"%d" % number * (5_000 if number % 20 == 0 else 200) for number in range(160)}
    with LmdbStore(path, tables=["t"]) as store:
        for key, body in rows.items():
            store.apply([Submission(writes=(Put("t", key, body, 1), Put("t", b"gone" + key, body, 1)))])
        for key in rows:
            store.apply([Submission(writes=(Delete("t", b"gone" + key),))])
    return rows


def test_a_file_cut_short_anywhere_is_refused_at_open_or_reads_right_and_never_kills_the_process(
    tmp_path: Path,
) -> None:
    rows = a_store(tmp_path / "whole")
    size = (tmp_path / "whole" / DATA_FILE).stat().st_size
    refused = 0
    for length in {*range(0, size, 5 * PAGE), *range(0, 3 * PAGE, PAGE // 2), size - 1, size - PAGE}:
        cut = tmp_path / "cut"
        shutil.copytree(tmp_path / "whole", cut)
        os.truncate(cut / DATA_FILE, length)
        try:
            with LmdbStore(cut, tables=["t"]) as store, store.snapshot() as view:
                assert {key: stored.body for key, stored in view.scan("t")} == rows
        except StoreError:
            refused += 1
        shutil.rmtree(cut)
    assert refused > size // PAGE // 5 // 2


def test_a_file_that_lost_half_of_itself_is_called_damaged(tmp_path: Path) -> None:
    a_store(tmp_path)
    path = tmp_path / DATA_FILE
    os.truncate(path, path.stat().st_size // 2)
    with pytest.raises(StoreDamaged, match=r"data\.mdb is damaged: it is cut short: page [\d,]+ is needed"):
        LmdbStore(tmp_path, tables=["t"])


def test_a_file_that_lost_the_end_of_a_large_value_is_refused(tmp_path: Path) -> None:
    with LmdbStore(tmp_path, tables=["t"]) as store:
        for number in range(20):
            store.apply([Submission(writes=(Put("t", b"%d" % number, b"v", 1),))])
        # Every other page that this takes is one of those that were given back, so the value ends the file.
        store.apply([Submission(writes=(Put("t", b"k", b"v" * 50 * PAGE, 1),))])
    path = tmp_path / DATA_FILE
    os.truncate(path, path.stat().st_size - PAGE)
    with pytest.raises(StoreDamaged, match="cut short"):
        LmdbStore(tmp_path, tables=["t"])


def test_an_emptied_file_is_refused_rather_than_begun_anew(tmp_path: Path) -> None:
    a_store(tmp_path)
    os.truncate(tmp_path / DATA_FILE, 0)
    with pytest.raises(StoreDamaged, match="it is empty"):
        LmdbStore(tmp_path, tables=["t"])
    assert (tmp_path / DATA_FILE).stat().st_size == 0


def test_a_sound_file_that_ends_before_its_page_count_is_opened(tmp_path: Path) -> None:
    large = Put("t", b"large", b"v" * 8 * PAGE, 1)
    with LmdbStore(tmp_path, tables=["t"]) as store:
        # Pages taken and given back within one transaction are counted and never written.
        store.apply([Submission(writes=(large, Delete("t", b"large"), Put("t", b"small", b"v", 1)))])
    with lmdb.open(str(tmp_path), max_dbs=8) as environment:
        counted = (environment.info()["last_pgno"] + 1) * environment.stat()["psize"]
    assert (tmp_path / DATA_FILE).stat().st_size < counted
    with LmdbStore(tmp_path, tables=["t"]) as store:
        store.apply([Submission(writes=(large,))])
        with store.snapshot() as view:
            assert [key for key, _ in view.scan("t")] == [b"large", b"small"]


def test_a_short_file_whose_pages_are_not_as_written_is_refused(tmp_path: Path) -> None:
    a_store(tmp_path)
    path = tmp_path / DATA_FILE
    content = path.read_bytes()[: path.stat().st_size // 2]
    path.write_bytes(content[: 2 * PAGE] + b"\xff" * (len(content) - 2 * PAGE))
    with pytest.raises(StoreDamaged):
        refuse_truncated(path)


def test_a_file_that_is_not_there_yet_or_is_not_lmdbs_is_left_alone(tmp_path: Path) -> None:
    refuse_truncated(tmp_path / DATA_FILE)
    assert list(tmp_path.iterdir()) == []
    (tmp_path / DATA_FILE).write_bytes(b"nothing of ours " * 1_000)
    refuse_truncated(tmp_path / DATA_FILE)
    assert (tmp_path / DATA_FILE).read_bytes() == b"nothing of ours " * 1_000
