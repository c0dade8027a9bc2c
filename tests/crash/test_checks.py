"""The checks of a directory against the ledger find every change that contradicts it."""

from collections.abc import Callable
from typing import Any

import attrs
import pytest

from opscore.runtime.lease import Lease
from opscore.runtime.models import (
    Agent,
    IdempotentTrigger,
    Record,
    SavedDefinition,
    Session,
    SessionStatus,
    Task,
    TaskStatus,
)
from tests.crash.checks import unfinished, violations
from tests.crash.history import History
from tests.crash.ledger import Ledger, Order
from tests.crash.rows import Rows, scope

DONE, OPEN = "done", "open"
"""Two orders: the run of one has ended, the last task of the other is out with bob."""
MOVES = {
    "done.0": [("ready", 0), ("dispatched", 1), ("completed", 1)],
    "done.1": [("pending", 0), ("ready", 0), ("dispatched", 1), ("completed", 1)],
    "open.0": [("ready", 0), ("dispatched", 1), ("completed", 1)],
    "open.1": [("pending", 0), ("ready", 0), ("dispatched", 1), ("running", 1)],
}


def ledger() -> Ledger:
    kept = Ledger()
    for key in (DONE, OPEN):
        order = Order(key=key, workflow_id="chain")
        kept.order(order)
        kept.ordered(order, key)
    for task_id in ("done.0", "done.1", "open.0"):
        work = kept.handed(task_id, 1, "ada", {"order": task_id.partition(".")[0]})
        kept.completed(work, kept.trying(work))
    kept.handed("open.1", 1, "bob", {"order": OPEN}).heartbeat = True
    for name in ("agent:ada", "state:ada", "definition:ada"):
        for _ in range(3):
            kept.number(name, again=False)
        kept.numbered(name, 2)
    return kept


def rows() -> Rows:
    return Rows(
        agents={name: agent(name) for name in ("ada", "bob")},
        leases={"bob": lease("bob", "open.1")},
        sessions={DONE: session(DONE, SessionStatus.COMPLETED), OPEN: session(OPEN, SessionStatus.RUNNING)},
        open_sessions={OPEN},
        tasks={task_id: task(task_id, moves[-1][0]) for task_id, moves in MOVES.items()},
        definitions={"ada": definition(revision=2)},
        keys={scope(Order(key=key, workflow_id="chain")): used_for(key) for key in (DONE, OPEN)},
        records=[(0, record(task_id, *move)) for task_id, moves in MOVES.items() for move in moves],
        faults=[],
    )


def agent(name: str, number: int = 2) -> Agent:
    numbered = {"number": number}
    return Agent(agent_id=name, name=name, registered_at=0.0, metadata=numbered, details=numbered)


def lease(name: str, task_id: str, **fields: Any) -> Lease:
    times = {"granted_at": 0.0, "expires_at": 1.0, "timeout_at": 1.0, "lease_s": 1.0}
    given = {"heartbeat_seen": True, **times, **fields}
    return Lease(agent_id=name, session_id=OPEN, task_id=task_id, attempt=1, **given)


def session(key: str, status: SessionStatus, **fields: Any) -> Session:
    given = {"payload": {"order": key}, "result": {"last": "ada attempt 1 try 1"}, **fields}
    return Session(session_id=key, workflow_id="chain", definition_key="x", status=status, created_at=0.0, **given)


def task(task_id: str, status: str, **fields: Any) -> Task:
    session_id, _, ordinal = task_id.partition(".")
    given = {"result": "ada attempt 1 try 1" if status == "completed" else None, "attempt": 1, **fields}
    return Task(
        task_id=task_id,
        session_id=session_id,
        key=("first", "last")[int(ordinal)],
        ordinal=int(ordinal),
        status=TaskStatus(status),
        agent_id="bob" if task_id == "open.1" else "ada",
        **given,
    )


def definition(*, revision: int) -> SavedDefinition:
    return SavedDefinition(
        workflow_id="ada", revision=revision, definition_key="x", name="ada", version="2", saved_at=0.0
    )


def used_for(session_id: str) -> IdempotentTrigger:
    return IdempotentTrigger(body_digest="x", session_id=session_id, workflow_id="chain")


def record(task_id: str, status: str, attempt: int) -> Record:
    holder = "bob" if task_id == "open.1" else "ada"
    return Record(
        at=0.0,
        entity="task",
        entity_id=task_id,
        kind=f"task.{status}",
        data={"attempt": attempt, "agentId": holder if attempt else None},
    )


def found(bent: Rows) -> str:
    return "\n".join(violations(ledger(), bent, History()))


def test_nothing_is_found_in_a_sound_directory() -> None:
    assert found(rows()) == ""


BENT: list[tuple[str, Callable[[Rows], Any]]] = [
    ("acknowledged as done, which is not there", lambda rows: rows.sessions.pop(DONE)),
    ("is {'order': 'open'} of chain", lambda rows: rows.sessions.update(done=session(OPEN, SessionStatus.COMPLETED))),
    ("order done started 2 sessions", lambda rows: rows.sessions.update(x=session(DONE, SessionStatus.RUNNING))),
    ("order done was acknowledged as done, its key stands for None", lambda rows: rows.keys.clear()),
    ("has the tasks ['last']", lambda rows: rows.tasks.pop("done.0")),
    ("task done.0 stands in the journal and has no row", lambda rows: rows.tasks.pop("done.0")),
    ("is ready at attempt 1", lambda rows: rows.tasks.update({"done.0": task("done.0", "ready")})),
    ("and by the journal completed", lambda rows: rows.tasks.update({"done.0": task("done.0", "failed")})),
    ("the task has 'x'", lambda rows: rows.tasks.update({"done.0": task("done.0", "completed", result="x")})),
    ("which nobody sent", lambda rows: rows.tasks.update({"done.0": task("done.0", "completed", result="x")})),
    ("holds no lease on it", lambda rows: rows.leases.clear()),
    ("which is not open with it", lambda rows: rows.leases.update(ada=lease("ada", "done.1"))),
    ("its lease knows of none", lambda rows: rows.leases.update(bob=lease("bob", "open.1", heartbeat_seen=False))),
    ("bob holds a lease and is not registered", lambda rows: rows.agents.pop("bob")),
    ("agent:ada is at 1, 2 was acknowledged", lambda rows: rows.agents.update(ada=agent("ada", 1))),
    ("state:ada is at 4, 2 was acknowledged and 3 sent", lambda rows: rows.agents.update(ada=agent("ada", 4))),
    ("definition:ada is at 0", lambda rows: rows.definitions.clear()),
    ("has had 3 revisions", lambda rows: rows.definitions.update(ada=definition(revision=3))),
    ("the index of open ones says otherwise", lambda rows: rows.open_sessions.clear()),
    ("session x is in the index of open ones", lambda rows: rows.open_sessions.add("x")),
]  # fmt: skip


@pytest.mark.parametrize(("finding", "bend"), BENT, ids=[finding for finding, _ in BENT])
def test_whatever_is_bent_is_found(finding: str, bend: Callable[[Rows], Any]) -> None:
    bent = rows()
    bend(bent)
    assert finding in found(bent)


def test_an_attempt_that_was_handed_out_and_not_given_is_found() -> None:
    kept = ledger()
    kept.handed("open.1", 2, "bob", {"order": OPEN})
    assert "attempt 2 of open.1 was handed to bob, and by the journal was never given to it" in violations(
        kept, rows(), History()
    )


def test_what_is_not_over_at_the_end_is_found() -> None:
    assert unfinished(ledger(), rows()) == [
        "session open is still open",
        "task open.1 is still running",
        "agent bob still holds a lease",
        "session open is running, its tasks ['completed', 'running']",
        "session open has the result {'last': 'ada attempt 1 try 1'}, its last task None",
    ]


def test_a_session_that_failed_without_a_failed_task_is_found() -> None:
    bent = rows()
    bent.sessions[DONE] = attrs.evolve(bent.sessions[DONE], status=SessionStatus.FAILED)
    assert "session done is failed, its tasks ['completed', 'completed']" in unfinished(ledger(), bent)
