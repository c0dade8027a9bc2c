"""Who looks at a store is told the same of its room as who writes to it."""

import subprocess
import sys
from pathlib import Path

from opscore.runtime.errors import StoreFull
from opscore.runtime.storage.lmdb_reader import LmdbReader
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Delete, Put, Submission
from tests.runtime.storage.store_process import TABLES

SMALL = 4 * 1024**2
LARGE = 64 * 1024**2


def look(path: Path) -> tuple[bool, int]:
    """Whether only the reserve is left, and what the store may grow to, as another process finds it."""
    program = f"""if True:
        from pathlib import Path
        from opscore.runtime.storage.lmdb_reader import LmdbReader
        with LmdbReader(Path({str(path)!r}), tables={tuple(TABLES)!r}, map_bytes=0) as reader:
            print(reader.only_reserve_left(), reader.measure().map_bytes)
    """
    done = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True, timeout=60)
    left, map_bytes = done.stdout.split()
    return left == "True", int(map_bytes)


def fill(store: LmdbStore, row_bytes: int = 10_000) -> None:
    """Take new work until it is refused."""
    for number in range(10_000):
        work = Submission(writes=(Put("left", b"%05d" % number, b"v" * row_bytes, 1),), new_work=True)
        if isinstance(store.apply([work])[0], StoreFull):
            return
    raise AssertionError("it takes everything")


def test_a_map_that_was_made_smaller_counts_as_the_writer_has_it(tmp_path: Path) -> None:
    with LmdbStore(tmp_path, tables=TABLES, map_bytes=LARGE):
        assert look(tmp_path) == (False, LARGE)
    with LmdbStore(tmp_path, tables=TABLES, map_bytes=SMALL) as store:
        assert look(tmp_path) == (False, SMALL)
        fill(store)
        assert look(tmp_path) == (True, SMALL)
    assert look(tmp_path) == (True, SMALL)
    with LmdbStore(tmp_path, tables=TABLES, map_bytes=LARGE) as store:
        assert look(tmp_path) == (False, LARGE)


def test_pages_that_a_snapshot_holds_count_as_the_writer_counts_them(tmp_path: Path) -> None:
    with LmdbStore(tmp_path, tables=TABLES, map_bytes=LARGE) as store:
        fill(store, row_bytes=1_000_000)
        work = [Submission(writes=(Put("left", b"new", b"v", 1),), new_work=True)]
        with store.snapshot():
            for number in range(70):
                # The large rows are given back, and by the snapshot's age nothing of that can be used.
                done = store.apply([Submission(writes=(Delete("left", b"%05d" % (number % 20)),))])
                assert isinstance(done[0], int)
            assert isinstance(store.apply(work)[0], StoreFull)
            assert look(tmp_path)[0]
        assert isinstance(store.apply(work)[0], int)
        assert not look(tmp_path)[0]


def test_a_store_that_always_had_one_map_is_not_written_to_when_it_is_opened(tmp_path: Path) -> None:
    with LmdbStore(tmp_path, tables=TABLES, map_bytes=SMALL):
        pass
    before = (tmp_path / "data.mdb").read_bytes()
    with LmdbStore(tmp_path, tables=TABLES, map_bytes=SMALL):
        pass
    assert (tmp_path / "data.mdb").read_bytes() == before
    with LmdbReader(tmp_path, tables=TABLES, map_bytes=0) as reader:
        assert reader.measure().map_bytes == SMALL
