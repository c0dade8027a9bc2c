"""What a trigger needs before it is a session: a definition, an agent where one is needed, a fresh key."""

import random
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs
import pytest

from opscore.runtime.errors import (
    AgentNotFound,
    DefinitionNotFound,
    IdempotencyConflict,
    InvalidDocument,
    Superseded,
)
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import AGENTS, DEFINITIONS, IDEMPOTENCY, REVISIONS, SESSIONS
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.models import Agent, Session, SessionStatus
from opscore.runtime.runs.definition_rows import revision, saved_as
from opscore.runtime.runs.triggering import IdempotencyKey, Prepared, Trigger, prepare
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Submission

LIMITS = Limits()
NOW = 1_700_000_000.0
DAY_S = 86_400.0
DOCUMENT = {"id": "w", "tasks": [{"taskId": "a", "agentCapability": "c"}]}
FOR_AN_AGENT = {"id": "v", "tasks": [{"taskId": "a"}]}
KEY = IdempotencyKey(path="/workflow/w/trigger", key="k", body={"n": 1, "m": 2})


class Desk:
    """A store on disk, and triggers prepared against what it holds."""

    def __init__(self, store: LmdbStore) -> None:
        self.store = store
        self.library = Library(LIMITS)
        self.rng = random.Random(0)

    def prepare(self, trigger: Trigger, now: float = NOW) -> Prepared | Session:
        with self.store.snapshot() as view:
            return prepare(view, trigger, self.library, LIMITS, now, self.rng)

    def prepared(self, definition: Any = DOCUMENT, now: float = NOW, **fields: Any) -> Prepared:
        found = self.prepare(Trigger(definition=definition, **fields), now)
        assert isinstance(found, Prepared)
        return found

    def commit(self, submission: Submission) -> int:
        (outcome,) = self.store.apply([submission])
        if isinstance(outcome, Exception):
            raise outcome
        return outcome

    def start(self, definition: Any = DOCUMENT, now: float = NOW, **fields: Any) -> Session:
        """Prepare a trigger and commit what belongs to it, with the session's row as it is at first."""
        prepared = self.prepared(definition, now, **fields)
        self.commit(prepared.extra + Submission(writes=(SESSIONS.put(prepared.session),)))
        return prepared.session

    def end(self, session: Session, at: float) -> None:
        ended = attrs.evolve(session, status=SessionStatus.COMPLETED, ended_at=at)
        self.commit(Submission(writes=(SESSIONS.put(ended),)))


@pytest.fixture
def desk(tmp_path: Path) -> Iterator[Desk]:
    with open_store(tmp_path, map_bytes=2**24) as store:
        yield Desk(store)


# --- the definition and the agent ---------------------------------------------------------------------------


def test_a_session_names_its_workflow_its_content_its_payload_and_its_agent(desk: Desk) -> None:
    desk.commit(Submission(writes=(AGENTS.put(Agent(agent_id="x", name="x", registered_at=NOW)),)))
    prepared = desk.prepared(payload={"n": 1}, agent_id="x")
    assert (prepared.session.workflow_id, prepared.session.definition_key) == ("w", prepared.definition.digest)
    assert (prepared.session.payload, prepared.session.agent_id) == ({"n": 1}, "x")
    assert (prepared.session.status, prepared.session.created_at) == (SessionStatus.STARTED, NOW)


def test_an_unknown_agent_is_refused(desk: Desk) -> None:
    with pytest.raises(AgentNotFound):
        desk.prepared(agent_id="nobody")


def test_an_unknown_definition_is_refused(desk: Desk) -> None:
    with pytest.raises(DefinitionNotFound):
        desk.prepared("nothing")


def test_an_invalid_document_is_refused_with_its_faults(desk: Desk) -> None:
    with pytest.raises(InvalidDocument, match="task"):
        desk.prepared({"id": "w", "tasks": [{}]})


def test_a_workflow_whose_tasks_name_nobody_needs_an_agent(desk: Desk) -> None:
    with pytest.raises(InvalidDocument, match="an agent must be named"):
        desk.prepared(FOR_AN_AGENT)


def test_an_inline_definition_can_be_triggered_by_its_id_from_then_on(desk: Desk) -> None:
    first = desk.start()
    again = desk.prepared("w")
    assert again.definition.digest == first.definition_key
    # Nothing has to be written, and what it runs by has to stay.
    assert again.extra.writes == ()
    assert [each.table for each in again.extra.expects] == [REVISIONS.name]


def test_an_inline_definition_takes_no_saved_ones_place(desk: Desk) -> None:
    desk.start()
    other = desk.start({**DOCUMENT, "name": "another"})
    assert desk.prepared("w").definition.digest != other.definition_key


def test_a_definition_saved_while_an_inline_one_was_being_triggered_stands(desk: Desk) -> None:
    slow = desk.prepared()
    saved = desk.library.parsed({**DOCUMENT, "name": "saved meanwhile"})
    desk.commit(Submission(writes=(DEFINITIONS.put(saved_as(saved, None, NOW)), REVISIONS.put(revision(saved)))))
    with pytest.raises(Superseded):
        desk.commit(slow.extra)
    assert desk.prepared("w").definition == saved


def test_a_run_keeps_the_definition_it_started_with_when_its_id_stands_for_another(desk: Desk) -> None:
    session = desk.start()
    newer = desk.library.parsed({**DOCUMENT, "version": "2.0"})
    with desk.store.snapshot() as view:
        before = DEFINITIONS.read(view, "w").row
    desk.commit(Submission(writes=(DEFINITIONS.put(saved_as(newer, before, NOW)), REVISIONS.put(revision(newer)))))
    assert desk.prepared("w").definition.version == "2.0"
    with desk.store.snapshot() as view:
        assert Library(LIMITS).find(view, session.definition_key).version == "1.0"
        found = DEFINITIONS.read(view, "w").row
    assert found is not None
    assert found.revision == 2


# --- idempotency keys ---------------------------------------------------------------------------------------


def test_the_same_key_with_the_same_body_answers_the_session_that_it_started(desk: Desk) -> None:
    session = desk.start(idempotency=KEY)
    assert desk.prepare(Trigger(definition=DOCUMENT, idempotency=KEY)) == session


def test_the_order_of_a_bodys_fields_makes_no_other_body(desk: Desk) -> None:
    session = desk.start(idempotency=KEY)
    turned = attrs.evolve(KEY, body={"m": 2, "n": 1})
    assert desk.prepare(Trigger(definition=DOCUMENT, idempotency=turned)) == session


def test_the_same_key_with_another_body_is_a_conflict(desk: Desk) -> None:
    desk.start(idempotency=KEY)
    with pytest.raises(IdempotencyConflict, match="'k'"):
        desk.prepare(Trigger(definition=DOCUMENT, idempotency=attrs.evolve(KEY, body={"n": 2, "m": 2})))


def test_the_same_key_on_another_path_is_another_key(desk: Desk) -> None:
    session = desk.start(idempotency=KEY)
    other = desk.prepared(idempotency=attrs.evolve(KEY, path="/agent/x/workflow"))
    assert other.session.session_id != session.session_id


def test_a_key_is_kept_until_seven_days_past_the_sessions_end(desk: Desk) -> None:
    session = desk.start(idempotency=KEY)
    trigger = Trigger(definition=DOCUMENT, idempotency=KEY)
    assert isinstance(desk.prepare(trigger, NOW + 100 * DAY_S), Session), "an unfinished session keeps its key"
    desk.end(session, at=NOW + DAY_S)
    assert isinstance(desk.prepare(trigger, NOW + 8 * DAY_S - 1), Session)
    assert isinstance(desk.prepare(trigger, NOW + 8 * DAY_S), Prepared)


def test_a_key_whose_time_is_over_starts_a_session_also_with_another_body(desk: Desk) -> None:
    desk.end(desk.start(idempotency=KEY), at=NOW)
    later = NOW + 8 * DAY_S
    second = desk.start(now=later, idempotency=attrs.evolve(KEY, body="other"))
    found = desk.prepare(Trigger(definition=DOCUMENT, idempotency=attrs.evolve(KEY, body="other")), later)
    assert found == second


def test_of_two_triggers_with_one_key_at_once_only_the_first_can_commit(desk: Desk) -> None:
    desk.start()
    first, second = desk.prepared(idempotency=KEY), desk.prepared(idempotency=KEY)
    desk.commit(first.extra)
    with pytest.raises(Superseded) as refusal:
        desk.commit(second.extra)
    assert refusal.value.table == IDEMPOTENCY.name


def test_what_a_key_started_is_answered_also_when_its_agent_and_definition_are_gone(desk: Desk) -> None:
    desk.commit(Submission(writes=(AGENTS.put(Agent(agent_id="x", name="x", registered_at=NOW)),)))
    session = desk.start(agent_id="x", idempotency=KEY)
    desk.commit(Submission(writes=(AGENTS.delete("x"), DEFINITIONS.delete("w"))))
    assert desk.prepare(Trigger(definition="w", agent_id="x", idempotency=KEY)) == session


@pytest.mark.parametrize("path", ["", "/" + "p" * 10_000])
def test_a_path_may_be_as_long_as_a_sender_likes(desk: Desk, path: str) -> None:
    key = IdempotencyKey(path=path, key="k" * 255)
    session = desk.start(idempotency=key)
    assert desk.prepare(Trigger(definition=DOCUMENT, idempotency=key)) == session


@pytest.mark.parametrize("wrong", [None, 5, b"k", ["k"]])
def test_a_key_and_its_path_are_texts(wrong: Any) -> None:
    with pytest.raises(TypeError, match="key: expected a string, found "):
        IdempotencyKey(path="orders", key=wrong)
    with pytest.raises(TypeError, match="path: expected a string, found "):
        IdempotencyKey(path=wrong, key="k")


def test_a_key_has_the_length_that_http_asks_for() -> None:
    for key, size in (("", 0), ("k" * 256, 256), ("ü" * 128, 256)):
        with pytest.raises(ValueError, match=f"key: expected 1 to 255 bytes, found {size}"):
            IdempotencyKey(path="orders", key=key)


def test_a_key_or_path_that_can_be_no_row_is_refused() -> None:
    for given in ({"path": "orders", "key": "\ud800"}, {"path": "\ud800", "key": "k"}):
        with pytest.raises(ValueError, match="holds half of a surrogate pair"):
            IdempotencyKey(**given)


ASKED: dict[str, Any] = {
    "definition": DOCUMENT,
    "payload": {"euro": 5, "to": "Ulm"},
    "agent_id": None,
    "labels": {"shop": "a"},
    "business_key": "order-1",
}


@pytest.mark.parametrize(
    "other",
    [
        {"payload": {"euro": 5_000, "to": "Ulm"}},
        {"payload": None},
        {"definition": {**DOCUMENT, "id": "another"}},
        {"definition": "w"},
        {"definition": {**DOCUMENT, "name": object()}},
        {"agent_id": "x"},
        {"labels": {}},
        {"business_key": None},
    ],
)
def test_a_key_without_a_body_stands_for_what_is_asked_for(desk: Desk, other: dict[str, Any]) -> None:
    key = IdempotencyKey(path="orders", key="k-1")
    session = desk.start(**ASKED, idempotency=key)
    turned = {"to": "Ulm", "euro": 5}
    assert desk.prepare(Trigger(**{**ASKED, "payload": turned}, idempotency=key)) == session
    with pytest.raises(IdempotencyConflict):
        desk.prepare(Trigger(**{**ASKED, **other}, idempotency=key))
    with pytest.raises(IdempotencyConflict):
        desk.prepare(Trigger(**ASKED, idempotency=IdempotencyKey(path="orders", key="k-1", body=None)))


def test_a_key_that_an_earlier_release_kept_without_a_body_answers_as_it_did(desk: Desk) -> None:
    key = IdempotencyKey(path="orders", key="k-1")
    # That release kept the body that stands for none; a request that has none still gives it so.
    session = desk.start(**ASKED, idempotency=IdempotencyKey(path="orders", key="k-1", body=None))
    assert desk.prepare(Trigger(**ASKED, idempotency=key)) == session
    assert desk.prepare(Trigger(**{**ASKED, "payload": 7}, idempotency=key)) == session
