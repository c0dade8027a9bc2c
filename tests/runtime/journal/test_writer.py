import threading
from collections.abc import AsyncIterator, Iterator, Sequence
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from opscore.runtime.errors import CommitUncertain, NotReady, StoreFull, Superseded
from opscore.runtime.journal.writer import ThreadWriter
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Expect, Outcomes, Put, Submission


class SlowStore(LmdbStore):
    """A store whose disk answers when the test lets it."""

    def __init__(self, path: Path, *, map_bytes: int = 64 * 1024**2) -> None:
        super().__init__(path, tables=["t"], map_bytes=map_bytes)
        self.lets_go = threading.Event()
        self.lets_go.set()
        self.begun = threading.Semaphore(0)
        self.goes_bad = False
        self.threads: set[str] = set()

    def apply(self, batch: Sequence[Submission]) -> Outcomes:
        self.threads.add(threading.current_thread().name)
        self.begun.release()
        assert self.lets_go.wait(10)
        if self.goes_bad:
            raise CommitUncertain(str(self.path), "Input/output error")
        return super().apply(batch)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[SlowStore]:
    with SlowStore(tmp_path) as opened:
        yield opened


@asynccontextmanager
async def open_writer(store: SlowStore) -> AsyncIterator[ThreadWriter]:
    writer = ThreadWriter(store)
    try:
        yield writer
    finally:
        store.lets_go.set()
        writer.close()


def put(key: bytes, body: bytes = b"") -> Submission:
    return Submission(writes=(Put("t", key, body, 1),))


def keys(store: LmdbStore) -> list[bytes]:
    with store.snapshot() as view:
        return [key for key, _ in view.scan("t")]


async def begun(store: SlowStore) -> None:
    """Wait until the thread is at a batch."""
    await trio.to_thread.run_sync(store.begun.acquire)


async def test_a_batch_is_applied_in_the_writers_own_thread_and_answered_submission_by_submission(
    store: SlowStore,
) -> None:
    async with open_writer(store) as writer:
        stale = Submission(expects=(Expect("t", b"a", 9),))
        first, refused, second = await writer.apply([put(b"a"), stale, put(b"b")])
    assert (first, second) == (1, 2)
    assert isinstance(refused, Superseded)
    assert keys(store) == [b"a", b"b"]
    assert store.threads == {"opscore-writer"}


async def test_batches_are_applied_one_at_a_time_in_the_order_they_came(store: SlowStore) -> None:
    versions = []

    async def apply(writer: ThreadWriter, key: bytes) -> None:
        versions.append((key, await writer.apply([put(key)])))

    async with open_writer(store) as writer, trio.open_nursery() as nursery:
        store.lets_go.clear()
        for key in (b"a", b"b", b"c"):
            nursery.start_soon(apply, writer, key)
            await wait_all_tasks_blocked()
        await begun(store)
        assert not store.begun.acquire(blocking=False)
        store.lets_go.set()
    assert versions == [(b"a", [1]), (b"b", [2]), (b"c", [3])]


async def test_a_batch_under_way_outlasts_the_cancellation_of_whoever_waits_for_it(store: SlowStore) -> None:
    outcomes: list[Outcomes] = []

    scopes: list[trio.CancelScope] = []

    async def apply(writer: ThreadWriter, key: bytes) -> None:
        with trio.CancelScope() as own:
            scopes.append(own)
            outcomes.append(await writer.apply([put(key)]))

    async with open_writer(store) as writer, trio.open_nursery() as nursery:
        store.lets_go.clear()
        nursery.start_soon(apply, writer, b"under way")
        await begun(store)
        nursery.start_soon(apply, writer, b"in line")
        await wait_all_tasks_blocked()
        for scope in scopes:
            scope.cancel()
        await wait_all_tasks_blocked()
        assert outcomes == []
        store.lets_go.set()
    assert outcomes == [[1], [2]]
    assert keys(store) == [b"in line", b"under way"]


async def test_settled_waits_for_the_batch_under_way(store: SlowStore) -> None:
    order = []

    async def settle(writer: ThreadWriter) -> None:
        await writer.settled()
        order.append("settled")

    async def apply(writer: ThreadWriter) -> None:
        await writer.apply([put(b"a")])
        order.append("applied")

    async with open_writer(store) as writer, trio.open_nursery() as nursery:
        await writer.settled()
        store.lets_go.clear()
        nursery.start_soon(apply, writer)
        await begun(store)
        nursery.start_soon(settle, writer)
        await wait_all_tasks_blocked()
        assert order == []
        store.lets_go.set()
    assert order == ["applied", "settled"]


async def test_a_full_store_refuses_what_does_not_fit_and_the_writer_goes_on(tmp_path: Path) -> None:
    with SlowStore(tmp_path, map_bytes=1024**2) as store:
        async with open_writer(store) as writer:
            large, small = await writer.apply([put(b"large", b"v" * 2 * 1024**2), put(b"small")])
            assert isinstance(large, StoreFull)
            assert small == 1
            assert await writer.apply([put(b"more")]) == [2]


async def test_after_a_commit_whose_outcome_is_unknown_the_writer_takes_nothing_more(store: SlowStore) -> None:
    async with open_writer(store) as writer:
        store.goes_bad = True
        with pytest.raises(CommitUncertain):
            await writer.apply([put(b"a")])
        store.goes_bad = False
        with pytest.raises(CommitUncertain):
            await writer.apply([put(b"b")])
    assert keys(store) == []


async def test_a_batch_that_waits_behind_an_unknown_outcome_is_not_applied(store: SlowStore) -> None:
    refused = []

    async def apply(writer: ThreadWriter, key: bytes) -> None:
        with pytest.raises(CommitUncertain):
            await writer.apply([put(key)])
        refused.append(key)

    async with open_writer(store) as writer, trio.open_nursery() as nursery:
        store.goes_bad = True
        store.lets_go.clear()
        nursery.start_soon(apply, writer, b"a")
        await begun(store)
        nursery.start_soon(apply, writer, b"b")
        await wait_all_tasks_blocked()
        store.lets_go.set()
        store.goes_bad = True
    assert refused == [b"a", b"b"]
    assert keys(store) == []


async def test_a_closed_writer_refuses_and_has_finished_what_it_was_at(store: SlowStore) -> None:
    writer = ThreadWriter(store)
    assert await writer.apply([put(b"a")]) == [1]
    writer.close()
    with pytest.raises(NotReady, match="the store is closed"):
        await writer.apply([put(b"b")])
    assert keys(store) == [b"a"]
    assert "opscore-writer" not in {thread.name for thread in threading.enumerate()}
    await writer.settled()


async def test_closing_waits_no_longer_than_told_for_a_disk_that_does_not_answer(store: SlowStore) -> None:
    outcomes: list[Outcomes] = []

    async def apply(writer: ThreadWriter) -> None:
        outcomes.append(await writer.apply([put(b"a")]))

    async with open_writer(store) as writer, trio.open_nursery() as nursery:
        store.lets_go.clear()
        nursery.start_soon(apply, writer)
        await begun(store)
        writer.close(timeout_s=0.01)
        assert outcomes == []
        store.lets_go.set()
    assert outcomes == [[1]]
