# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What is on the simulated disk after whatever went wrong: what was acknowledged, and no more than was submitted."""

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from opscore.runtime.errors import CommitUncertain, NotReady, StoreError, StoreFull
from opscore.runtime.simulation.disk import Disk, SimulatedStore
from opscore.runtime.simulation.faults import Dice, Faults
from opscore.runtime.simulation.writer import Room, SimulatedWriter, WriterFailed
from opscore.runtime.store import Put, Submission


def put(key: bytes, *, new_work: bool = False) -> Submission:
    return Submission(writes=(Put("rows", key, b"", 1),), new_work=new_work)


class Bench:
    def __init__(self, seed: int = 0, **rates: float) -> None:
        self.disk, self.room = Disk(tables=["rows"]), Room()
        self.dice = Dice(seed, Faults(**rates), lambda _: None)
        self.store = SimulatedStore(self.disk)
        self.writer = SimulatedWriter(self.store, self.dice, self.room)

    def held(self) -> list[bytes]:
        return [key for key, _ in self.disk.view().scan("rows")]


async def test_what_is_acknowledged_is_there(autojump_clock: MockClock) -> None:
    bench = Bench()
    assert await bench.writer.apply([put(b"a"), put(b"b")]) == [1, 2]
    bench.writer.sever(1.0)
    assert bench.held() == [b"a", b"b"]
    with pytest.raises(NotReady):
        await bench.writer.apply([put(b"c")])


@pytest.mark.parametrize(("included", "held"), [(0.0, []), (0.5, [b"a"]), (1.0, [b"a", b"b"])])
async def test_a_death_leaves_a_prefix_of_what_is_under_way(
    included: float, held: list[bytes], autojump_clock: MockClock
) -> None:
    bench = Bench(commit_stalled=1.0)
    ended: list[type[Exception]] = []

    async def apply() -> None:
        try:
            await bench.writer.apply([put(b"a"), put(b"b")])
        except NotReady as error:
            ended.append(type(error))

    async with trio.open_nursery() as nursery:
        nursery.start_soon(apply)
        await wait_all_tasks_blocked()
        began = trio.current_time()
        bench.writer.sever(included)
    assert (bench.held(), ended) == (held, [NotReady])
    assert trio.current_time() == began, "the dead wait for nothing"


async def test_a_sync_that_fails_leaves_all_or_nothing_and_no_other_commit(autojump_clock: MockClock) -> None:
    seen = set()
    for seed in range(20):
        bench = Bench(seed, commit_uncertain=1.0)
        with pytest.raises(CommitUncertain):
            await bench.writer.apply([put(b"a"), put(b"b")])
        with pytest.raises(NotReady):
            await bench.writer.apply([put(b"c")])
        seen.add(tuple(bench.held()))
    assert seen == {(), (b"a", b"b")}


async def test_a_writer_that_fails_leaves_all_or_nothing_and_goes_on(autojump_clock: MockClock) -> None:
    seen = set()
    for seed in range(20):
        bench = Bench(seed, commit_unanswered=1.0)
        with pytest.raises(WriterFailed):
            await bench.writer.apply([put(b"a"), put(b"b")])
        seen.add(tuple(bench.held()))
        bench.dice.silence.set()
        assert await bench.writer.apply([put(b"c")]) == [len(bench.held())]
    assert seen == {(), (b"a", b"b")}


async def test_an_error_before_the_commit_leaves_nothing(autojump_clock: MockClock) -> None:
    bench = Bench(commit_refused=1.0)
    with pytest.raises(StoreError, match="input/output"):
        await bench.writer.apply([put(b"a")])
    assert bench.held() == []


async def test_a_full_disk_refuses_each_and_a_nearly_full_one_new_work(autojump_clock: MockClock) -> None:
    bench = Bench()
    bench.room.nearly_full_until = trio.current_time() + 10
    first, second = await bench.writer.apply([put(b"a", new_work=True), put(b"b")])
    assert isinstance(first, StoreFull)
    assert second == 1
    bench.room.full_until = trio.current_time() + 10
    assert [type(each) for each in await bench.writer.apply([put(b"c")])] == [StoreFull]
    await trio.sleep(10)
    assert await bench.writer.apply([put(b"c", new_work=True)]) == [2]
    assert bench.held() == [b"b", b"c"]


async def test_a_batch_that_is_split_is_there_in_part_before_the_whole(autojump_clock: MockClock) -> None:
    bench = Bench(commit_split=1.0)
    parts: list[int] = []

    async def look() -> None:
        while True:
            parts.append(len(bench.held()))
            await trio.sleep(0.01)

    async with trio.open_nursery() as nursery:
        nursery.start_soon(look)
        assert await bench.writer.apply([put(bytes([number])) for number in range(1, 6)]) == [1, 2, 3, 4, 5]
        nursery.cancel_scope.cancel()
    assert any(0 < count < 5 for count in parts)
    assert len(bench.held()) == 5


async def test_once_nothing_goes_wrong_any_more_nothing_does(autojump_clock: MockClock) -> None:
    bench = Bench(commit_refused=1.0)
    bench.dice.silence.set()
    assert await bench.writer.apply([put(b"a")]) == [1]
