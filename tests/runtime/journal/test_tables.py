import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from opscore.runtime import codec
from opscore.runtime.errors import LimitExceeded, StoreDamaged, StoreIncompatible, Superseded
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import (
    AGENTS,
    ALL_TABLES,
    MARKS,
    SESSIONS,
    TASKS,
    IdempotencyRow,
    Mark,
    OpenSession,
    Revision,
    SeenSignature,
    record,
    tasks_of,
)
from opscore.runtime.journal.typed_tables import Table
from opscore.runtime.lease import Lease, Slot
from opscore.runtime.models import (
    Agent,
    AgentSource,
    IdempotentTrigger,
    Missed,
    Record,
    SavedDefinition,
    Schedule,
    Session,
    Signal,
    Task,
    TaskStatus,
)
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import ABSENT, JOURNAL_TABLE, KEY_BYTES_MAX, Put, Stored, Submission
from opscore.runtime.vitals import Vitals

ROWS: tuple[Any, ...] = (
    Agent(agent_id="a 1/ü", name="one", registered_at=1.5, metadata={"deep": [1, None, {"x": 2**70}]}),
    Lease(agent_id="a", session_id="s", task_id="s.t", attempt=2, granted_at=1, expires_at=2, timeout_at=3, lease_s=4),
    Slot(name="key/k/0", agent_id="a"),
    Session(session_id="s", workflow_id="w", definition_key="d", created_at=1, payload=["é", 0.1]),
    OpenSession(session_id="s"),
    Signal(session_id="s", signal_id="once", number=0, name="approved", payload={"by": "ü"}, received_at=1.5),
    Task(task_id="s.t", session_id="s", key="t", ordinal=0, result={"a": [True]}),
    SavedDefinition(workflow_id="w", revision=1, definition_key="d", name="n", version="1", saved_at=1),
    Revision(definition_key="d", document={"id": "w", "tasks": []}),
    SeenSignature(signature="sig", seen_at=1),
    Schedule(
        schedule_id="s 1",
        workflow_id="w",
        payload=[1],
        cron="* * * * *",
        missed=Missed.ALL,
        created_at=1,
        next_due_at=2,
    ),
    Mark(name="m", sequence=7),
    Vitals(
        at=1,
        started_at=0,
        batches=1,
        submissions=2,
        refused=0,
        in_line=0,
        commit_s_median=0.1,
        commit_s_p99=None,
        commit_s_max=1,
    ),
    IdempotencyRow(scope="/v1 key", trigger=IdempotentTrigger(body_digest="b", session_id="s", workflow_id="w")),
)


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    with open_store(tmp_path) as opened:
        yield opened


def an_agent(agent_id: str = "a") -> Agent:
    return Agent(agent_id=agent_id, name="one", registered_at=1.0)


def a_task(session_id: str, ordinal: int) -> Task:
    return Task(task_id=f"{session_id}.t{ordinal}", session_id=session_id, key=f"t{ordinal}", ordinal=ordinal)


def table_of(row: Any) -> Table[Any]:
    (table,) = [table for table in ALL_TABLES if table.kind is type(row)]
    return table


def test_every_table_has_a_row_in_these_tests_and_a_name_of_its_own() -> None:
    assert {table_of(row).name for row in ROWS} == {table.name for table in ALL_TABLES}
    assert len({table.name for table in ALL_TABLES}) == len(ALL_TABLES)


@pytest.mark.parametrize("row", ROWS, ids=lambda row: type(row).__name__)
def test_a_row_is_read_as_it_was_written_with_the_version_of_its_commit(row: Any, store: LmdbStore) -> None:
    table = table_of(row)
    key = table.key(row)
    with store.snapshot() as view:
        assert table.read(view, key).row is None
        assert table.read(view, key).version == ABSENT
    (version,) = store.apply([Submission(writes=(table.put(row),))])
    with store.snapshot() as view:
        found = table.read(view, key)
        assert (found.row, found.version) == (row, version)
        assert list(table.scan(view)) == [(row, version)]
    store.apply([Submission(writes=(table.delete(key),))])
    with store.snapshot() as view:
        assert list(table.scan(view)) == []


def test_a_writer_whose_row_changed_meanwhile_is_refused(store: LmdbStore) -> None:
    store.apply([Submission(writes=(AGENTS.put(an_agent()),))])
    with store.snapshot() as view:
        read = AGENTS.read(view, "a")
    guarded = Submission(expects=(AGENTS.expect("a", read.version),), writes=(AGENTS.put(an_agent()),))
    first, second = store.apply([guarded, guarded])
    assert isinstance(first, int)
    assert isinstance(second, Superseded)
    assert (second.table, second.key) == ("agents", "a")


@pytest.mark.parametrize(
    ("said", "introduced"),
    [
        ({}, False),
        ({"state": "idle", "cordoned": True}, False),
        ({"name": "Ada"}, True),
        ({"version": "1"}, True),
        ({"capabilities": ("work",)}, True),
        ({"contact_endpoint": "http://a/"}, True),
        ({"metadata": {"zone": 1}}, True),
        ({"source": AgentSource.LOCAL}, True),
    ],
    ids=str,
)
def test_an_agent_of_an_earlier_release_of_which_nothing_was_said_may_be_introduced_yet(
    said: dict[str, Any], *, introduced: bool
) -> None:
    agent = Agent(**{"agent_id": "a", "name": "a", "registered_at": 1.0, **said})
    document = codec.decode_json(codec.encode_row(agent))
    del document["introduced"]
    row = AGENTS.decode(b"a", Stored(codec.encode_json(document), 1, 7))
    assert row == attrs.evolve(agent, introduced=introduced)


def test_a_row_of_a_newer_release_is_refused_by_name(store: LmdbStore) -> None:
    newer = attrs.evolve(AGENTS.put(an_agent()), schema=AGENTS.schema + 1)
    store.apply([Submission(writes=(newer,))])
    with store.snapshot() as view:
        with pytest.raises(StoreIncompatible, match=r"agents .* a row has schema 3, this release reads up to 2"):
            AGENTS.read(view, "a")
        with pytest.raises(StoreIncompatible):
            list(AGENTS.scan(view))


@pytest.mark.parametrize("body", [b"", b"{", b"[]", b"null", b"{}", b'{"agent_id":"a"}', b'"text"', b"\xff"])
def test_a_sound_value_that_is_no_row_of_its_table_is_named(body: bytes, store: LmdbStore) -> None:
    store.apply([Submission(writes=(Put("agents", b"a", body, 1),))])
    with store.snapshot() as view, pytest.raises(StoreDamaged, match="b'a' is damaged: it can't be read as Agent"):
        AGENTS.read(view, "a")


def test_a_key_too_long_for_the_store_is_refused_before_it_can_fail_a_batch(store: LmdbStore) -> None:
    longest = "k" * KEY_BYTES_MAX
    (version,) = store.apply([Submission(writes=(MARKS.put(Mark(name=longest, sequence=1)),))])
    with store.snapshot() as view:
        assert MARKS.read(view, longest).version == version
        with pytest.raises(LimitExceeded, match="key_bytes_max allows 511, found 512"):
            MARKS.read(view, longest + "k")
    with pytest.raises(LimitExceeded):
        MARKS.put(Mark(name="ü" * 256, sequence=1))
    with pytest.raises(LimitExceeded):
        MARKS.expect(longest + "k", ABSENT)
    with pytest.raises(LimitExceeded):
        MARKS.delete(longest + "k")
    with pytest.raises(LimitExceeded, match="key_bytes_max"):
        # An entry counts with the key of its row.
        TASKS.put(Task(task_id="t" * 504, session_id="s", key="k", ordinal=0, status=TaskStatus.READY))


def test_a_sessions_tasks_come_in_the_order_of_its_definition_and_nobody_elses_with_them(store: LmdbStore) -> None:
    own = [a_task("ses_1", ordinal) for ordinal in range(12)]
    others = [a_task("ses_10", 0), a_task("ses_0", 0), a_task("ses_2", 0)]
    store.apply([Submission(writes=tuple(TASKS.put(task) for task in (*reversed(own), *others)))])
    with store.snapshot() as view:
        assert [task for task, _ in tasks_of(view, "ses_1")] == own
        assert tasks_of(view, "ses_") == []


def test_rows_are_walked_from_a_key_on_forwards_and_backwards(store: LmdbStore) -> None:
    sessions = [
        Session(session_id=f"ses_{number}", workflow_id="w", definition_key="d", created_at=number)
        for number in range(5)
    ]
    store.apply([Submission(writes=tuple(map(SESSIONS.put, sessions)))])
    with store.snapshot() as view:
        assert [row for row, _ in SESSIONS.scan(view, after="ses_2")] == sessions[3:]
        assert [row for row, _ in SESSIONS.scan(view, after="ses_2", reverse=True)] == sessions[1::-1]
        assert [row for row, _ in SESSIONS.scan(view, prefix="ses_", reverse=True)] == sessions[::-1]


def test_a_journal_record_is_kept_under_the_sequence_number_of_its_commit(store: LmdbStore) -> None:
    lines = [Record(at=1.0, entity="task", entity_id=f"t{number}", kind="task.ready") for number in range(3)]
    store.apply([Submission(records=tuple(map(record, lines))), Submission(records=(record(lines[0]),))])
    with store.snapshot() as view:
        found = [(int.from_bytes(key, "big"), stored) for key, stored in view.scan(JOURNAL_TABLE)]
    assert [number for number, _ in found] == [1, 2, 3, 4]
    assert [codec.decode_row(stored.body, Record) for _, stored in found] == [*lines, lines[0]]
    assert json.loads(found[0][1].body)["kind"] == "task.ready"
