"""A store that runs out of room: the real file, a small map, a small file system, a limit on the file's size."""

import contextlib
import os
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from opscore.runtime.errors import CommitUncertain, StoreFull, StoreReadOnly
from opscore.runtime.storage.files import DATA_FILE
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Delete, Outcomes, Put, Submission
from tests.runtime.storage import store_process
from tests.runtime.storage.store_process import TABLES

FULL = Path("/dev/full")
PROCESS = [sys.executable, store_process.__file__]


def open_store(path: Path, *, map_bytes: int = 64 * 1024**2) -> LmdbStore:
    return LmdbStore(path, tables=TABLES, map_bytes=map_bytes)


def put(key: bytes, body: bytes = b"body", table: str = "left") -> Submission:
    return Submission(writes=(Put(table, key, body, 1),))


def new_work(key: bytes) -> Submission:
    return Submission(writes=(Put("left", key, b"v" * 10_000, 1),), new_work=True)


def divert_writes(path: Path, step: int, target: Path) -> None:
    """Send this process's writes to the data file elsewhere: those of the pages (0), or those that make them visible.

    LMDB has a descriptor for each of the two steps of a commit.
    """
    links = [link for link in Path("/proc/self/fd").iterdir() if link.is_symlink()]
    descriptors = sorted(int(link.name) for link in links if link.readlink() == path / DATA_FILE)
    diversion = os.open(target, os.O_WRONLY if target == FULL else os.O_RDONLY)
    os.dup2(diversion, descriptors[step])
    os.close(diversion)


def test_a_full_map_refuses_exactly_what_does_not_fit_and_takes_smaller_ones_later(tmp_path: Path) -> None:
    with open_store(tmp_path, map_bytes=1024**2) as store:
        store.apply([put(b"kept", b"v" * 100_000)])
        larges = [put(b"large %d" % number, b"v" * 2 * 1024**2) for number in range(2)]
        outcomes = store.apply([put(b"one"), larges[0], put(b"two"), larges[1], put(b"three")])
        assert [each for each in outcomes if isinstance(each, int)] == [2, 3, 4]
        assert isinstance(outcomes[1], StoreFull)
        assert "the map is at its configured size" in str(outcomes[1])
        assert isinstance(outcomes[3], StoreFull)
        with store.snapshot() as view:
            assert [key for key, _ in view.scan("left")] == [b"kept", b"one", b"three", b"two"]
            assert view.last_sequence() == 4
        assert store.apply([Submission(writes=(Delete("left", b"kept"),))]) == [5]
    with open_store(tmp_path, map_bytes=1024**2) as store, store.snapshot() as view:
        assert [key for key, _ in view.scan("left")] == [b"one", b"three", b"two"]


def test_a_store_that_takes_nothing_says_so_to_a_large_batch_without_trying_each_alone(tmp_path: Path) -> None:
    class Counting(LmdbStore):
        tries = 0

        def _transact(self, batch: Sequence[Submission]) -> Outcomes:
            self.tries += 1
            return super()._transact(batch)

    with Counting(tmp_path, tables=TABLES, map_bytes=1024**2) as store:
        outcomes = store.apply([put(b"%d" % number, b"v" * 2 * 1024**2) for number in range(1_000)])
        assert all(isinstance(each, StoreFull) for each in outcomes)
        assert store.tries < 40


def test_the_last_twentieth_is_kept_from_new_work_and_used_to_finish_and_to_make_room(tmp_path: Path) -> None:
    with open_store(tmp_path, map_bytes=12 * 1024**2) as store:
        taken = 0
        while isinstance(store.apply([new_work(b"%d" % taken)])[0], int):
            taken += 1
        share = store.measure().used_bytes / (12 * 1024**2)
        assert 0.93 < share < 0.96
        (refused,) = store.apply([new_work(b"more")])
        assert isinstance(refused, StoreFull)
        assert "the last 5% are kept" in str(refused)
        assert [type(each) for each in store.apply([put(b"finish"), new_work(b"more")])] == [int, StoreFull]
        # A reader keeps every page that is given back: room is made out of the reserve.
        with store.snapshot():
            bulk = Submission(writes=tuple(Delete("left", b"%d" % number) for number in range(taken // 2)))
            assert [type(each) for each in store.apply([bulk])] == [int]
        assert isinstance(store.apply([new_work(b"more")])[0], int)


def on_small_disk(path: Path, command: Sequence[str]) -> list[str] | None:
    """The command with a small disk of its own mounted there; None where that is not allowed.

    A namespace of one's own may mount it without touching the machine's.
    """
    mount = ["unshare", "--map-root-user", "--mount", "mount", "-t", "tmpfs", "-o", "size=4m", "none"]
    if subprocess.run([*mount, str(path)], capture_output=True, check=False).returncode:
        return None
    script = 'mount -t tmpfs -o size=4m none "$1" && shift && exec "$@"'
    return ["unshare", "--map-root-user", "--mount", "sh", "-c", script, "sh", str(path), *command]


@pytest.mark.parametrize("way", ["tmpfs", "limited"])
def test_a_full_disk_refuses_new_work_leaves_nothing_half_written_and_reads_go_on(way: str, tmp_path: Path) -> None:
    command = [*PROCESS, "limited", str(tmp_path)]
    if way == "tmpfs":
        command = on_small_disk(tmp_path, [*PROCESS, "fill", str(tmp_path)]) or command
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    assert done.stderr == ""
    full, *rest = done.stdout.splitlines()
    assert full.startswith(f"full {tmp_path} is full (")
    assert rest == ["whole", "small fits"]


def test_a_full_disk_without_the_file_that_readers_share_refuses_to_open_until_there_is_room(tmp_path: Path) -> None:
    command = on_small_disk(tmp_path, [*PROCESS, "crowded", str(tmp_path)])
    if command is None:
        pytest.skip("no disk may be mounted here")
    done = subprocess.run(command, capture_output=True, text=True, check=False, timeout=60)
    assert (done.returncode, done.stderr) == (0, "")
    full = f"{tmp_path} is full (there is no room for lock.mdb); free space, and the same request will be accepted"
    assert done.stdout.splitlines() == [f"LmdbReader {full}", f"LmdbStore {full}", "open", "open"]


@pytest.mark.parametrize("step", [0, 1])
def test_a_commit_that_the_disk_refuses_is_uncertain_and_nothing_of_it_is_there_after_a_reopen(
    step: int, tmp_path: Path
) -> None:
    store = open_store(tmp_path)
    store.apply([put(b"before")])
    # A descriptor that may not be written answers as a disk does that went bad.
    divert_writes(tmp_path, step, tmp_path / DATA_FILE)
    for _ in range(2):
        with pytest.raises(CommitUncertain, match="start it again"):
            store.apply([put(b"during")])
    store.close()
    with open_store(tmp_path) as again, again.snapshot() as view:
        assert [key for key, _ in view.scan("left")] == [b"before"]


def test_a_disk_that_is_full_at_the_last_step_of_a_commit_leaves_it_uncertain(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    divert_writes(tmp_path, 1, FULL)
    for _ in range(2):
        with pytest.raises(CommitUncertain):
            store.apply([put(b"during")])
    store.close()


def test_a_disk_that_is_full_before_that_refuses_the_batch_and_reads_go_on(tmp_path: Path) -> None:
    store = open_store(tmp_path)
    store.apply([put(b"before")])
    divert_writes(tmp_path, 0, FULL)
    (outcome,) = store.apply([put(b"during")])
    assert isinstance(outcome, StoreFull)
    assert "No space left on device" in str(outcome)
    with store.snapshot() as view:
        assert [key for key, _ in view.scan("left")] == [b"before"]
    store.close()


def test_a_file_that_may_no_longer_be_written_refuses_work_reads_go_on_and_it_resumes_by_itself(tmp_path: Path) -> None:
    with open_store(tmp_path) as store:
        store.apply([put(b"before")])
        with immutable(tmp_path / DATA_FILE):
            for _ in range(2):
                with pytest.raises(StoreReadOnly, match="Operation not permitted"):
                    store.apply([put(b"during")])
                with store.snapshot() as view:
                    assert [key for key, _ in view.scan("left")] == [b"before"]
        assert store.apply([put(b"after")]) == [2]
    with open_store(tmp_path) as store, store.snapshot() as view:
        assert [key for key, _ in view.scan("left")] == [b"after", b"before"]


@contextlib.contextmanager
def immutable(file: Path) -> Iterator[None]:
    """The kernel refuses every write, also to who has it open already."""
    subprocess.run(["chattr", "+i", file], check=True)
    try:
        yield
    finally:
        subprocess.run(["chattr", "-i", file], check=True)


def test_pages_that_a_long_snapshot_holds_are_no_room_for_new_work(tmp_path: Path) -> None:
    with open_store(tmp_path, map_bytes=12 * 1024**2) as store:
        with store.snapshot():
            while isinstance(outcome := store.apply([new_work(b"again")])[0], int):
                pass
            assert "the last 5% are kept" in str(outcome)
            assert [type(each) for each in store.apply([put(b"finish")])] == [int]
        assert isinstance(store.apply([new_work(b"again")])[0], int)
