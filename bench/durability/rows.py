"""The rows of sessions, finished and not, as the domain leaves them: one task each, and a record for each step."""

import itertools
from collections.abc import Iterator
from random import Random
from typing import Final

import attrs

from opscore.runtime.agents import leases
from opscore.runtime.definitions.definition import Definition, parse
from opscore.runtime.identity import new_id
from opscore.runtime.journal.tables import (
    AGENTS,
    DEFINITIONS,
    LEASES,
    OPEN_SESSIONS,
    REVISIONS,
    SESSIONS,
    TASKS,
    OpenSession,
    Revision,
    record,
)
from opscore.runtime.lease import Lease
from opscore.runtime.limits import Limits
from opscore.runtime.models import (
    STATE_ACTIVE,
    Agent,
    Failure,
    Record,
    SavedDefinition,
    Session,
    SessionStatus,
    Task,
    TaskStatus,
)
from opscore.runtime.store import Put, Submission

SEED: Final = 7
AGENTS_MAX: Final = 1_000
"""Agents, each of which holds one lease; all other tasks wait."""
RETRY_FROM_S: Final = 3_600.0
RETRY_TO_S: Final = 86_400.0
"""When retry delays end: after the measurement."""
BEGAN_BEFORE_S: Final = 86_400.0
BEGUN_EVERY_S: Final = 0.01
PAYLOAD: Final = {"incident": "login codes arrive twice", "severity": 2}
RESULT: Final = {"summary": "collected", "alerts": 17}


class Rows:
    """Builds sessions of one workflow, as submissions.

    Args:
        now: the wall time of all events.
    """

    def __init__(self, now: float) -> None:
        self._now = now
        self._random = Random(SEED)
        self._begun_s = now - BEGAN_BEFORE_S
        document = {"id": "measured", "tasks": [{"taskId": "work", "agentCapability": "working"}]}
        self._definition: Definition = parse(document, Limits())

    def workflow(self) -> Submission:
        definition = self._definition
        saved = SavedDefinition(
            workflow_id=definition.workflow_id,
            revision=1,
            definition_key=definition.digest,
            name=definition.name,
            version=definition.version,
            saved_at=self._now,
        )
        revision = Revision(definition_key=definition.digest, document=definition.document)
        return Submission(writes=(DEFINITIONS.put(saved), REVISIONS.put(revision)))

    def finished(self, count: int) -> Iterator[Submission]:
        """Sessions that completed."""
        for _ in range(count):
            session, task = self._begun()
            session = attrs.evolve(
                session, status=SessionStatus.COMPLETED, result={task.key: RESULT}, ended_at=self._now
            )
            task = self._given(task, "agent-0", TaskStatus.COMPLETED)
            task = attrs.evolve(task, ended_at=self._now, result=RESULT)
            steps = (TaskStatus.READY, TaskStatus.DISPATCHED, TaskStatus.RUNNING, TaskStatus.COMPLETED)
            stages = (SessionStatus.STARTED, SessionStatus.RUNNING, SessionStatus.COMPLETED)
            yield Submission(
                writes=(TASKS.put(task), SESSIONS.put(session)), records=self._records(session, task, steps, stages)
            )

    def unfinished(self, count: int) -> Iterator[Submission]:
        """Sessions under way: every agent has an attempt, delivered or not; of the others, every second one waits for
        an agent, and every second one for the end of its retry delay."""
        agents = min(AGENTS_MAX, count // 4)
        for index in range(count):
            if index < agents:
                yield self._out(f"agent-{index}", TaskStatus.RUNNING if index % 2 else TaskStatus.DISPATCHED)
            else:
                yield self._delayed() if index % 2 else self._ready()

    def _begun(self) -> tuple[Session, Task]:
        # Ids begin with the time, and so are in the order of the triggers.
        self._begun_s += BEGUN_EVERY_S
        session_id = new_id("ses", self._begun_s, self._random)
        session = Session(
            session_id=session_id,
            workflow_id=self._definition.workflow_id,
            definition_key=self._definition.digest,
            payload=PAYLOAD,
            created_at=self._now,
        )
        task = Task(
            task_id=f"{session_id}.0",
            session_id=session_id,
            key="work",
            ordinal=0,
            status=TaskStatus.READY,
            ready_at=self._now,
        )
        return session, task

    def _given(self, task: Task, agent_id: str, status: TaskStatus) -> Task:
        started_at = None if status is TaskStatus.DISPATCHED else self._now
        return attrs.evolve(
            task, status=status, attempt=1, agent_id=agent_id, dispatched_at=self._now, started_at=started_at
        )

    def _ready(self) -> Submission:
        session, task = self._begun()
        return self._open(session, task, (TaskStatus.READY,), (SessionStatus.STARTED,))

    def _delayed(self) -> Submission:
        session, task = self._begun()
        task = attrs.evolve(
            self._given(task, "agent-0", TaskStatus.PENDING_RETRY),
            retries=1,
            error=Failure(message="the connection was reset"),
            due_at=self._now + self._random.uniform(RETRY_FROM_S, RETRY_TO_S),
        )
        steps = (TaskStatus.READY, TaskStatus.DISPATCHED, TaskStatus.RUNNING, TaskStatus.PENDING_RETRY)
        return self._open(session, task, steps, (SessionStatus.STARTED, SessionStatus.RUNNING))

    def _out(self, agent_id: str, status: TaskStatus) -> Submission:
        session, task = self._begun()
        task = self._given(task, agent_id, status)
        agent = Agent(
            agent_id=agent_id,
            name=agent_id,
            capabilities=("working",),
            registered_at=self._now,
            state=STATE_ACTIVE,
            reported_at=self._now,
            received_at=self._now,
        )
        held: Lease = leases.granted(task, self._definition.tasks[0], agent_id, self._now)
        if status is TaskStatus.RUNNING:
            held = leases.renewed(held, self._now, active=True)
        steps = itertools.takewhile(
            lambda step: step is not TaskStatus.RUNNING or status is TaskStatus.RUNNING,
            (TaskStatus.READY, TaskStatus.DISPATCHED, TaskStatus.RUNNING),
        )
        moved = self._open(session, task, tuple(steps), (SessionStatus.STARTED, SessionStatus.RUNNING))
        return moved + Submission(writes=(AGENTS.put(agent), LEASES.put(held)))

    def _open(
        self, session: Session, task: Task, steps: tuple[TaskStatus, ...], stages: tuple[SessionStatus, ...]
    ) -> Submission:
        session = attrs.evolve(session, status=stages[-1])
        line = OPEN_SESSIONS.put(OpenSession(session_id=session.session_id))
        return Submission(
            writes=(TASKS.put(task), SESSIONS.put(session), line), records=self._records(session, task, steps, stages)
        )

    def _records(
        self, session: Session, task: Task, steps: tuple[TaskStatus, ...], stages: tuple[SessionStatus, ...]
    ) -> tuple[Put, ...]:
        lines = [("task", task.task_id, f"task.{step}", {"taskKey": task.key, "attempt": 1}) for step in steps]
        lines += [
            ("session", session.session_id, f"session.{stage}", {"workflowId": session.workflow_id}) for stage in stages
        ]
        return tuple(
            record(
                Record(
                    at=self._now,
                    entity=entity,
                    entity_id=entity_id,
                    session_id=session.session_id,
                    kind=kind,
                    data=data,
                )
            )
            for entity, entity_id, kind, data in lines
        )
