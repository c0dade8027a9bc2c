# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What is wrong in a store is said, where it is; what is sound is said to be."""

import gzip
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import attrs
import lmdb
import pytest
import trio
from trio.testing import MockClock

from opscore.runtime.errors import SessionNotFound
from opscore.runtime.journal.opening import open_reader, open_store
from opscore.runtime.journal.tables import LEASES, OPEN_SESSIONS, REVISIONS, SESSIONS, TASKS, OpenSession
from opscore.runtime.journal.typed_tables import Table
from opscore.runtime.lease import Lease
from opscore.runtime.limits import Limits
from opscore.runtime.models import Move, SessionStatus, Task, TaskStatus
from opscore.runtime.simulation import Invariants, play, world
from opscore.runtime.simulation.disk import Disk
from opscore.runtime.simulation.drawing.scenarios import drawn
from opscore.runtime.simulation.rows import Rows
from opscore.runtime.storage import formats
from opscore.runtime.store import JOURNAL_TABLE, Delete, Put, Snapshot, Submission
from opscore.runtime.upkeep.transfer import exported, imported
from opscore.runtime.upkeep.verification import Finding, Verification
from tests.runtime.journal.test_opening import EVERY_FORMAT, restored
from tests.runtime.world import MAP_BYTES, World, begin, check_rows, ended, hire, join, one_task


def found_in(path: Path, *, rows_min: int = 50) -> list[Finding]:
    with open_reader(path) as reader, reader.snapshot() as view:
        check = Verification(
            view, indexed=reader.format >= formats.ENTRIES_SINCE, on_progress=lambda _name, _count: None
        )
        findings = list(check.findings())
        assert check.rows > rows_min
        return findings


@pytest.fixture
def path(tmp_path: Path) -> Path:
    return restored(formats.FORMAT, tmp_path)


def first(view: Snapshot, table: Table[Any], wanted: Callable[[Any], bool] = lambda _: True) -> Any:
    return next(row for row, _ in table.scan(view) if wanted(row))


def change(path: Path, make: Callable[[Snapshot], list[Put | Delete]]) -> None:
    """Commit something that no actor would."""
    with open_store(path, map_bytes=MAP_BYTES) as store:
        with store.snapshot() as view:
            writes = make(view)
        (outcome,) = store.apply([Submission(writes=tuple(writes))])
        assert isinstance(outcome, int)


def tamper(path: Path, table: str, change_lines: Callable[[dict[bytes, bytes]], None]) -> None:
    """Change the bytes of a closed store behind its back."""
    with lmdb.open(str(path), max_dbs=64, map_size=MAP_BYTES) as environment:
        database = environment.open_db(table.encode(), create=False)
        with environment.begin(write=True, db=database) as transaction:
            lines = {bytes(key): bytes(value) for key, value in transaction.cursor()}
            before = dict(lines)
            change_lines(lines)
            for key in before.keys() - lines.keys():
                transaction.delete(key)
            for key, value in lines.items():
                transaction.put(key, value)


@pytest.mark.parametrize("number", EVERY_FORMAT)
def test_a_sound_store_of_any_format_has_no_findings(number: int, tmp_path: Path) -> None:
    assert found_in(restored(number, tmp_path)) == []


async def test_a_run_of_more_than_ten_tasks_and_items_is_sound(tmp_path: Path, autojump_clock: MockClock) -> None:
    wide = [{"taskId": f"t{at}", "agentCapability": "work"} for at in range(11)]
    async with World(tmp_path, look=check_rows).node() as node:
        await hire(node, "a")
        listed = {"taskId": "each", "agentCapability": "work", "forEach": list(range(12))}
        await ended(node, await begin(node, {"id": "wide", "tasks": [*wide, listed]}))
    assert found_in(tmp_path) == []


async def test_what_was_taken_back_from_an_agent_that_says_nothing_may_be_gone_with_its_run(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, limits=Limits(sessions_ended_max=1), look=check_rows).node() as node:
        await join(node, "silent", "slow")
        await hire(node, "a")
        run = await begin(node, one_task("slow", agentCapability="slow"))
        await node.steer(run.session_id, Move.CANCEL)
        for _ in range(2):
            await ended(node, await begin(node))
        await trio.sleep(61)
        assert node.lease("silent") is not None
        with pytest.raises(SessionNotFound):
            node.session(run.session_id)
    assert found_in(tmp_path, rows_min=1) == []


@pytest.mark.parametrize("seed", range(24))
def test_whatever_a_world_leaves_behind_is_sound_once_it_is_exported_and_imported(
    seed: int, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    disks: list[Disk] = []
    exports: list[list[bytes]] = []

    def make_disk(**names: Any) -> Disk:
        disks.append(Disk(**names))
        return disks[-1]

    def export(rows: Rows) -> Iterator[str]:
        if rows.sessions and not len(exports) % 8:
            exports.append(list(exported(disks[-1].view())))
        yield from ()

    monkeypatch.setattr(world, "Disk", make_disk)
    play(drawn(seed), Invariants(on_scan=(export,), at_end=(export,))).check()
    exports.append(list(exported(disks[-1].view())))
    for number, lines in enumerate(exports):
        imported(lines, tmp_path / str(number), map_bytes=MAP_BYTES)
        assert found_in(tmp_path / str(number), rows_min=1) == []


def test_a_flipped_bit_in_any_table_or_index_is_found_where_it_is(tmp_path: Path) -> None:
    sound = gzip.compress((restored(formats.FORMAT, tmp_path / "sound") / "data.mdb").read_bytes())
    with open_reader(tmp_path / "sound") as reader:
        names = [name for name, measure in reader.measure().tables.items() if measure.rows and name != "meta"]
    assert len(names) > 20
    for name in names:
        path = tmp_path / name
        path.mkdir()
        (path / "data.mdb").write_bytes(gzip.decompress(sound))

        def flip(lines: dict[bytes, bytes]) -> None:
            key, value = next(iter(lines.items()))
            lines[key] = value[:-1] + bytes([value[-1] ^ 1])

        tamper(path, name, flip)
        findings = found_in(path)
        place = "record" if name == JOURNAL_TABLE else name
        assert any(place in finding.where and "checksum" in finding.what for finding in findings), name


def test_a_line_that_an_index_lost_and_one_that_it_has_too_many_are_found(path: Path) -> None:
    tamper(path, "tasks_in_line", _lose_one)
    (finding,) = found_in(path)
    assert finding.where.startswith("tasks ")
    assert finding.what == "index tasks_in_line has no entry for it"


def _lose_one(lines: dict[bytes, bytes]) -> None:
    del lines[next(iter(lines))]


def test_a_line_that_leads_nowhere_is_found(path: Path) -> None:
    stray: dict[bytes, bytes] = {}
    tamper(path, "tasks_in_line", stray.update)
    change(path, lambda view: [TASKS.put(attrs.evolve(first(view, TASKS, _is_ready), status=TaskStatus.PENDING))])
    tamper(path, "tasks_in_line", lambda lines: lines.update(stray))
    whats = [finding.what for finding in found_in(path) if finding.where.startswith("index tasks_in_line")]
    assert len(whats) == 1
    assert whats[0].endswith("whose place is another one")


def _is_ready(task: Task) -> bool:
    return task.status is TaskStatus.READY


def _lost_lease(view: Snapshot) -> list[Put | Delete]:
    return [LEASES.delete(first(view, LEASES).agent_id)]


def _wrong_attempt(view: Snapshot) -> list[Put | Delete]:
    lease: Lease = first(view, LEASES)
    return [LEASES.put(attrs.evolve(lease, attempt=lease.attempt + 1))]


def _unlisted(view: Snapshot) -> list[Put | Delete]:
    return [OPEN_SESSIONS.delete(first(view, OPEN_SESSIONS).session_id)]


def _listed_though_ended(view: Snapshot) -> list[Put | Delete]:
    ended = first(view, SESSIONS, lambda session: session.ended_at is not None)
    return [OPEN_SESSIONS.put(OpenSession(session_id=ended.session_id))]


def _lost_task(view: Snapshot) -> list[Put | Delete]:
    return [TASKS.delete(first(view, TASKS, lambda task: task.status is TaskStatus.PENDING).task_id)]


def _items(view: Snapshot, *places: int) -> list[Put | Delete]:
    task = first(view, TASKS, lambda task: task.status is TaskStatus.PENDING)
    return [TASKS.put(attrs.evolve(task, task_id=f"{task.task_id}.{place}", item=place)) for place in places]


def _lost_item(view: Snapshot) -> list[Put | Delete]:
    return _items(view, 0, 2)


def _lost_list(view: Snapshot) -> list[Put | Delete]:
    return [*_lost_task(view), *_items(view, 0, 1)]


def _lost_session(view: Snapshot) -> list[Put | Delete]:
    ended = first(view, SESSIONS, lambda session: session.ended_at is not None)
    return [SESSIONS.delete(ended.session_id)]


def _lost_revision(view: Snapshot) -> list[Put | Delete]:
    return [REVISIONS.delete(first(view, SESSIONS).definition_key)]


def _ended_without_end(view: Snapshot) -> list[Put | Delete]:
    ended = first(view, SESSIONS, lambda session: session.ended_at is not None)
    return [SESSIONS.put(attrs.evolve(ended, ended_at=None))]


def _other_status_than_recorded(view: Snapshot) -> list[Put | Delete]:
    return [
        SESSIONS.put(
            attrs.evolve(
                first(view, SESSIONS, lambda row: row.status is SessionStatus.FAILED), status=SessionStatus.CANCELLED
            )
        )
    ]


@pytest.mark.parametrize(
    ("make", "told"),
    [
        (_lost_lease, "which holds no lease on it"),
        (_wrong_attempt, "it holds attempt 2 of"),
        (_unlisted, "but is not listed as unfinished"),
        (_listed_though_ended, "but is listed as unfinished"),
        (_lost_task, "tasks, but its definition has"),
        (_lost_item, "but item 1 is missing"),
        (_lost_list, "it has items of task"),
        (_lost_session, "to which it refers, does not exist"),
        (_lost_revision, "to which it refers, does not exist"),
        (_ended_without_end, "but its end is None"),
        (_other_status_than_recorded, "but its newest record"),
    ],
)
def test_rows_that_contradict_one_another_are_found(
    make: Callable[[Snapshot], list[Put | Delete]], told: str, path: Path
) -> None:
    change(path, make)
    assert any(told in finding.what for finding in found_in(path))


def test_a_row_that_lies_under_the_key_of_another_is_found(path: Path) -> None:
    with open_store(path, map_bytes=MAP_BYTES) as store:
        with store.snapshot() as view:
            task = TASKS.put(first(view, TASKS))
        store.apply([Submission(writes=(attrs.evolve(task, key=b"ses_x.0", entries=()),))])
    assert any("it is the row of" in finding.what for finding in found_in(path))


def test_a_version_from_the_future_is_found(path: Path) -> None:
    with open_store(path, map_bytes=MAP_BYTES) as store:
        with store.snapshot() as view:
            task = TASKS.put(first(view, TASKS))
        store.rewrite([(task, 10_000)])
    assert any("its version is 10000, but the newest commit is 63" in finding.what for finding in found_in(path))
