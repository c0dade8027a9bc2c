import random
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

import lmdb
import pytest

from opscore.runtime.errors import (
    StoreDamaged,
    StoreError,
    StoreIncompatible,
    Superseded,
)
from opscore.runtime.storage.files import DATA_FILE
from opscore.runtime.storage.formats import FORMAT
from opscore.runtime.storage.lmdb_snapshot import META_TABLE
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import JOURNAL_TABLE, Expect, Outcomes, Put, Submission
from tests.runtime.storage import store_process
from tests.runtime.storage.lmdb_file import flipped, overwrite, raw
from tests.runtime.storage.store_process import TABLES

FULL = Path("/dev/full")
PROCESS = [sys.executable, store_process.__file__]


def open_store(path: Path, *, map_bytes: int = 64 * 1024**2) -> LmdbStore:
    return LmdbStore(path, tables=TABLES, map_bytes=map_bytes)


def put(key: bytes, body: bytes = b"body", table: str = "left") -> Submission:
    return Submission(writes=(Put(table, key, body, 1),))


# --- batches -----------------------------------------------------------------------------------------------


def test_a_batch_that_fails_half_way_leaves_nothing_behind(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"before")])
        with pytest.raises(StoreError):
            store.apply([put(b"good"), put(b"too long for a key" * 40)])
        with store.snapshot() as view:
            assert [key for key, _ in view.scan("left")] == [b"before"]
        assert store.apply([put(b"after")]) == [2]


def test_a_batch_of_many_submissions_is_one_transaction(tmp_path: Path) -> None:
    def transactions(count: int) -> int:
        path = tmp_path / str(count)
        with open_store(path) as store:
            store.apply([put(b"%d" % number) for number in range(count)])
        with lmdb.open(str(path), max_dbs=16) as environment:
            return int(environment.info()["last_txnid"])

    assert transactions(500) == transactions(1)


# --- damage ------------------------------------------------------------------------------------------------


def test_a_flipped_bit_anywhere_in_a_value_is_found_and_named(tmp_path: Path) -> None:
    body = b"a result"
    with open_store(tmp_path) as store:
        store.apply([put(b"whole", body)])
    length = len(raw(tmp_path, "left")[b"whole"])
    keys = [b"bit %03d" % bit for bit in range(length * 8)]
    with open_store(tmp_path) as store:
        store.apply([put(key, body) for key in keys])
    values = raw(tmp_path, "left")

    overwrite(tmp_path, "left", {key: flipped(values[key], bit) for bit, key in enumerate(keys)})
    with open_store(tmp_path) as store, store.snapshot() as view:
        for key in keys:
            with pytest.raises(StoreDamaged, match=rf"left b'{key.decode()}' is damaged: its checksum"):
                view.get("left", key)
        whole = view.get("left", b"whole")
        assert whole is not None
        assert whole.body == body


def test_a_value_cut_short_is_found(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"a"), put(b"b")])
    values = raw(tmp_path, "left")
    overwrite(tmp_path, "left", {b"a": values[b"a"][:-1], b"b": values[b"b"][:5]})
    with open_store(tmp_path) as store, store.snapshot() as view:
        for key in (b"a", b"b"):
            with pytest.raises(StoreDamaged):
                view.get("left", key)


def test_a_value_that_strayed_to_another_key_or_table_is_found(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"a", b"one"), put(b"b", b"two"), put(b"a", b"three", table="right")])
    values = raw(tmp_path, "left")
    overwrite(tmp_path, "left", {b"b": values[b"a"]})
    overwrite(tmp_path, "right", {b"a": values[b"a"]})
    with open_store(tmp_path) as store, store.snapshot() as view:
        for table, key in (("left", b"b"), ("right", b"a")):
            with pytest.raises(StoreDamaged, match=table):
                view.get(table, key)
            with pytest.raises(StoreDamaged, match=table):
                list(view.scan(table))


def test_a_damaged_value_refuses_only_the_submission_that_depends_on_it(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"a")])
    overwrite(tmp_path, "left", {b"a": b"nothing that was written"})
    with open_store(tmp_path) as store:
        dependent = Submission(expects=(Expect("left", b"a", 1),), writes=(Put("left", b"a", b"", 1),))
        first, second = store.apply([dependent, put(b"b")])
        # Its version is not what anybody expects, and whoever reads it anew is told why.
        assert isinstance(first, Superseded)
        assert second == 2
        with store.snapshot() as view, pytest.raises(StoreDamaged, match=r"left b'a' is damaged"):
            view.get("left", b"a")


def test_a_damaged_sequence_number_is_refused_at_open_because_versions_would_be_used_twice(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"a"), put(b"b"), put(b"c")])
    note = raw(tmp_path, META_TABLE)[b"sequence"]
    lowered = note.replace((3).to_bytes(8, "big"), (1).to_bytes(8, "big"))
    assert lowered != note
    overwrite(tmp_path, META_TABLE, {b"sequence": lowered})
    with pytest.raises(StoreDamaged, match="sequence"):
        open_store(tmp_path)


# --- what can't be opened ----------------------------------------------------------------------------------


def test_a_store_of_a_newer_format_is_refused_by_name_and_left_as_it_was(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"a")])
    overwrite(tmp_path, META_TABLE, {b"format": b"%d" % (FORMAT + 1)})
    content = (tmp_path / DATA_FILE).read_bytes()
    with pytest.raises(
        StoreIncompatible, match=f"{tmp_path} .* it has format {FORMAT + 1}, this release reads up to {FORMAT}"
    ):
        LmdbStore(tmp_path, tables=[*TABLES, "a table of its own"])
    assert (tmp_path / DATA_FILE).read_bytes() == content
    overwrite(tmp_path, META_TABLE, {b"format": b"%d" % FORMAT})
    open_store(tmp_path).close()


@pytest.mark.parametrize("written", [b"0", b"", b"-1", b"1\xff", b"one"])
def test_a_store_whose_format_is_no_number_that_ever_was_is_refused(tmp_path: Path, written: bytes) -> None:
    open_store(tmp_path).close()
    overwrite(tmp_path, META_TABLE, {b"format": written})
    with pytest.raises(StoreIncompatible):
        open_store(tmp_path)


def test_the_lmdb_file_of_another_program_is_refused_and_left_as_it_was(tmp_path: Path) -> None:
    with lmdb.open(str(tmp_path), max_dbs=4) as environment, environment.begin(write=True) as transaction:
        transaction.put(b"theirs", b"data")
    content = (tmp_path / DATA_FILE).read_bytes()
    with pytest.raises(StoreIncompatible, match="another program"):
        open_store(tmp_path)
    assert (tmp_path / DATA_FILE).read_bytes() == content


def test_a_data_file_that_is_not_lmdbs_is_refused_and_the_directory_is_free_again(tmp_path: Path) -> None:
    (tmp_path / DATA_FILE).write_bytes(random.Random(1).randbytes(100_000))
    with pytest.raises(StoreIncompatible, match="not an LMDB environment"):
        open_store(tmp_path)
    (tmp_path / DATA_FILE).unlink()
    open_store(tmp_path).close()


def test_a_directory_that_is_a_file_or_lies_below_one_is_a_store_error(tmp_path: Path) -> None:
    path = tmp_path / "file"
    path.write_text("text")
    for directory in (path, path / "below"):
        with pytest.raises(StoreError, match="can't be used as data directory"):
            open_store(directory)


def test_a_directory_that_may_only_be_read_is_a_store_error(tmp_path: Path) -> None:
    tmp_path.chmod(0o555)
    done = subprocess.run([*PROCESS, "unprivileged", str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("StoreError opscore.lock can't be opened for writing: Permission denied")


def test_a_directory_is_used_although_the_one_above_may_not_be_looked_into(tmp_path: Path) -> None:
    data = tmp_path / "above" / "data"
    data.mkdir(parents=True)
    data.chmod(0o777)
    (tmp_path / "above").chmod(0o311)
    done = subprocess.run([*PROCESS, "unprivileged", str(data)], capture_output=True, text=True, check=True)
    (tmp_path / "above").chmod(0o755)
    assert (done.stdout, done.stderr) == ("", "")
    assert (data / DATA_FILE).exists()


def test_a_data_file_that_may_not_be_read_is_a_store_error(tmp_path: Path) -> None:
    open_store(tmp_path).close()
    tmp_path.chmod(0o777)
    for path in tmp_path.iterdir():
        path.chmod(0o000 if path.name == DATA_FILE else 0o666)
    done = subprocess.run([*PROCESS, "unprivileged", str(tmp_path)], capture_output=True, text=True, check=True)
    assert done.stdout.startswith("StoreError data.mdb can't be read: Permission denied")


# --- processes ---------------------------------------------------------------------------------------------


def test_nothing_acknowledged_is_missing_and_nothing_is_partial_after_kill_9(tmp_path: Path) -> None:
    rng = random.Random(5)
    acknowledged = 0
    for _ in range(5):
        with subprocess.Popen([*PROCESS, "commit", str(tmp_path)], stdout=subprocess.PIPE, text=True) as process:
            assert process.stdout is not None
            lines = [process.stdout.readline() for _ in range(rng.randrange(20, 120))]
            process.kill()
            # What it still said before it died counts as well.
            lines += process.stdout.read().splitlines(keepends=True)
        acknowledged = max(int(line) for line in lines if line.endswith("\n"))
        with open_store(tmp_path) as store, store.snapshot() as view:
            last = view.last_sequence()
            assert last >= acknowledged
            expected = [(number, b"%d " % number * 200) for number in range(1, last + 1)]
            for table in (*TABLES, JOURNAL_TABLE):
                found = [(int.from_bytes(key, "big"), stored.body) for key, stored in view.scan(table)]
                assert found == expected
    assert acknowledged > 100


def test_a_batch_under_way_keeps_the_files_and_the_directory_past_close(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    class Closing(LmdbStore):
        def _transact(self, batch: Sequence[Submission]) -> Outcomes:
            self.close()  # As the node does once it has waited long enough for a disk that does not answer.
            return super()._transact(batch)

    store = Closing(tmp_path, tables=TABLES)
    assert store.apply([put(b"a")]) == [1]
    assert "the disk does not answer" in caplog.text
    with pytest.raises(StoreError, match="is in use by process"):
        open_store(tmp_path)
    store.close()
    with open_store(tmp_path) as again, again.snapshot() as view:
        assert view.get("left", b"a") is not None


def test_errors_that_are_kept_keep_no_reader_however_many_came_out_of_snapshots(tmp_path: Path) -> None:
    kept: list[Exception] = []
    with open_store(tmp_path) as store:
        store.apply([put(b"%d" % number) for number in range(10)])
        for _ in range(600):
            try:
                with store.snapshot() as view:
                    list(map(int.from_bytes, view.scan("left")))  # type: ignore[arg-type]
            except TypeError as error:
                kept.append(error)
        overwrite_open(store, b"1")
        for _ in range(600):
            try:
                with store.snapshot() as view:
                    list(view.scan("left"))
            except StoreDamaged as error:
                kept.append(error)
        assert len(kept) == 1_200
        with store.snapshot() as view:
            assert store.measure().readers <= 2
        with pytest.raises(StoreError, match="after its block"):
            view.get("left", b"0")


def overwrite_open(store: LmdbStore, key: bytes) -> None:
    """Damage a value of an open store, whose process may not open it a second time."""
    with store._env.begin(write=True) as transaction:  # noqa: SLF001
        transaction.put(key, b"nothing that was written", db=store._tables["left"])  # noqa: SLF001
