"""Compares the ledger with what the data directory holds while no server runs; every finding is a sentence."""

from collections import Counter, defaultdict
from collections.abc import Iterator
from typing import Any, Final

from opscore.runtime.models import SESSION_ENDED, TASK_OPEN, SessionStatus, Task, TaskStatus
from tests.crash.clients import WORKFLOWS
from tests.crash.history import History, has_ended, is_open
from tests.crash.ledger import Ledger, Order, Work
from tests.crash.rows import Rows, scope


def _keys(workflow: dict[str, Any]) -> list[str]:
    return [task["taskId"] for task in workflow["tasks"]]


_TASKS: Final = {workflow["id"]: _keys(workflow) for workflow in WORKFLOWS}


def violations(ledger: Ledger, rows: Rows, history: History) -> list[str]:
    """Yield everything that must hold after a kill at any moment, but does not."""
    return [
        *rows.faults,
        *history.follow(rows.records),
        *_rows_agree(ledger, rows, history),
        *_leases(rows),
        *_orders(ledger, rows),
        *_works(ledger, rows, history),
        *_numbers(ledger, rows),
    ]


def unfinished(ledger: Ledger, rows: Rows) -> list[str]:
    """Yield everything that must have ended after the load, but has not."""
    found = [f"order {order.key} was never answered" for order in ledger.orders.values() if order.session_id is None]
    found += [f"session {each} is still open" for each in sorted(rows.open_sessions)]
    found += [f"task {each.task_id} is still {each.status}" for each in rows.tasks.values() if not has_ended(each)]
    found += [f"agent {agent_id} still holds a lease" for agent_id in rows.leases]
    for session_id, tasks in _by_session(rows).items():
        session = rows.sessions.get(session_id)
        if session is None:
            continue
        failed = any(task.status is TaskStatus.FAILED for task in tasks)
        if session.status is not (SessionStatus.FAILED if failed else SessionStatus.COMPLETED):
            found.append(f"session {session_id} is {session.status}, its tasks {[str(task.status) for task in tasks]}")
        last = max(tasks, key=lambda task: task.ordinal)
        if not failed and session.result != {last.key: last.result}:
            found.append(f"session {session_id} has the result {session.result}, its last task {last.result}")
    return found


def _rows_agree(ledger: Ledger, rows: Rows, history: History) -> Iterator[str]:
    """Check that rows and journal agree, and that each session has all its tasks."""
    for task in rows.tasks.values():
        disagreement = history.disagreement(task)
        if disagreement is not None:
            yield disagreement
    for missing in history.tasks.keys() - rows.tasks.keys():
        yield f"task {missing} stands in the journal and has no row"
    for missing in history.sessions.keys() - rows.sessions.keys():
        yield f"session {missing} stands in the journal and has no row"
    expected = _TASKS | {
        order.workflow_id: _keys(order.document) for order in list(ledger.orders.values()) if order.document
    }
    keys = {session_id: sorted(task.key for task in tasks) for session_id, tasks in _by_session(rows).items()}
    for session in rows.sessions.values():
        if keys.get(session.session_id, []) != sorted(expected[session.workflow_id]):
            yield f"session {session.session_id} has the tasks {keys.get(session.session_id)}"
        if (session.session_id in rows.open_sessions) is (session.status in SESSION_ENDED):
            yield f"session {session.session_id} is {session.status}, and the index of open ones says otherwise"
    for stray in rows.open_sessions - rows.sessions.keys():
        yield f"session {stray} is in the index of open ones and has no row"


def _leases(rows: Rows) -> Iterator[str]:
    """Check that each open attempt has a lease, and each lease an open attempt."""
    held = {(lease.task_id, lease.attempt, agent_id) for agent_id, lease in rows.leases.items()}
    out = {
        (task.task_id, task.attempt, task.agent_id or "") for task in rows.tasks.values() if task.status in TASK_OPEN
    }
    for task_id, attempt, agent_id in held - out:
        yield f"{agent_id} holds a lease on attempt {attempt} of {task_id}, which is not open with it"
    for task_id, attempt, agent_id in out - held:
        yield f"attempt {attempt} of {task_id} is open with {agent_id}, which holds no lease on it"
    for agent_id in rows.leases.keys() - rows.agents.keys():
        yield f"{agent_id} holds a lease and is not registered"


def _by_session(rows: Rows) -> dict[str, list[Task]]:
    found: dict[str, list[Task]] = defaultdict(list)
    for task in rows.tasks.values():
        found[task.session_id].append(task)
    return found


def _orders(ledger: Ledger, rows: Rows) -> Iterator[str]:
    """Check that each acknowledged order has its session, and that no order has two."""
    started = Counter(str((session.payload or {}).get("order")) for session in rows.sessions.values())
    for key in started.keys() - ledger.orders.keys():
        yield f"a session has the payload of order {key}, which nobody sent"
    for order in list(ledger.orders.values()):
        if started[order.key] > 1:
            yield f"order {order.key} started {started[order.key]} sessions"
        used = rows.keys.get(scope(order))
        if (used is not None) is not (started[order.key] > 0):
            yield f"order {order.key} has {started[order.key]} sessions, its key {'none' if used is None else 'one'}"
        if order.session_id is not None:
            yield from _acknowledged_order(order, rows)
        elif used is not None and used.session_id not in rows.sessions:
            yield f"order {order.key} was not answered, and its key stands for {used.session_id}, which is not there"


def _acknowledged_order(order: Order, rows: Rows) -> Iterator[str]:
    session = rows.sessions.get(order.session_id or "")
    used = rows.keys.get(scope(order))
    if session is None:
        yield f"order {order.key} was acknowledged as {order.session_id}, which is not there"
    elif (session.payload, session.workflow_id) != (order.payload, order.workflow_id):
        yield f"order {order.key} is {session.payload} of {session.workflow_id}"
    if used is None or used.session_id != order.session_id:
        yield f"order {order.key} was acknowledged as {order.session_id}, its key stands for {used}"


def _works(ledger: Ledger, rows: Rows, history: History) -> Iterator[str]:
    """Check that attempts that agents were handed were dispatched to them, and that what was acknowledged holds."""
    tries: dict[str, set[str]] = defaultdict(set)
    for work in list(ledger.works.values()):
        tries[work.task_id].update(work.tries)
        task, told = rows.tasks.get(work.task_id), history.tasks.get(work.task_id)
        what = f"attempt {work.attempt} of {work.task_id}"
        if task is None or told is None or told.holders.get(work.attempt) != work.agent_id:
            yield f"{what} was handed to {work.agent_id}, and by the journal was never given to it"
            continue
        session = rows.sessions.get(task.session_id)
        if session is not None and session.payload != {"order": work.order_key}:
            yield f"{what} was handed out for order {work.order_key}, its session is for {session.payload}"
        if work.completed is not None:
            if task.status is not TaskStatus.COMPLETED or task.attempt != work.attempt:
                yield f"{what} was acknowledged as completed, the task is {task.status} at attempt {task.attempt}"
            elif task.result != work.completed:
                yield f"{what} was acknowledged with {work.completed!r}, the task has {task.result!r}"
        if work.failed and work.attempt not in told.failed:
            yield f"{what} was acknowledged as failed, and by the journal did not fail"
        yield from _life(work, task, rows, what, started=work.attempt in told.started)
    for task in rows.tasks.values():
        if task.status is TaskStatus.COMPLETED and task.result not in tries[task.task_id]:
            yield f"task {task.task_id} has the result {task.result!r}, which nobody sent"


def _life(work: Work, task: Task, rows: Rows, what: str, *, started: bool) -> Iterator[str]:
    if work.over and is_open(task, work.attempt):
        yield f"{what} was said to be over, and is open"
    lease = rows.leases.get(work.agent_id)
    if work.heartbeat and not started:
        yield f"{what} had a heartbeat acknowledged, and by the journal never showed life"
    if work.heartbeat and is_open(task, work.attempt) and (lease is None or not lease.heartbeat_seen):
        yield f"{what} had a heartbeat acknowledged, and its lease knows of none"


def _numbers(ledger: Ledger, rows: Rows) -> Iterator[str]:
    """Check that each overwritten row has a version that was sent, and that is not older than the acknowledged one."""
    for name, numbered in list(ledger.numbers.items()):
        what, _, identity = name.partition(":")
        stored = _stored_number(what, identity, rows)
        if not numbered.acknowledged <= stored <= numbered.sent:
            yield f"{name} is at {stored}, {numbered.acknowledged} was acknowledged and {numbered.sent} sent"
        saved = rows.definitions.get(identity)
        if what == "definition" and saved is not None and saved.revision != stored:
            yield f"definition {identity} has had {saved.revision} revisions, and {stored} were sent"


def _stored_number(what: str, identity: str, rows: Rows) -> int:
    if what == "definition":
        saved = rows.definitions.get(identity)
        return 0 if saved is None else int(saved.version)
    agent = rows.agents.get(identity)
    if agent is None:
        return 0
    return int(((agent.details if what == "state" else agent.metadata) or {}).get("number", 0))
