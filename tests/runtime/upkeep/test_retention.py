# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What has served its time goes, in the background; what is unfinished or promised stays."""

from pathlib import Path
from typing import Any

import attrs
import lmdb
import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import SessionNotFound, Superseded
from opscore.runtime.journal.following import trimmed_to
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import (
    ALL_TABLES,
    IDEMPOTENCY,
    REVISIONS,
    SESSIONS,
    SESSIONS_ENDED,
    SIGNATURES,
    TASKS,
    VITALS,
    IdempotencyRow,
    Revision,
)
from opscore.runtime.limits import Limits
from opscore.runtime.models import IdempotentTrigger, Move, Session, SessionStatus
from opscore.runtime.node import Node
from opscore.runtime.runs.triggering import IdempotencyKey
from opscore.runtime.store import JOURNAL_TABLE, Snapshot, Submission
from opscore.runtime.upkeep import retention
from tests.runtime.journal.test_opening import check_indexes
from tests.runtime.world import MAP_BYTES, World, begin, check_rows, ended, hire, one_task

DAY_S = 86_400.0


async def finished(node: Node, definition: Any = None, **arguments: Any) -> Session:
    return await ended(node, await begin(node, definition, **arguments))


def counts(view: Snapshot) -> dict[str, int]:
    return {table.name: view.count(table.name) for table in ALL_TABLES}


async def test_a_finished_session_goes_with_everything_of_it_once_it_is_old_enough_and_no_earlier(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(sessions_keep_s=3 * DAY_S), look=check_rows)
    async with world.node() as node:
        await hire(node, "a")
        old = await finished(node)
        waiting = await begin(node, one_task("waiting", agentCapability="nobody"))
        await trio.sleep(2 * DAY_S)
        young = await finished(node)
        await trio.sleep(0.9 * DAY_S)
        assert node.session(old.session_id).tasks
        await trio.sleep(0.2 * DAY_S)
        with pytest.raises(SessionNotFound):
            node.session(old.session_id)
        assert node.session(young.session_id).tasks
        assert node.session(waiting.session_id).tasks
    with world.rows() as view:
        assert not list(TASKS.scan(view, prefix=old.session_id))
        check_indexes(view)


async def test_of_too_many_finished_sessions_the_oldest_go_and_nothing_unfinished_with_them(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(sessions_ended_max=7), look=check_rows)
    async with world.node() as node:
        await hire(node, "a")
        waiting = [await begin(node, one_task("waiting", agentCapability="nobody")) for _ in range(3)]
        sessions = [await finished(node) for _ in range(20)]
        await trio.sleep(61)
        left = {session.session_id for session in node.sessions(limit=500).items}
    assert left == {session.session_id for session in (*waiting, *sessions[-7:])}


async def test_a_run_that_another_waits_for_stays_until_that_one_has_read_how_it_ended(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    above = {"id": "above", "tasks": [{"taskId": "k", "type": "workflow", "parameters": {"workflowId": "below"}}]}
    world = World(tmp_path, limits=Limits(sessions_keep_s=DAY_S), look=check_rows)
    async with world.node() as node:
        await node.save_definition(one_task("below"))
        session = await begin(node, above)
        (child_id,) = [each.session_id for each in node.sessions().items if each.parent_task_id is not None]
        await node.steer(session.session_id, Move.PAUSE)
        got = await hire(node, "a", result="done")
        await trio.sleep(3 * DAY_S)
        assert node.session(child_id).session.status is SessionStatus.COMPLETED
        await node.steer(session.session_id, Move.RESUME)
        assert (await ended(node, session)).result == {"k": {"only": "done"}}
        await trio.sleep(2 * DAY_S)
        assert node.sessions().items == ()
        assert len(got) == 1
    with world.rows() as view:
        check_indexes(view)


async def test_a_session_whose_idempotency_key_still_counts_is_kept_and_the_key_goes_with_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(sessions_keep_s=DAY_S), look=check_rows)
    key = IdempotencyKey(path="/", key="k", body={"a": 1})
    async with world.node() as node:
        await hire(node, "a")
        keyed = await finished(node, idempotency=key)
        plain = await finished(node)
        await trio.sleep(6.9 * DAY_S)
        with pytest.raises(SessionNotFound):
            node.session(plain.session_id)
        assert (await node.trigger(one_task(), idempotency=key)).session_id == keyed.session_id
        await trio.sleep(0.2 * DAY_S)
        with pytest.raises(SessionNotFound):
            node.session(keyed.session_id)
        assert (await finished(node, idempotency=key)).session_id != keyed.session_id


async def test_no_younger_session_goes_in_the_place_of_one_that_its_key_keeps(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(retention, "LOOKED_AT_ONCE", 2)
    world = World(tmp_path, limits=Limits(sessions_ended_max=3), look=check_rows)
    async with world.node() as node:
        await hire(node, "a")
        old = [await finished(node), await finished(node)]
        keyed = [await finished(node, idempotency=IdempotencyKey(path="/", key=str(number))) for number in range(5)]
        plain = [await finished(node) for _ in range(3)]
        await trio.sleep(61)
        assert {each.session_id for each in node.sessions().items} == {each.session_id for each in [*keyed, *plain]}
        assert not {each.session_id for each in old} & {each.session_id for each in node.sessions().items}


async def test_a_key_that_is_not_kept_past_the_end_of_its_session_keeps_that_no_longer_either(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    limits = Limits(sessions_keep_s=DAY_S, idempotency_keep_s=0)
    async with World(tmp_path, limits=limits, look=check_rows).node() as node:
        await hire(node, "a")
        await finished(node, idempotency=IdempotencyKey(path="/", key="k"))
        await trio.sleep(1.1 * DAY_S)
        assert node.sessions().items == ()


async def test_a_definition_goes_with_its_last_session_unless_an_id_stands_for_it(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(sessions_keep_s=DAY_S), look=check_rows)
    async with world.node() as node:
        await hire(node, "a")
        saved = await node.save_definition({**one_task("kept"), "name": "first"})
        await finished(node, "kept")
        await node.save_definition({**one_task("kept"), "name": "second"})
        again = await finished(node, "kept")
        with_others = await begin(node, {**one_task("kept", agentCapability="nobody"), "name": "third"})
        await trio.sleep(1.1 * DAY_S)
        with pytest.raises(SessionNotFound):
            node.session(again.session_id)
        assert node.definition("kept")[1].name == "second"
        assert node.session(with_others.session_id).tasks
    with world.rows() as view:
        assert {row.definition_key for row, _ in REVISIONS.scan(view)} == {
            again.definition_key,
            with_others.definition_key,
        }
        assert REVISIONS.read(view, saved.definition_key).row is None


async def test_a_run_that_begins_while_its_definition_is_being_removed_has_it_or_removes_nothing(
    tmp_path: Path,
) -> None:
    revision = REVISIONS.put(Revision(definition_key="d", document={}))
    begun = Session(session_id="s", workflow_id="w", definition_key="d", created_at=1.0)
    with open_store(tmp_path, map_bytes=MAP_BYTES) as store:
        (version,) = store.apply([Submission(writes=(revision,))])
        assert isinstance(version, int)
        with store.snapshot() as view:
            removal = retention.revision(view, "d")
        assert removal is not None
        start = Submission(expects=(REVISIONS.expect("d", version),), writes=(SESSIONS.put(begun),))
        first, second = store.apply([start, removal])
        assert isinstance(first, int)
        assert isinstance(second, Superseded)
        store.apply([Submission(writes=(SESSIONS.delete("s"),))])
        first, second = store.apply([removal, start])
        assert isinstance(first, int)
        assert isinstance(second, Superseded)
        with store.snapshot() as view:
            assert SESSIONS.read(view, "s").row is None
            assert retention.revision(view, "d") is None


async def test_old_records_go_and_the_journal_says_how_far(tmp_path: Path, autojump_clock: MockClock) -> None:
    world = World(tmp_path, limits=Limits(records_keep_s=DAY_S, sessions_keep_s=0), look=check_rows)
    async with world.node() as node:
        await hire(node, "a")
        await finished(node)
        with node._core.store.snapshot() as view:  # noqa: SLF001 (nothing else shows the rows of a running node)
            newest, before = view.last_sequence(), view.count(JOURNAL_TABLE)
        assert before > 5
        await trio.sleep(0.9 * DAY_S)
        later = await finished(node)
        await trio.sleep(0.2 * DAY_S)
    with world.rows() as view:
        oldest = next(view.scan(JOURNAL_TABLE))[1].version
        assert trimmed_to(view) <= newest < oldest
        assert view.count(JOURNAL_TABLE) > 5
        assert SESSIONS.read(view, later.session_id).row is not None


async def test_nothing_goes_where_retention_is_off(tmp_path: Path, autojump_clock: MockClock) -> None:
    off = Limits(sessions_keep_s=0, sessions_ended_max=0, records_keep_s=0, records_max=0)
    world = World(tmp_path, limits=off)
    async with world.node() as node:
        await hire(node, "a")
        await finished(node)
    with world.rows() as view:
        later = world.clock.now() + 4_000 * DAY_S
        assert retention.sessions(view, now=later, limits=off) == retention.Sweep()
        assert retention.records(view, now=later, limits=off) is None
        assert retention.sessions(view, now=later, limits=Limits()).sessions == 1
        assert retention.records(view, now=later, limits=Limits()) is not None


async def test_removing_many_takes_bounded_commits_between_which_others_get_their_turn(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    batches = []
    original = retention.sessions

    def watched(view: Snapshot, **arguments: Any) -> retention.Sweep:
        sweep = original(view, **arguments)
        batches.append(0 if sweep.submission is None else len(sweep.submission.writes))
        return sweep

    monkeypatch.setattr(retention, "sessions", watched)
    world = World(tmp_path, limits=Limits(sessions_ended_max=1))
    three = {
        "id": "three",
        "name": "three",
        "tasks": [{"taskId": f"t{n}", "name": "t", "agentCapability": "work"} for n in range(3)],
    }
    async with world.node() as node:
        await hire(node, "a")
        sessions = [await begin(node, three) for _ in range(300)]
        await ended(node, sessions[-1])
        await trio.sleep(2_000)
    assert sum(batches) == 299 * 4
    assert max(batches) <= retention.REMOVED_AT_ONCE + 3
    with world.rows() as view:
        assert view.count(SESSIONS_ENDED.name) == 1
        check_indexes(view)


async def test_a_damaged_session_stays_and_keeps_no_other_from_going(
    tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    world = World(tmp_path, limits=Limits(sessions_keep_s=DAY_S))
    async with world.node() as node:
        await hire(node, "a")
        damaged, sound = await finished(node), await finished(node)
        await trio.sleep(100)
    with lmdb.open(str(tmp_path), max_dbs=64, map_size=MAP_BYTES) as environment:
        tasks = environment.open_db(b"tasks", create=False)
        with environment.begin(write=True, db=tasks) as transaction:
            key = f"{damaged.session_id}.0".encode()
            transaction.put(key, bytes(transaction.get(key) or b"")[:-1] + b"!")
    async with world.node() as node:
        await trio.sleep(1.1 * DAY_S)
        with pytest.raises(SessionNotFound):
            node.session(sound.session_id)
    assert f"session {damaged.session_id} stays" in caplog.text
    with world.rows() as view:
        assert SESSIONS.read(view, damaged.session_id).row is not None


async def test_signatures_go_once_their_replay_is_refused_by_its_time(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=Limits(signature_keep_s=600))
    async with world.node() as node:
        for number in range(retention.REMOVED_AT_ONCE + 50):
            await node.remember_signature(f"{number}")
        await trio.sleep(500)
        await node.remember_signature("young")
        assert await node.seen_before("7")
        await trio.sleep(200)
        assert not await node.seen_before("7")
        assert await node.seen_before("young")
    with world.rows() as view:
        assert [row.signature for row, _ in SIGNATURES.scan(view)] == ["young"]


async def test_a_node_notes_its_vitals_while_it_commits_and_writes_nothing_while_it_is_idle(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path)
    async with world.node() as node:
        await hire(node, "a")
        await finished(node)
        await trio.sleep(120)
        committed = node.statistics().journal.submissions
        await trio.sleep(1_000)
        assert node.statistics().journal.submissions == committed
        with node._core.store.snapshot() as view:  # noqa: SLF001 (nothing else shows the rows of a running node)
            vitals = VITALS.read(view, "node").row
    assert vitals is not None
    assert vitals.submissions == 3
    assert attrs.asdict(vitals)["refused"] == 0


def test_a_key_that_another_session_takes_while_its_old_one_is_removed_stays_with_the_new_one(tmp_path: Path) -> None:
    def keyed(session_id: str) -> Submission:
        trigger = IdempotentTrigger(body_digest="b", session_id=session_id, workflow_id="w")
        session = Session(
            session_id=session_id,
            workflow_id="w",
            definition_key="d",
            created_at=1.0,
            status=SessionStatus.COMPLETED,
            ended_at=1.0,
        )
        return Submission(
            writes=(SESSIONS.put(session), IDEMPOTENCY.put(IdempotencyRow(scope="scope", trigger=trigger)))
        )

    limits = Limits(sessions_keep_s=DAY_S)
    with open_store(tmp_path, map_bytes=MAP_BYTES) as store:
        store.apply([keyed("old")])
        with store.snapshot() as view:
            sweep = retention.sessions(view, now=8 * DAY_S, limits=limits)
        assert sweep.submission is not None
        taken, removal = store.apply([keyed("new"), sweep.submission])
        assert isinstance(taken, int)
        assert isinstance(removal, Superseded)
        with store.snapshot() as view:
            kept = IDEMPOTENCY.read(view, "scope").row
            assert kept is not None
            assert kept.trigger.session_id == "new"
            # The next look finds the old session without a key, and the new one with its own.
            again = retention.sessions(view, now=8 * DAY_S, limits=Limits(sessions_ended_max=1))
        assert again.sessions == 1


async def test_a_revision_that_nobody_needs_goes_although_the_node_that_knew_of_it_ended(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    with open_store(tmp_path, map_bytes=MAP_BYTES) as store:
        store.apply(
            [Submission(writes=(REVISIONS.put(Revision(definition_key=f"left {n}", document={})),)) for n in range(300)]
        )
    world = World(tmp_path)
    async with world.node() as node:
        waiting = await begin(node, one_task(agentCapability="nobody"))
        await trio.sleep(70)
    with world.rows() as view:
        assert [row.definition_key for row, _ in REVISIONS.scan(view)] == [waiting.definition_key]


async def test_sessions_that_are_all_kept_by_their_keys_are_not_looked_at_every_minute(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    looks = []
    original = retention.sessions

    def watched(view: Snapshot, **arguments: Any) -> retention.Sweep:
        looks.append(arguments)
        return original(view, **arguments)

    monkeypatch.setattr(retention, "sessions", watched)
    monkeypatch.setattr(retention, "LOOKED_AT_ONCE", 1)
    world = World(tmp_path, limits=Limits(sessions_ended_max=1))
    async with world.node() as node:
        await hire(node, "a")
        for number in range(20):
            await finished(node, idempotency=IdempotencyKey(path="/", key=f"{number}", body=None))
        await trio.sleep(100)
        first_pass = len(looks)
        assert first_pass >= 19, "the newest is not one of those that are too many"
        await trio.sleep(400)
        assert len(looks) == first_pass
        await trio.sleep(400)
        assert len(looks) > first_pass
        assert len(node.sessions(limit=500).items) == 20
