from pathlib import Path

from opscore.runtime.store import Put, Store, Submission
from tests.runtime.storage.memory_store import MemoryStore
from tests.runtime.storage.store_conformance import StoreConformance
from tests.runtime.storage.store_ledger import INDEXES, TABLES


class TestMemoryStore(StoreConformance):
    def open_store(self, place: Path) -> Store:
        return MemoryStore(tables=TABLES, indexes=INDEXES)

    def reopen(self, store: Store, place: Path) -> Store:
        assert isinstance(store, MemoryStore)
        return store.reopen()


def test_a_store_in_memory_and_the_one_it_was_reopened_from_go_their_own_ways() -> None:
    with MemoryStore(tables=TABLES) as store:
        store.apply([Submission(writes=(Put("plain", b"a", b"", 1),))])
        again = store.reopen()
        again.apply([Submission(writes=(Put("plain", b"b", b"", 1),))])
        third = store.reopen()
        with again.snapshot() as after, third.snapshot() as before:
            assert [view.count("plain") for view in (before, after)] == [1, 2]
