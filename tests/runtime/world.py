"""The stage of the node's tests: one data directory, virtual time, remote agents that do as they are told.

No thread and no socket: commits are applied on the loop, so that trio's autojump clock never mistakes a commit for
idleness. Opening the world's node again is a restart.
"""

import inspect
from collections.abc import AsyncIterator, Awaitable, Callable, Iterator, Sequence
from contextlib import asynccontextmanager, contextmanager
from pathlib import Path
from typing import Any, TypeVar

import pytest
import trio
from trio.testing import wait_all_tasks_blocked

from opscore.actors.actor import Actor, Routes
from opscore.actors.clock import VirtualClock
from opscore.runtime import codec
from opscore.runtime.delivery import Answered, Fact
from opscore.runtime.errors import NotReady, StoreFull
from opscore.runtime.journal.opening import open_store
from opscore.runtime.journal.tables import AGENTS, LEASES, OPEN_SESSIONS, SESSIONS, TASKS
from opscore.runtime.lease import Lease
from opscore.runtime.limits import Limits
from opscore.runtime.models import Agent, AgentSource, Assignment, Record, Session, Task, TaskStatus
from opscore.runtime.node import Node, open_node
from opscore.runtime.store import JOURNAL_TABLE, Outcomes, Snapshot, Store, Submission

ACCEPTED = Answered(status=202)
ENDPOINT = "http://agent.example/run"
MAP_BYTES = 64 * 1024**2

SAMPLE: dict[str, Any] = {
    "id": "sample_workflow_id",
    "name": "Sample Load Test Workflow",
    "version": "1.0",
    "tasks": [
        {
            "taskId": "step_1",
            "name": "First Step",
            "agentCapability": "test_capability",
            "parameters": {"message": "This is the first step."},
            "nextTaskId": "step_2",
        },
        {
            "taskId": "step_2",
            "name": "Second Step",
            "agentCapability": "another_capability",
            "parameters": {"value": 123},
            "nextTaskId": None,
        },
    ],
}


def one_task(workflow_id: str = "one", **fields: Any) -> dict[str, Any]:
    """A workflow of a single task, for whoever has the capability `work`."""
    given = {"agentCapability": "work", "parameters": {}} if "agentId" not in fields else {"parameters": {}}
    return {"id": workflow_id, "name": workflow_id, "tasks": [{"taskId": "only", "name": "Only", **given, **fields}]}


class LoopWriter:
    """Applies batches on the loop; while full it refuses them, and once severed, as by a crash, for good."""

    def __init__(self, store: Store, look: Callable[[Snapshot], None] | None = None) -> None:
        self.severed = False
        self.full = False
        self._store = store
        self._look = look

    async def apply(self, batch: Sequence[Submission]) -> Outcomes:
        await trio.lowlevel.cancel_shielded_checkpoint()
        if self.severed:
            raise NotReady("the process has died")
        if self.full:
            raise StoreFull("the world", "for as long as the test says")
        outcomes = self._store.apply(batch)
        if self._look is not None:
            with self._store.snapshot() as view:
                self._look(view)
        return outcomes

    async def settled(self) -> None:
        await trio.lowlevel.checkpoint()

    def close(self) -> None:
        self.severed = True


WriterT = TypeVar("WriterT", bound=LoopWriter)


def writers_of(kind: type[WriterT], monkeypatch: pytest.MonkeyPatch) -> list[WriterT]:
    """Have every world's nodes write by this kind of writer; answers the list of those that come to be."""
    made: list[WriterT] = []

    def make(_: World, store: Store) -> WriterT:
        made.append(kind(store))
        return made[-1]

    monkeypatch.setattr(World, "_make_writer", make)
    return made


Answer = Callable[[Assignment], Fact | Awaitable[Fact]]


class Messenger:
    """A way to every agent with an endpoint: writes down what it delivers and answers as told.

    Attributes:
        delivered: What was handed over, in order.
        answer: Says what comes of a delivery; it may take its time.
        cancelled: How many deliveries were cut off.
    """

    def __init__(self) -> None:
        self.delivered: list[Assignment] = []
        self.answer: Answer = lambda _: ACCEPTED
        self.cancelled = 0

    def reaches(self, agent: Agent) -> bool:
        return agent.source is AgentSource.API and agent.contact_endpoint is not None

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        assert agent.agent_id == assignment.agent_id
        self.delivered.append(assignment)
        await trio.lowlevel.checkpoint()
        try:
            said = self.answer(assignment)
            return await said if inspect.isawaitable(said) else said
        except trio.Cancelled:
            self.cancelled += 1
            raise

    def answers(self, *facts: Fact) -> None:
        """Answer with these in turn, then with the last one for good."""
        line = list(facts)
        self.answer = lambda _: line.pop(0) if len(line) > 1 else line[0]


class World:
    """A data directory, its time, and a way to its remote agents. Make it inside `trio.run`.

    Args:
        path: The data directory.
        limits: What its nodes allow.
        look: Called with a view of the store after every commit.
        seed: Of the node's randomness.
        map_bytes: What its store may grow to.
    """

    def __init__(
        self,
        path: Path,
        *,
        limits: Limits | None = None,
        look: Callable[[Snapshot], None] | None = None,
        seed: int = 0,
        map_bytes: int = MAP_BYTES,
    ) -> None:
        self.path = path
        self.map_bytes = map_bytes
        self.limits = limits or Limits()
        self.clock = VirtualClock(seed=seed)
        self.messenger = Messenger()
        self._look = look
        self._writer: LoopWriter | None = None

    @asynccontextmanager
    async def node(self) -> AsyncIterator[Node]:
        """Run a node on the directory."""
        async with open_node(
            self.path,
            ways=(self.messenger,),
            limits=self.limits,
            clock=self.clock,
            map_bytes=self.map_bytes,
            make_writer=self._make_writer,
        ) as node:
            yield node

    def fill(self, *, full: bool) -> None:
        """Let the store be full, or have room again."""
        assert self._writer is not None
        self._writer.full = full

    def sever(self) -> None:
        """Let nothing more become durable, as if the process had just been killed; then leave the node."""
        assert self._writer is not None
        self._writer.severed = True

    @contextmanager
    def rows(self) -> Iterator[Snapshot]:
        """Read the directory while no node runs on it."""
        with open_store(self.path, map_bytes=self.map_bytes) as store, store.snapshot() as view:
            yield view

    def records(self, entity_id: str) -> list[str]:
        """The kinds of an entity's journal records, oldest first, while no node runs."""
        with self.rows() as view:
            lines = [codec.decode_row(stored.body, Record) for _, stored in view.scan(JOURNAL_TABLE)]
        return [line.kind for line in lines if line.entity_id == entity_id]

    def _make_writer(self, store: Store) -> LoopWriter:
        self._writer = LoopWriter(store, self._look)
        return self._writer


async def quiet() -> None:
    """Let everything happen that happens at this moment; no time passes."""
    await wait_all_tasks_blocked()


async def join(node: Node, agent_id: str, *capabilities: str, state: str | None = "idle", push: bool = True) -> None:
    """Register a remote agent that reports a state; without push it has to claim."""
    await node.register_agent(
        agent_id, capabilities=capabilities or ("work",), contact_endpoint=ENDPOINT if push else None
    )
    if state is not None:
        await node.report_state(agent_id, state)
    await quiet()


async def hire(node: Node, agent_id: str, *capabilities: str, result: Any = None) -> list[Assignment]:
    """Register a local agent that completes whatever it gets; returns what it gets."""
    got: list[Assignment] = []

    async def work(assignment: Assignment) -> Any:
        got.append(assignment)
        await trio.sleep(1)
        return result

    await node.register_agent(agent_id, capabilities=capabilities or ("work",), handler=work)
    return got


async def begin(node: Node, definition: Any = None, **arguments: Any) -> Session:
    """Trigger a run and let it go as far as it goes at this moment."""
    session = await node.trigger(definition if definition is not None else one_task(), **arguments)
    await quiet()
    return session


async def ended(node: Node, session: Session, *, within_s: float = 1_000_000.0) -> Session:
    """Wait for a run's end."""
    with trio.fail_after(within_s):
        return await node.wait(session.session_id)


def only_task(node: Node, session: Session) -> Task:
    """The single task of a run."""
    (task,) = node.session(session.session_id).tasks
    return task


def lease_of(node: Node, agent_id: str) -> Lease | None:
    """The lease that an agent holds."""
    with node._core.store.snapshot() as view:  # noqa: SLF001 (no call shows a lease)
        return LEASES.read(view, agent_id).row


def check_rows(view: Snapshot) -> None:
    """What holds after every commit: leases and open attempts are two sides of one thing, and the index is right."""
    leases = [lease for lease, _ in LEASES.scan(view) if not lease.revoked]
    held = {(lease.task_id, lease.attempt, lease.agent_id) for lease in leases}
    assert len(held) == len(leases), "one lease for a task"
    assert len({lease.task_id for lease in leases}) == len(leases), "one attempt of a task is out"
    tasks = [task for task, _ in TASKS.scan(view)]
    out = {(task.task_id, task.attempt, task.agent_id) for task in tasks if task.is_out}
    assert out == held, "every open attempt has its lease, every lease its open attempt"
    for lease in leases:
        assert AGENTS.read(view, lease.agent_id).row is not None, "who holds a lease is registered"
    unfinished = {row.session_id for row, _ in OPEN_SESSIONS.scan(view)}
    sessions = {session.session_id: session for session, _ in SESSIONS.scan(view)}
    assert unfinished == {each for each, session in sessions.items() if session.ended_at is None}
    for task in tasks:
        assert task.status is not TaskStatus.READY or task.session_id in unfinished, "nothing waits in a run that ended"


class Strike:
    """Lets an actor raise at a message, once it is armed. Make it before the actor starts.

    Args:
        monkeypatch: Takes it back.
        actor: The actor's class.
        message: The type of the message.
        after: Whether the message is handled first.
        times: How often it strikes.
        at: Which messages, and which actor of the class, are meant.

    Attributes:
        armed: Whether it strikes.
        struck: The messages that it struck at.
    """

    def __init__(
        self,
        monkeypatch: pytest.MonkeyPatch,
        actor: type[Actor[Any]],
        message: type[Any],
        *,
        after: bool = False,
        times: int = 1,
        at: Callable[[Any, Any], bool] = lambda _, __: True,
    ) -> None:
        self.armed = False
        self.struck: list[Any] = []
        original = actor.routes[message]
        assert original is not None, f"{actor.__name__} handles {message.__name__}"

        async def handler(instance: Any, said: Any) -> Any:
            strikes = self.armed and len(self.struck) < times and at(instance, said)
            answer = original(instance, said) if after or not strikes else None
            if inspect.isawaitable(answer):
                answer = await answer
            if strikes:
                self.struck.append(said)
                raise RuntimeError("struck by the test")
            return answer

        monkeypatch.setattr(actor, "routes", Routes({**actor.routes, message: handler}))
