# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock, wait_all_tasks_blocked

from opscore.actors.errors import ActorFailed
from opscore.actors.spec import ChildSpec, SupervisorSpec
from opscore.actors.system import open_system
from opscore.runtime.errors import CommitUnanswered, CommitUncertain, StoreFull, Superseded
from opscore.runtime.journal.commit_line import CommitLine, Journal
from opscore.runtime.journal.feed import Feed
from opscore.runtime.journal.journal import BATCH_MAX, JournalActor, JournalMeter
from opscore.runtime.journal.tables import OPEN_SESSIONS
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Expect, Snapshot, Submission
from tests.runtime.journal_stage import HeldWriter, Stage, Stumble, keys, open_stage_store, put, stage


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    with open_stage_store(tmp_path) as opened:
        yield opened


async def test_a_commit_is_answered_with_its_version_after_the_sync_and_not_before(store: LmdbStore) -> None:
    answers = []

    async def commit(on: Stage) -> None:
        answers.append(await on.journal.commit(put("a")))

    async with stage(store) as on, trio.open_nursery() as nursery:
        on.writer.hold()
        nursery.start_soon(commit, on)
        await wait_all_tasks_blocked()
        assert len(on.writer.batches) == 1
        assert answers == []
        on.writer.release()
    assert answers == [1]


async def test_what_comes_while_the_writer_is_busy_becomes_one_batch(store: LmdbStore) -> None:
    async with stage(store) as on, trio.open_nursery() as nursery:
        on.writer.hold()
        nursery.start_soon(on.journal.commit, put("first"))
        await wait_all_tasks_blocked()
        for number in range(100):
            nursery.start_soon(on.journal.commit, put(f"{number:03}"))
        await wait_all_tasks_blocked()
        on.writer.release()
    assert [len(batch) for batch in on.writer.batches] == [1, 100]


async def test_more_than_a_batch_holds_is_applied_in_several_and_every_waiter_is_answered(store: LmdbStore) -> None:
    versions: list[int] = []

    async def commit(on: Stage, number: int) -> None:
        versions.append(await on.journal.commit(put(f"{number % 50}")))

    async with stage(store) as on, trio.open_nursery() as nursery:
        on.writer.hold()
        for number in range(BATCH_MAX + 500):
            nursery.start_soon(commit, on, number)
        await wait_all_tasks_blocked()
        on.writer.release()
    assert sorted(versions) == list(range(1, BATCH_MAX + 501))
    assert max(len(batch) for batch in on.writer.batches) <= BATCH_MAX
    assert len(on.writer.batches) <= 3


async def test_a_refused_submission_fails_its_own_sender_and_nobody_else(store: LmdbStore) -> None:
    refused = []

    async def refuse(on: Stage) -> None:
        with pytest.raises(Superseded) as caught:
            await on.journal.commit(Submission(expects=(Expect("t", b"a", 7),), writes=put("b").writes))
        refused.append(caught.value.key)

    async with stage(store) as on, trio.open_nursery() as nursery:
        on.writer.hold()
        nursery.start_soon(on.journal.commit, put("first"))
        await wait_all_tasks_blocked()
        nursery.start_soon(refuse, on)
        nursery.start_soon(on.journal.commit, put("c"))
        await wait_all_tasks_blocked()
        on.writer.release()
    assert refused == ["a"]
    with store.snapshot() as view:
        assert keys(view) == ["c", "first"]


async def test_a_load_stands_behind_every_commit_that_was_sent_before_it(store: LmdbStore) -> None:
    found = []

    async def load(on: Stage) -> None:
        found.append(await on.journal.load(keys))

    async with stage(store) as on, trio.open_nursery() as nursery:
        on.writer.hold()
        nursery.start_soon(on.journal.commit, put("under way"))
        await wait_all_tasks_blocked()
        nursery.start_soon(on.journal.commit, put("in line"))
        await wait_all_tasks_blocked()
        nursery.start_soon(load, on)
        await wait_all_tasks_blocked()
        assert found == []
        on.writer.release()
    assert found == [["in line", "under way"]]


async def test_a_read_that_fails_is_its_senders_affair_and_the_journal_goes_on(store: LmdbStore) -> None:
    def fail(_: Snapshot) -> None:
        raise ZeroDivisionError("in the read")

    async with stage(store) as on:
        with pytest.raises(ZeroDivisionError, match="in the read"):
            await on.journal.load(fail)
        assert await on.journal.commit(put("a")) == 1
        assert await on.journal.load(keys) == ["a"]


async def test_what_finds_no_room_fails_its_own_waiter_and_what_fits_beside_it_is_committed(store: LmdbStore) -> None:
    async def refused(on: Stage, key: str, body: bytes) -> None:
        with pytest.raises(StoreFull):
            await on.journal.commit(put(key, body))

    async with stage(store) as on:
        async with trio.open_nursery() as nursery:
            on.writer.hold()
            nursery.start_soon(on.journal.commit, put("before"))
            await wait_all_tasks_blocked()
            nursery.start_soon(refused, on, "large", b"v" * 8 * 1024**2)
            nursery.start_soon(on.journal.commit, put("beside"))
            await wait_all_tasks_blocked()
            on.writer.release()
        assert await on.journal.load(keys) == ["before", "beside"]
        await on.journal.commit(put("after"))
        assert await on.journal.load(keys) == ["after", "before", "beside"]


async def test_the_feed_is_rung_after_the_commit_and_not_for_a_refused_one(store: LmdbStore) -> None:
    seen = []
    ending = put("a") + Submission(writes=(OPEN_SESSIONS.delete("a"),))

    async def listen(on: Stage) -> None:
        with on.feed.listen("a") as bell:
            await bell.wait()
        with on.store.snapshot() as view:
            seen.append(keys(view))

    async with stage(store) as on, trio.open_nursery() as nursery:
        nursery.start_soon(listen, on)
        await wait_all_tasks_blocked()
        with pytest.raises(Superseded):
            await on.journal.commit(Submission(expects=(Expect("t", b"a", 7),)) + ending)
        await wait_all_tasks_blocked()
        assert seen == []
        on.writer.hold()
        nursery.start_soon(on.journal.commit, ending)
        await wait_all_tasks_blocked()
        assert seen == []
        on.writer.release()
    assert seen == [["a"]]


async def test_waiting_for_a_commit_outlasts_cancellation(store: LmdbStore) -> None:
    versions = []
    scope = trio.CancelScope()

    async def commit(on: Stage) -> None:
        with scope:
            versions.append(await on.journal.commit(put("a")))

    async with stage(store) as on, trio.open_nursery() as nursery:
        on.writer.hold()
        nursery.start_soon(commit, on)
        await wait_all_tasks_blocked()
        scope.cancel()
        await wait_all_tasks_blocked()
        assert versions == []
        on.writer.release()
    assert versions == [1]


async def test_a_journal_that_crashes_still_answers_what_it_took_and_the_next_begins_behind_that(
    store: LmdbStore, autojump_clock: MockClock
) -> None:
    versions: dict[str, int] = {}
    found = []

    async def commit(on: Stage, key: str) -> None:
        versions[key] = await on.journal.commit(put(key))

    async def load(on: Stage) -> None:
        found.append(await on.journal.load(keys))

    async with stage(store) as on, trio.open_nursery() as nursery:
        on.writer.hold()
        nursery.start_soon(commit, on, "under way")
        await wait_all_tasks_blocked()
        nursery.start_soon(commit, on, "in line")
        await wait_all_tasks_blocked()
        with pytest.raises(ActorFailed):
            await on.ref.ask(Stumble())
        nursery.start_soon(load, on)
        nursery.start_soon(commit, on, "after")
        # Longer than any restart takes, and less than an asker waits.
        await trio.sleep(60)
        assert (versions, found) == ({}, [])
        on.writer.release()
    assert versions == {"under way": 1, "in line": 2, "after": 3}
    assert {"in line", "under way"} <= set(found[0])


async def test_a_journal_waits_for_a_batch_that_somebody_else_left_with_the_writer(store: LmdbStore) -> None:
    found = []

    async def load(on: Stage) -> None:
        found.append(await on.journal.load(keys))

    writer = HeldWriter(store)
    writer.hold()
    async with trio.open_nursery() as nursery:
        nursery.start_soon(writer.apply, [put("left behind")])
        await wait_all_tasks_blocked()

        async def use() -> None:
            async with stage(store, writer) as on:
                await load(on)

        nursery.start_soon(use)
        await wait_all_tasks_blocked()
        assert found == []
        writer.release()
    assert found == [["left behind"]]


async def test_what_was_sent_to_a_journal_that_is_down_is_handled_by_the_next(
    store: LmdbStore, autojump_clock: MockClock
) -> None:
    async with stage(store) as on:
        on.ref.tell(Stumble())
        assert await on.journal.commit(put("a")) == 1
        assert await on.journal.load(keys) == ["a"]


async def test_a_commit_whose_outcome_is_unknown_is_told_to_the_node_and_to_who_waits(
    store: LmdbStore, autojump_clock: MockClock
) -> None:
    async with stage(store) as on:
        on.writer.goes_bad = True
        with pytest.raises(CommitUncertain):
            await on.journal.commit(put("a"))
        assert [str(error) for error in on.fatal] == [str(CommitUncertain("disk", "Input/output error"))]


async def test_the_journal_counts_what_it_applied_and_refused(store: LmdbStore) -> None:
    line, writer = CommitLine(), HeldWriter(store)
    meter = JournalMeter(line)
    journal = JournalActor(store=store, writer=writer, line=line, meter=meter, feed=Feed(), on_fatal=lambda _: None)
    spec: ChildSpec[Any] = ChildSpec(name="journal", factory=lambda: journal)
    async with open_system(SupervisorSpec(name="root", children=(spec,))):
        assert meter.statistics().commit_s_median is None
        await Journal(line).commit(put("a"))
        with pytest.raises(Superseded):
            await Journal(line).commit(Submission(expects=(Expect("t", b"a", 7),)))
        await Journal(line).load(keys)
    found = meter.statistics()
    assert (found.batches, found.submissions, found.refused, found.in_line) == (2, 2, 1, 0)
    assert found.commit_s_median is not None
    assert found.commit_s_max is not None
    assert 0 < found.commit_s_median <= found.commit_s_max < 10


async def test_a_disk_that_does_not_answer_is_told_to_who_waits_and_to_who_waits_behind(
    store: LmdbStore, autojump_clock: MockClock
) -> None:
    unanswered = []

    async def wait(on: Stage, key: str) -> None:
        with pytest.raises(CommitUnanswered, match="has not answered for 120 s"):
            await on.journal.commit(put(key))
        unanswered.append(key)

    async with stage(store) as on:
        on.writer.hold()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(wait, on, "under way")
            await wait_all_tasks_blocked()
            nursery.start_soon(wait, on, "behind")
            with trio.fail_after(1_000):
                await trio.sleep(500)
                # Who comes later is told as well, and does not wait for good.
                await wait(on, "late")
        assert sorted(unanswered) == ["behind", "late", "under way"]
        on.writer.release()
        # What was under way was applied when the disk answered at last; what stood behind it never was.
        assert await on.journal.load(keys) == ["under way"]
        assert await on.journal.commit(put("after")) == 2
