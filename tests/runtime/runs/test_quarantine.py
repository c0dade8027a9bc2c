"""What becomes of a run that is paused over its actor's head."""

import random
from collections.abc import Iterator
from pathlib import Path

import attrs
import pytest

from opscore.runtime.agents import leases
from opscore.runtime.definitions.definition import Definition, parse
from opscore.runtime.errors import Superseded
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import (
    AGENTS,
    LEASES,
    OPEN_SESSIONS,
    RECORDS,
    REVISIONS,
    SESSIONS,
    TASKS,
    OpenSession,
)
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.models import Agent, Failure, Move, Session, SessionStatus, TaskStatus
from opscore.runtime.runs import definition_rows, quarantine, steering, transitions
from opscore.runtime.runs.run import Run
from opscore.runtime.runs.session_rows import steering_guard
from opscore.runtime.storage.lmdb_store import LmdbStore
from opscore.runtime.store import Submission
from tests.runtime.world import MAP_BYTES, one_task

NOW = 1_000.0
LATER = NOW + 5.0
AGENT = Agent(agent_id="a", name="a", registered_at=0.0, state="idle")


@pytest.fixture
def store(tmp_path: Path) -> Iterator[LmdbStore]:
    with open_store(tmp_path, map_bytes=MAP_BYTES) as opened:
        yield opened


def definition() -> Definition:
    return parse(one_task(scheduleToStartSeconds=10, scheduleToCloseSeconds=50), Limits())


def dispatched(session_id: str = "s") -> Run:
    """A run whose only task is out with the agent."""
    session = Session(session_id=session_id, workflow_id="one", definition_key=definition().digest, created_at=0.0)
    begun = transitions.begin(session, definition(), NOW).run
    return transitions.dispatch(begun, begun.tasks[0], "a", NOW).run


def keep(store: LmdbStore, run: Run) -> int:
    """Store a run with its lease; returns the version that guards it."""
    (task,) = run.tasks
    lease = leases.granted(task, run.task_definition(task), "a", NOW)
    written = (
        AGENTS.put(AGENT),
        REVISIONS.put(definition_rows.revision(definition())),
        SESSIONS.put(run.session),
        TASKS.put(task),
        LEASES.put(lease),
        OPEN_SESSIONS.put(OpenSession(session_id=run.session.session_id)),
    )
    (version,) = store.apply([Submission(writes=written)])
    assert isinstance(version, int)
    return version


def decide(store: LmdbStore, session_id: str = "s") -> quarantine.Quarantine | None:
    with store.snapshot() as view:
        return quarantine.decided(view, session_id, "it fell", LATER, Library(Limits()))


def test_a_paused_run_gives_its_agents_back_and_its_tasks_to_the_queue(store: LmdbStore) -> None:
    keep(store, dispatched())
    found = decide(store)
    assert found is not None
    assert [lease.agent_id for lease in found.taken_back] == ["a"]
    store.apply([found.submission])
    with store.snapshot() as view:
        session, task = SESSIONS.read(view, "s").row, TASKS.read(view, "s.0").row
        assert session is not None
        assert (session.status, session.reason) == (SessionStatus.PAUSED, "actor_crashed")
        assert task is not None
        assert (task.status, task.retries) == (TaskStatus.READY, 0)
        assert (task.due_at, task.closes_at) == (LATER + 10, NOW + 50), "it waits for its next agent as for the first"
        told = [record for record, _ in RECORDS.scan(view) if record.kind == "task.ready"]
        assert told[-1].data["error"]["code"] == "lost"
        assert LEASES.read(view, "a").row is None


@pytest.mark.parametrize("move", [Move.CANCEL, Move.RESET])
def test_what_was_taken_back_before_stays_with_its_agent_until_that_lets_go(store: LmdbStore, move: Move) -> None:
    run = dispatched()
    keep(store, run)
    step = steering.steered(run, move, None, NOW)
    assert step is not None
    with store.snapshot() as view:
        revoked = steering_guard(view, run=run, step=step)
    store.apply([revoked + Submission(writes=tuple(TASKS.put(task) for task in step.changed))])
    found = decide(store)
    assert found is not None
    assert found.taken_back == ()
    store.apply([found.submission])
    with store.snapshot() as view:
        lease, task = LEASES.read(view, "a").row, TASKS.read(view, "s.0").row
        assert lease is not None
        assert lease.revoked
        assert task == step.run.tasks[0]


def test_a_definition_that_is_not_there_keeps_no_run_from_being_paused(store: LmdbStore) -> None:
    keep(store, dispatched())
    store.apply([Submission(writes=(REVISIONS.delete(definition().digest),))])
    found = decide(store)
    assert found is not None
    assert len(found.taken_back) == 1


def test_a_paused_run_that_was_failing_lets_its_open_attempts_go_for_good(store: LmdbStore) -> None:
    run = dispatched()
    keep(store, attrs.evolve(run, session=attrs.evolve(run.session, error=Failure(message="another task failed"))))
    found = decide(store)
    assert found is not None
    store.apply([found.submission])
    with store.snapshot() as view:
        task = TASKS.read(view, "s.0").row
        assert task is not None
        assert (task.status, task.ended_at) == (TaskStatus.CANCELLED, LATER)


@pytest.mark.parametrize("cause", ["failed", "cancelled"])
def test_what_undoes_a_run_is_done_again_when_it_goes_on(store: LmdbStore, cause: str) -> None:
    undoing = parse(
        {
            "id": "w",
            "tasks": [
                {"taskId": "a", "agentCapability": "work", "compensateTaskId": "undo", "dependsOn": []},
                {"taskId": "undo", "agentCapability": "work"},
                {"taskId": "b", "agentCapability": "work", "dependsOn": ["a"], "retry": {"maxRetries": 0}},
            ],
        },
        Limits(),
    )
    session = Session(session_id="s", workflow_id="w", definition_key=undoing.digest, created_at=0.0)
    run = transitions.begin(session, undoing, NOW).run
    run = transitions.dispatch(run, run.tasks[0], "a", NOW).run
    run = transitions.complete(run, run.tasks[0], None, NOW).run
    if cause == "failed":
        run = transitions.dispatch(run, run.tasks[2], "a", NOW).run
        run = transitions.fail(run, run.tasks[2], Failure(message="no"), NOW, random.Random(1)).run
    else:
        run = transitions.cancel(run, None, NOW).run
    run = transitions.dispatch(run, run.tasks[1], "a", NOW).run
    store.apply(
        [
            Submission(
                writes=(
                    AGENTS.put(AGENT),
                    REVISIONS.put(definition_rows.revision(undoing)),
                    SESSIONS.put(run.session),
                    *map(TASKS.put, run.tasks),
                    LEASES.put(leases.granted(run.tasks[1], undoing.tasks[1], "a", NOW)),
                    OPEN_SESSIONS.put(OpenSession(session_id="s")),
                )
            )
        ]
    )
    found = decide(store)
    assert found is not None
    store.apply([found.submission])
    with store.snapshot() as view:
        task = TASKS.read(view, "s.1").row
        assert task is not None
        assert (task.status, task.retries) == (TaskStatus.READY, 0)


def test_an_actor_that_decided_before_its_run_was_paused_is_refused(store: LmdbStore) -> None:
    version = keep(store, dispatched())
    found = decide(store)
    assert found is not None
    late = Submission(expects=(OPEN_SESSIONS.expect("s", version),), writes=(SESSIONS.put(dispatched().session),))
    _, refused = store.apply([found.submission, late])
    assert isinstance(refused, Superseded)


def test_a_pause_that_the_runs_actor_overtook_is_refused(store: LmdbStore) -> None:
    version = keep(store, dispatched())
    found = decide(store)
    assert found is not None
    step = Submission(
        expects=(OPEN_SESSIONS.expect("s", version),), writes=(OPEN_SESSIONS.put(OpenSession(session_id="s")),)
    )
    _, refused = store.apply([step, found.submission])
    assert isinstance(refused, Superseded)


def test_a_run_that_has_ended_or_never_was_is_not_paused(store: LmdbStore) -> None:
    keep(store, dispatched())
    store.apply([Submission(writes=(OPEN_SESSIONS.delete("s"),))])
    assert decide(store) is None
    assert decide(store, "nowhere") is None


def test_pausing_one_run_takes_nothing_from_another(store: LmdbStore) -> None:
    keep(store, dispatched())
    assert keep(store, dispatched("t")) > 0
    found = decide(store)
    assert found is not None
    assert found.taken_back == (), "the lease is the other run's by now"
