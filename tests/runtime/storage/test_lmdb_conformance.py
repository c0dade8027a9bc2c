from pathlib import Path

from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Store
from tests.runtime.storage.store_conformance import SizedStoreConformance, StoreConformance
from tests.runtime.storage.store_ledger import INDEXES, TABLES


class TestLmdbStore(StoreConformance, SizedStoreConformance):
    def open_store(self, place: Path) -> Store:
        return LmdbStore(place, tables=TABLES, indexes=INDEXES, map_bytes=64 * 1024**2)

    def open_small_store(self, place: Path) -> Store:
        return LmdbStore(place, tables=TABLES, indexes=INDEXES, map_bytes=3 * 1024**2)
