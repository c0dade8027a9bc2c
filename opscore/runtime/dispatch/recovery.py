"""Reading from the rows what waits, who is idle and what holds slots, for the dispatcher when it starts."""

import functools
import itertools
import logging
from collections.abc import Callable, Collection, Iterator
from typing import Final, TypeVar

from opscore.runtime.agents import leases
from opscore.runtime.agents.availability import announcement, available, fresh_s, silence_s
from opscore.runtime.dispatch.gates import WORKFLOW, limited
from opscore.runtime.errors import StoreDamaged
from opscore.runtime.evolving import evolve
from opscore.runtime.journal.tables import (
    AGENTS,
    LEASES,
    RECORDS,
    SESSIONS,
    SLOTS,
    TASKS,
    TASKS_IN_LINE,
    TASKS_READY,
    in_line,
    line_begins,
    session_of,
)
from opscore.runtime.journal.typed_tables import Versioned, time_at
from opscore.runtime.lease import Lease, Slot
from opscore.runtime.library import Library
from opscore.runtime.limits import Limits
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.models import Agent, Record, Session, SessionStatus, TaskStatus
from opscore.runtime.store import Snapshot, Submission
from opscore.runtime.waiting import (
    CAPABILITY,
    Held,
    LinePage,
    Place,
    ReadyTask,
    Requirement,
    line_name,
    line_of,
    rank_of,
    ready_task,
)

ResultT = TypeVar("ResultT")

RECORDS_LOOKED_AT_MAX: Final = 100_000
"""How many records of the journal are read back for attempts that began lately."""
COMMITS_TAKE_S: Final = 120.0
"""How long a commit may take before those who wait are told that the disk does not answer."""

_log = logging.getLogger("opscore.recovery")


def first_pages(view: Snapshot, *, library: Library, window: int) -> list[LinePage]:
    """Return the first page of every line in which tasks wait for agents."""
    found: list[LinePage] = []
    after: bytes | None = None
    while (line := next(TASKS_IN_LINE.sound_lines(view, after=after), None)) is not None:
        place, task_id = line
        name = line_begins(place, task_id)
        tasks, reached = _read_on(view, name, name, library, window)
        requirement = tasks[0].requirement if tasks else _requirement(view, task_id)
        if requirement is not None:
            found.append(LinePage(requirement=requirement, tasks=tasks, reached=reached))
        # Times begin with a smaller byte than this, so it sorts after the line's entries and before the next line.
        after = name + b"\xff"
    return found


def next_page(view: Snapshot, requirement: Requirement, after: Place, *, library: Library, window: int) -> LinePage:
    """Return the next page of a line, after a place."""
    rank, task_id = after
    place = in_line(line_name(requirement), rank) + task_id.encode()
    tasks, reached = _read_on(view, line_begins(place, task_id), place, library, window)
    return LinePage(requirement=requirement, tasks=tasks, reached=reached)


def _read_on(
    view: Snapshot, name: bytes, after: bytes, library: Library, window: int
) -> tuple[tuple[ReadyTask, ...], Place | None]:
    found: list[ReadyTask] = []
    # Thousands of tasks may be items of one list; without this, their run and its payload would be read for each.
    runs: dict[str, Session | None] = {}
    for looked, (place, task_id) in enumerate(TASKS_IN_LINE.sound_lines(view, after=after), start=1):
        if not place.startswith(name):
            break
        waiting = _unless_damaged(task_id, functools.partial(_waiting, view, task_id, library, runs))
        if waiting is not None:
            found.append(waiting)
        if looked == window:
            return tuple(found), (time_at(place[len(name) :]), task_id)
    return tuple(found), None


def _requirement(view: Snapshot, task_id: str) -> Requirement | None:
    """Return what the tasks of a line need, from the row of one of them."""
    task = _unless_damaged(task_id, lambda: TASKS.read(view, task_id).row)
    kind, _, what = ((task.line or "") if task is not None else "").partition("/")
    return (kind, what) if kind else None


def _unless_damaged(task_id: str, read: Callable[[], ResultT | None]) -> ResultT | None:
    """Read something of a task; return None if it is damaged, so that other runs can go on."""
    try:
        return read()
    except StoreDamaged:
        _log.exception("task %s can't go on", task_id)
        return None


def out_of_line(view: Snapshot, *, library: Library, count: int) -> tuple[Submission, list[str]]:
    """Put tasks that wait outside of a line, as an earlier release wrote them, into lines, at most `count`.

    Returns:
        the submission, and the ids of the tasks' sessions.
    """
    found, sessions = Submission(), dict[str, None]()
    for _, task_id in TASKS_READY.sound_lines(view):
        put = _unless_damaged(task_id, functools.partial(_put_in_line, view, task_id, library))
        if put is not None:
            found += put
            sessions[session_of(task_id)] = None
        if len(found.writes) == count:
            break
    return found, list(sessions)


def _put_in_line(view: Snapshot, task_id: str, library: Library) -> Submission | None:
    task = TASKS.read(view, task_id)
    session = None if task.row is None else SESSIONS.read(view, task.row.session_id).row
    if task.row is None or session is None:
        return None
    definition = library.find(view, session.definition_key).tasks[task.row.ordinal]
    rank = rank_of(definition.priority, task.row.ready_at or 0.0)
    put = TASKS.put(evolve(task.row, line=line_of(session, definition), rank=rank))
    return Submission(expects=(TASKS.expect(task_id, task.version),), writes=(put,))


def _waiting(view: Snapshot, task_id: str, library: Library, runs: dict[str, Session | None]) -> ReadyTask | None:
    task = TASKS.read(view, task_id).row
    if task is None:
        return None
    if task.session_id not in runs:
        row = SESSIONS.read(view, task.session_id).row
        runs[task.session_id] = None if row is None else evolve(row, payload=None)
    session = runs[task.session_id]
    if session is None or session.status is SessionStatus.PAUSED:
        return None
    definition = library.find(view, session.definition_key)
    return ready_task(session, definition.tasks[task.ordinal], task)


def idle_agents(
    view: Snapshot, *, reaches: Callable[[Agent], bool], now: float, steady: float, limits: Limits
) -> list[AgentAvailable]:
    """Return the agents that can be given work.

    Args:
        view: the rows.
        reaches: returns whether there is a way to an agent.
        now: wall time.
        steady: the time of trio's clock.
        limits: the node's limits.
    """
    found = []
    for agent, version in AGENTS.sound_rows(view):
        try:
            lease = LEASES.read(view, agent.agent_id)
        except StoreDamaged:
            _log.exception("agent %s gets no work", agent.agent_id)
            continue
        leased, silent_s = lease.row is not None, silence_s(agent, now)
        if available(agent, leased=leased, reachable=reaches(agent), now=now, silent_s=silent_s, limits=limits):
            fresh_until = steady + fresh_s(agent, silent_s, limits)
            found.append(announcement(agent, version, view.last_sequence(), fresh_until=fresh_until))
    return found


def slots_held(view: Snapshot, names: Collection[str] | None = None) -> tuple[Held, ...]:
    """Return which agents hold which slots: all slots, or those with these names."""
    rows = SLOTS.sound_rows(view) if names is None else [(each.row, each.version) for each in _slots(view, names)]
    found: dict[tuple[str, int], list[str]] = {}
    for slot, version in rows:
        if slot is not None:
            found.setdefault((slot.agent_id, version), []).append(slot.name)
    return tuple(
        Held(agent_id=agent_id, slots=tuple(slots), version=version) for (agent_id, version), slots in found.items()
    )


def _slots(view: Snapshot, names: Collection[str]) -> Iterator[Versioned[Slot]]:
    return (SLOTS.read(view, name) for name in names)


def beginnings(view: Snapshot, *, library: Library, limits: Limits, now: float) -> dict[str, list[float]]:
    """Return when attempts behind each gate with a limit per interval began, oldest first, as far back as matters."""
    bounded = {name: limit for name, limit in limited(limits) if limit.per_interval is not None}
    found: dict[str, list[float]] = {name: [] for name in bounded}
    since = now - max((limit.interval_s for limit in bounded.values()), default=0.0)
    records = RECORDS.scan(view, reverse=True) if bounded else ()
    try:
        handed = _handed_over(view, library, now) if bounded else {}
        for record, _ in itertools.islice(records, RECORDS_LOOKED_AT_MAX):
            if record.at < since - COMMITS_TAKE_S or all(
                len(found[name]) >= (limit.per_interval or 0) for name, limit in bounded.items()
            ):
                break
            if record.kind == f"task.{TaskStatus.DISPATCHED}":
                # The record has the time of the decision; the attempt began when the commit was done.
                began = max(record.at, handed.get((record.entity_id, record.data["attempt"]), record.at))
                for name in _gates_of(view, record, library) if began >= since else ():
                    if name in found:
                        found[name].append(began)
    except StoreDamaged:
        _log.exception("attempts that began before this record are not counted")
    return {name: sorted(times) for name, times in found.items()}


def _handed_over(view: Snapshot, library: Library, now: float) -> dict[tuple[str, int], float]:
    """Return the attempts without a sign of life, each with about the time of its handover; now, if that is to come."""
    silent = [lease for lease, _ in LEASES.sound_rows(view) if not leases.shows_life(lease)]
    return {
        (lease.task_id, lease.attempt): _handed_over_at(view, library, lease) if lease.delivered else now
        for lease in silent
    }


def _handed_over_at(view: Snapshot, library: Library, lease: Lease) -> float:
    at = lease.expires_at - lease.lease_s
    session, task = SESSIONS.read(view, lease.session_id).row, TASKS.read(view, lease.task_id).row
    if session is None or task is None or task.closes_at is not None:
        return at
    # After a restart the agent gets a full lease again, which does not count: its timeout is extended only if less is
    # left of that than of a lease.
    timeout_s = library.find(view, session.definition_key).by_key[task.key].timeout_s
    return at if timeout_s is None else min(at, lease.timeout_at - timeout_s)


def _gates_of(view: Snapshot, record: Record, library: Library) -> Iterator[str]:
    session = SESSIONS.read(view, record.session_id or "").row
    if session is not None:
        task = library.find(view, session.definition_key).by_key[record.data["taskKey"]]
        yield f"{WORKFLOW}/{session.workflow_id}"
        yield f"{CAPABILITY}/{task.capability}"
