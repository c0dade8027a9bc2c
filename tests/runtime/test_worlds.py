"""Any world: agents fail, lie and fall silent, actors crash, disks fill up, nodes are killed; still all runs end."""

import tempfile
from collections import Counter
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

import attrs
import pytest
import trio
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from opscore.actors.actor import Actor
from opscore.actors.errors import ActorError
from opscore.runtime import codec
from opscore.runtime.agents.agent import AgentActor
from opscore.runtime.delivery import Answered, Broken, Fact, NotReached
from opscore.runtime.dispatch.dispatcher import DispatcherActor
from opscore.runtime.errors import OpscoreError
from opscore.runtime.journal.journal import JournalActor
from opscore.runtime.journal.tables import AGENTS, LEASES, SESSIONS, TASKS
from opscore.runtime.limits import Limits
from opscore.runtime.messages import to_dispatcher, to_timers
from opscore.runtime.models import SESSION_ENDED, Assignment, Record, SessionStatus, TaskStatus
from opscore.runtime.node import Node
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.runs.triggering import IdempotencyKey
from opscore.runtime.store import JOURNAL_TABLE, Snapshot
from opscore.runtime.timers import TimersActor
from tests.runtime.world import ACCEPTED, ENDPOINT, Strike, World, check_rows, ended

ACTORS: tuple[type[Actor[Any]], ...] = (AgentActor, SessionActor, DispatcherActor, TimersActor, JournalActor)
AT_OPENING = (to_dispatcher.ReadRows, to_timers.ReadDueTimes)
"""A node whose first reading fails does not open; that is its host's to know."""
WITHIN_S = 400.0
"""Once faults stop: what is out has a lease of 30 s, what hangs lets go after 100 s, delays are shorter than that."""
IDLE_EVERY_S = 50.0


@attrs.frozen(kw_only=True)
class Crash:
    """An actor's crash at some message, before or after handling it."""

    actor: type[Actor[Any]]
    message: type[Any]
    after: bool


@attrs.frozen(kw_only=True)
class Era:
    """The time between two openings of the node."""

    lasts_s: float
    killed: bool
    triggers: tuple[int, ...]
    full_for_s: float
    crash: Crash | None


@attrs.frozen(kw_only=True)
class Plan:
    """A world: what is run, by whom, and everything that goes wrong."""

    seed: int
    definitions: tuple[dict[str, Any], ...]
    agents: tuple[tuple[str, ...], ...]
    behaviours: tuple[str, ...]
    eras: tuple[Era, ...]


ANSWERS: dict[str, Fact] = {
    "at once": Answered(status=200, body={"status": "completed", "result": 1}),
    "refused": NotReached(reason="refused"),
    "unavailable": Answered(status=503, retry_after_s=5),
    "rejected": Answered(status=400),
    "crashed": Answered(status=500),
    "broken": Broken(reason="reset"),
}
WAYS = (
    "active, idle",
    "named",
    "complete",
    "fail",
    "error",
    "offline",
    "silent",
    "heartbeats",
    "early",
    "twice",
    "hang",
)


@st.composite
def workflows(draw: st.DrawFn) -> dict[str, Any]:
    count = draw(st.integers(1, 4))
    tasks: list[dict[str, Any]] = []
    for number in range(count):
        task: dict[str, Any] = {
            "taskId": f"t{number}", "name": f"t{number}", "parameters": {},
            "agentCapability": draw(st.sampled_from(["x", "y"])), "leaseSeconds": 30, "timeoutSeconds": 300,
            "priority": draw(st.integers(0, 9)), "retry": {"maxRetries": draw(st.integers(0, 3))},
        }  # fmt: skip
        if number:
            task["dependsOn"] = draw(st.lists(st.sampled_from([each["taskId"] for each in tasks]), unique=True))
        tasks.append(task)
    return {"id": f"w{draw(st.integers(0, 2))}", "name": "w", "tasks": tasks}


crashes = st.sampled_from(
    [
        Crash(actor=actor, message=message, after=after)
        for actor in ACTORS
        for message in actor.handler_table
        if message not in AT_OPENING
        for after in (False, True)
    ]
)
eras = st.builds(
    Era,
    lasts_s=st.sampled_from([0.0, 0.5, 3.0, 29.0, 31.0, 200.0]),
    killed=st.booleans(),
    triggers=st.lists(st.integers(0, 2), max_size=3).map(tuple),
    full_for_s=st.sampled_from([0.0, 0.0, 2.0, 60.0]),
    crash=st.none() | crashes,
)
plans = st.builds(
    Plan,
    seed=st.integers(0, 2**32),
    definitions=st.lists(workflows(), min_size=3, max_size=3).map(tuple),
    agents=st.lists(st.sampled_from([("x",), ("y",), ("x", "y")]), min_size=1, max_size=3).map(tuple),
    behaviours=st.lists(st.sampled_from([*ANSWERS, *WAYS]), max_size=25).map(tuple),
    eras=st.lists(eras, min_size=1, max_size=4).map(tuple),
)


class Play:
    """A plan, played: once its faults are used up, every agent does as it should."""

    def __init__(self, plan: Plan, path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
        self.plan = plan
        self.world = World(path, limits=Limits(close_grace_s=0.1, passivate_s=2.0), look=self.look, seed=plan.seed)
        self.accepted: dict[str, None] = {}
        self.granted: set[tuple[str, int]] = set()
        self._monkeypatch = monkeypatch
        self._behaviours = list(plan.behaviours)
        self._desks: dict[str, trio.MemorySendChannel[Assignment]] = {}
        self._asking = 0
        self.world.messenger.answer = self.answer

    def look(self, view: Snapshot) -> None:
        check_rows(view)
        for lease, _ in LEASES.scan(view):
            if (lease.task_id, lease.attempt) not in self.granted:
                self.granted.add((lease.task_id, lease.attempt))
                agent = AGENTS.read(view, lease.agent_id).row
                assert agent is not None
                assert agent.state == "idle", "work is given to the idle"

    async def answer(self, assignment: Assignment) -> Fact:
        behaviour = self._behaviours.pop(0) if self._behaviours else "at once"
        await trio.sleep(0.1)
        if behaviour == "hang":
            await trio.sleep(100)
        if behaviour in ANSWERS:
            return ANSWERS[behaviour]
        self._desks[assignment.agent_id].send_nowait(attrs.evolve(assignment, parameters={"way": behaviour}))
        return ACCEPTED

    async def run(self) -> None:
        for number, era in enumerate(self.plan.eras):
            with self._monkeypatch.context() as patch:
                await self._live(era, patch, number, last=era is self.plan.eras[-1])

    async def _live(self, era: Era, patch: pytest.MonkeyPatch, number: int, *, last: bool) -> None:
        strike = None if era.crash is None else Strike(patch, era.crash.actor, era.crash.message, after=era.crash.after)
        async with self.world.node() as node, trio.open_nursery() as nursery:
            if strike is not None:
                strike.armed = True
            for place, capabilities in enumerate(self.plan.agents):
                nursery.start_soon(self._work, node, f"agent{place}", capabilities)
            self._asking = len(era.triggers)
            for place, choice in enumerate(era.triggers):
                nursery.start_soon(self._trigger, node, choice, f"{number}.{place}")
            await trio.sleep(era.lasts_s)
            if era.full_for_s:
                self.world.fill(full=True)
                await trio.sleep(era.full_for_s)
                self.world.fill(full=False)
            if last:
                await self._see_the_end(node)
            if era.killed:
                self.world.sever()
            nursery.cancel_scope.cancel()

    async def _see_the_end(self, node: Node) -> None:
        # From here on nothing goes wrong any more, and somebody is there for every task.
        self._behaviours.clear()

        async def work(_: Assignment) -> str:
            await trio.sleep(1)
            return "done"

        while not await tried(lambda: node.register_agent("steady", capabilities=["x", "y"], handler=work)):
            await trio.sleep(1)
        while self._asking:
            await trio.sleep(1)
        for session in node.sessions(limit=500).items:
            await ended(node, session, within_s=WITHIN_S)

    async def _trigger(self, node: Node, choice: int, key: str) -> None:
        while True:
            try:
                idempotency = IdempotencyKey(path="/", key=key, body=choice)
                session = await node.trigger(self.plan.definitions[choice], idempotency=idempotency)
            except (OpscoreError, ActorError):
                await trio.sleep(1)
            else:
                self.accepted[session.session_id] = None
                self._asking -= 1
                return

    async def _work(self, node: Node, name: str, capabilities: tuple[str, ...]) -> None:
        self._desks[name], desk = trio.open_memory_channel[Assignment](100)
        await tried(lambda: node.register_agent(name, capabilities=capabilities, contact_endpoint=ENDPOINT))
        while True:
            await tried(lambda: node.report_state(name, "idle"))
            with trio.move_on_after(IDLE_EVERY_S):
                assignment = await desk.receive()
                for word in said(node, name, assignment):
                    await trio.sleep(0.7)
                    await tried(word)


def said(node: Node, name: str, assignment: Assignment) -> list[Callable[[], Awaitable[Any]]]:
    """What an agent says of an attempt that it took."""
    task_id, attempt = assignment.task_id, assignment.attempt
    named = {"opscore_task_id": task_id, "opscore_attempt": attempt, "result": "named"}
    active = [lambda: node.report_state(name, "active")]
    words: dict[str, list[Callable[[], Awaitable[Any]]]] = {
        "active, idle": [*active, lambda: node.report_state(name, "idle", details={"result": 2})],
        "named": [lambda: node.report_state(name, "idle", details=named)],
        "complete": [lambda: node.complete(task_id, attempt, 3)],
        "fail": [*active, lambda: node.fail(task_id, attempt, "no")],
        "error": [lambda: node.report_state(name, "error")],
        "offline": [lambda: node.report_state(name, "offline")],
        "silent": [],
        "heartbeats": [lambda: node.heartbeat(task_id, attempt)] * 70 + [lambda: node.complete(task_id, attempt)],
        "early": [lambda: node.complete(task_id, attempt + 1)],
        "twice": [lambda: node.complete(task_id, attempt, 4), lambda: node.complete(task_id, attempt, 5)],
        "hang": [],
    }
    return words[assignment.parameters["way"]]


async def tried(word: Callable[[], Awaitable[Any]]) -> bool:
    """Say something, and shrug when it is refused."""
    try:
        await word()
    except (OpscoreError, ActorError):
        return False
    return True


def play(plan: Plan) -> Play:
    # The order in which trio runs what is ready is part of the world; Hypothesis would start each one alike.
    trio._core._run._r.seed(plan.seed)  # noqa: SLF001 (there is no public way)

    async def main(path: Path, monkeypatch: pytest.MonkeyPatch) -> Play:
        played = Play(plan, path, monkeypatch)
        await played.run()
        return played

    with tempfile.TemporaryDirectory() as path, pytest.MonkeyPatch.context() as monkeypatch:
        played = trio.run(main, Path(path), monkeypatch, clock=MockClock(autojump_threshold=0))
        check_end(played)
        return played


def check_end(played: Play) -> None:
    """Nothing accepted is missing, everything has ended, and nothing was done twice."""
    with played.world.rows() as view:
        sessions = {session.session_id: session for session, _ in SESSIONS.scan(view)}
        tasks = [task for task, _ in TASKS.scan(view)]
        lines = [codec.decode_row(stored.body, Record) for _, stored in view.scan(JOURNAL_TABLE)]
    assert set(played.accepted) <= set(sessions)
    assert all(session.status in SESSION_ENDED for session in sessions.values())
    for task in tasks:
        if sessions[task.session_id].status is SessionStatus.COMPLETED:
            assert task.status is TaskStatus.COMPLETED
    once = Counter((line.entity_id, line.kind) for line in lines if line.kind in ("task.completed", "task.failed"))
    assert all(count == 1 for count in once.values())
    dispatched = Counter((line.entity_id, line.data["attempt"]) for line in lines if line.kind == "task.dispatched")
    assert all(count == 1 for count in dispatched.values()), "each attempt has its own number"


@settings(max_examples=40, deadline=None, suppress_health_check=list(HealthCheck), print_blob=True)
@given(plans)
def test_every_accepted_run_ends_whatever_goes_wrong_and_no_task_is_completed_twice(plan: Plan) -> None:
    play(plan)


def test_a_world_without_faults_completes_everything() -> None:
    task = {"name": "t", "parameters": {}, "agentCapability": "x"}
    chain = {"id": "w0", "name": "w", "tasks": [{**task, "taskId": "a", "nextTaskId": "b"}, {**task, "taskId": "b"}]}
    era = Era(lasts_s=3.0, killed=False, triggers=(0, 0, 0), full_for_s=0.0, crash=None)
    played = play(Plan(seed=1, definitions=(chain,), agents=(("x",),), behaviours=(), eras=(era,)))
    assert len(played.accepted) == 3
    assert len(played.world.messenger.delivered) + len(played.granted) >= 6
