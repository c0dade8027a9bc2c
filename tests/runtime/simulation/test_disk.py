"""The simulated disk keeps what the store's protocol promises: the same suite as for the real one."""

from pathlib import Path

import pytest

from opscore.runtime.errors import StoreError
from opscore.runtime.simulation.disk import Disk, SimulatedStore
from opscore.runtime.store import Put, Store, Submission
from tests.runtime.storage.store_conformance import StoreConformance
from tests.runtime.storage.store_ledger import INDEXES, TABLES


class Opened(SimulatedStore):
    """Remembers its disk, for whoever opens it again."""

    def __init__(self, disk: Disk) -> None:
        super().__init__(disk)
        self.disk = disk


class TestSimulatedDisk(StoreConformance):
    def open_store(self, place: Path) -> Store:
        return Opened(Disk(tables=TABLES, indexes=INDEXES))

    def reopen(self, store: Store, place: Path) -> Store:
        assert isinstance(store, Opened)
        store.close()
        return Opened(store.disk)


def test_a_disk_is_open_once_and_tells_of_what_is_applied() -> None:
    disk, told = Disk(tables=TABLES), list[int]()
    store = SimulatedStore(disk, on_applied=lambda _, version: told.append(version))
    with pytest.raises(StoreError, match="open already"):
        SimulatedStore(disk)
    store.apply([Submission(writes=(Put("plain", b"a", b"", 1),)), Submission()])
    store.close()
    SimulatedStore(disk).close()
    assert told == [1, 2]
