# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""One damaged value is logged and passed over: it keeps neither a node from starting, nor retention from going on."""

from pathlib import Path

import lmdb
import pytest
from trio.testing import MockClock

from opscore.runtime.journal.opening import open_store
from opscore.runtime.limits import Limits
from opscore.runtime.storage import formats
from opscore.runtime.store import JOURNAL_TABLE, Submission
from opscore.runtime.upkeep import retention
from tests.runtime.journal.test_opening import restored
from tests.runtime.world import MAP_BYTES, World, begin, ended, hire, one_task

LATER = 4_000_000_000.0


def damage(path: Path, table: str, *, which: int) -> None:
    """Flip a bit of a value of a table or index."""
    with lmdb.open(str(path), max_dbs=64, map_size=MAP_BYTES) as environment:
        database = environment.open_db(table.encode(), create=False)
        with environment.begin(write=True, db=database) as transaction:
            key, value = [(bytes(key), bytes(value)) for key, value in transaction.cursor()][which]
            transaction.put(key, value[:-1] + bytes([value[-1] ^ 1]))


@pytest.mark.parametrize(
    "table",
    [
        "agents",
        "leases",
        "open_sessions",
        "sessions",
        "tasks",
        "tasks_in_line",
        "tasks_by_due",
        "leases_by_due",
        "agents_by_suspicion",
        "schedules_by_due",
    ],
)
async def test_a_node_starts_and_works_whatever_single_value_is_damaged(
    table: str, tmp_path: Path, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    # The last session and task are of a run that waits.
    damage(restored(formats.FORMAT, tmp_path), table, which=-1)
    async with World(tmp_path, seed=1).node() as node:
        await hire(node, "sound", "sound")
        await ended(node, await begin(node, one_task("sound", agentCapability="sound")))
    assert "is damaged: its checksum does not match" in caplog.text


@pytest.mark.parametrize("table", [JOURNAL_TABLE, "sessions_ended", "signatures_by_time", "idempotency"])
def test_retention_goes_on_past_a_damaged_value(table: str, tmp_path: Path) -> None:
    damage(restored(formats.FORMAT, tmp_path), table, which=0)
    with open_store(tmp_path, map_bytes=MAP_BYTES) as store:
        with store.snapshot() as view:
            found = [
                retention.records(view, now=LATER, limits=Limits()),
                retention.sessions(view, now=LATER, limits=Limits()).submission,
            ]
        outcomes = store.apply([each if each is not None else Submission() for each in found])
        assert [type(each) for each in outcomes] == [int, int]
        with store.snapshot() as view:
            assert view.count(JOURNAL_TABLE) <= 1
            assert view.count("sessions_ended") <= 1
