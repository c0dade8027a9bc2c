# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Long lines of waiting tasks: the dispatcher has the first of them in mind, and reads the others when they come up."""

from pathlib import Path
from typing import Any

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.errors import ActorFailed
from opscore.runtime.dispatch import recovery
from opscore.runtime.dispatch.dispatcher import DispatcherActor
from opscore.runtime.dispatch.lines import Lines
from opscore.runtime.dispatch.matching import MatchBook
from opscore.runtime.journal.tables import SESSIONS, TASKS_IN_LINE
from opscore.runtime.journal.typed_tables import Table, Versioned
from opscore.runtime.library import Library
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.messages import to_dispatcher
from opscore.runtime.messages.to_dispatcher import OfferOutcome
from opscore.runtime.models import Move, Session, SessionStatus
from opscore.runtime.node import Node
from opscore.runtime.store import Snapshot
from opscore.runtime.waiting import CAPABILITY, LinePage, Place, ReadyTask
from tests.runtime.offers import NOW, agent, ended, is_busy, is_idle, task, waits
from tests.runtime.world import Strike, World, begin, check_rows, hire, join, one_task, only_task, quiet

WINDOW = 4
LIMITS = Limits(line_window=WINDOW)


async def in_mind(node: Node) -> int:
    depths = await node._core.addresses.dispatcher.ask(to_dispatcher.GetDepths())  # noqa: SLF001 (nobody else is told)
    return depths.ready_tasks


async def queued(node: Node, count: int, *, first: int = 0, **fields: Any) -> list[Session]:
    sessions = []
    for number in range(first, first + count):
        sessions.append(await begin(node, one_task(**fields), payload=number))
        await trio.sleep(0.001)
    return sessions


async def test_a_long_line_is_kept_in_the_store_and_gone_through_in_its_order(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=LIMITS, look=check_rows)
    async with world.node() as node:
        sessions = await queued(node, 60)
        assert await in_mind(node) <= 2 * WINDOW
        got = await hire(node, "a")
        for session in sessions:
            assert (await node.wait(session.session_id)).status is SessionStatus.COMPLETED
        assert [assignment.input for assignment in got] == list(range(60))
    with world.rows() as view:
        assert list(TASKS_IN_LINE.lines(view)) == []


async def test_a_line_of_one_runs_items_is_read_with_one_look_at_the_run(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    world = World(tmp_path, limits=Limits(line_window=100), look=check_rows)
    async with world.node() as node:
        await begin(node, one_task(forEach="${input}", concurrency=90), payload=list(range(90)))
    looks: list[str] = []
    read = Table.read

    def watched(table: Table[Any], view: Snapshot, key: str) -> Versioned[Any]:
        looks.append(table.name)
        return read(table, view, key)

    monkeypatch.setattr(Table, "read", watched)
    with world.rows() as view:
        (page,) = recovery.first_pages(view, library=Library(Limits()), window=100)
    assert len(page.tasks) == 90
    assert looks.count(SESSIONS.name) == 1


async def test_after_a_restart_no_more_than_the_first_of_each_line_are_read(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    world = World(tmp_path, limits=LIMITS, look=check_rows)
    async with world.node() as node:
        for capability in "xyz":
            await queued(node, 20, agentCapability=capability)
    async with world.node() as node:
        assert await in_mind(node) == 3 * WINDOW
        got = [await hire(node, name, capability) for name, capability in (("a", "x"), ("b", "y"), ("c", "z"))]
        await trio.sleep(60)
        assert [[assignment.input for assignment in each] for each in got] == [list(range(20))] * 3


@pytest.mark.parametrize("anew", [True, False], ids=["after a restart", "in a long line"])
async def test_what_begins_in_one_commit_is_given_out_as_it_is_listed(
    tmp_path: Path, autojump_clock: MockClock, *, anew: bool
) -> None:
    world = World(tmp_path, limits=Limits(line_window=100) if anew else LIMITS, look=check_rows)
    independent = {"id": "wide", "tasks": [{"taskId": f"t{at}", "agentCapability": "y"} for at in range(12)]}

    async def given_out(node: Node) -> list[list[str]]:
        got = [await hire(node, "a"), await hire(node, "b", "y")]
        await trio.sleep(130)
        return [[task.task_id for task in each] for each in got]

    async with world.node() as node:
        of_list = await begin(node, one_task(forEach="${input}", concurrency=120), payload=list(range(120)))
        of_graph = await begin(node, independent)
        ids = [] if anew else await given_out(node)
    if anew:
        async with world.node() as node:
            ids = await given_out(node)
    assert ids == [
        [f"{of_list.session_id}.0.{at:03}" for at in range(120)],
        [f"{of_graph.session_id}.{at:02}" for at in range(12)],
    ]


async def test_what_is_urgent_goes_first_also_where_it_comes_behind_a_long_line(
    tmp_path: Path, autojump_clock: MockClock
) -> None:
    async with World(tmp_path, limits=LIMITS, look=check_rows).node() as node:
        await queued(node, 20)
        await queued(node, 20, first=100, priority=9)
        assert await in_mind(node) <= 2 * WINDOW
        got = await hire(node, "a")
        await trio.sleep(60)
        assert [assignment.input for assignment in got] == [*range(100, 120), *range(20)]


async def test_paused_runs_keep_nobody_behind_them_waiting(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, limits=LIMITS, look=check_rows).node() as node:
        sessions = await queued(node, 30)
        for session in sessions[:25]:
            await node.steer(session.session_id, Move.PAUSE)
        got = await hire(node, "a")
        await trio.sleep(60)
        assert [assignment.input for assignment in got] == list(range(25, 30))
        for session in sessions[:25]:
            await node.steer(session.session_id, Move.RESUME)
        await trio.sleep(60)
        assert sorted(assignment.input for assignment in got) == list(range(30))


async def test_a_dispatcher_that_starts_anew_goes_on_with_a_long_line(
    tmp_path: Path, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    strike = Strike(monkeypatch, DispatcherActor, to_dispatcher.GetDepths)
    async with World(tmp_path, limits=LIMITS, look=check_rows).node() as node:
        sessions = await queued(node, 40)
        got = await hire(node, "a")
        await trio.sleep(10)
        strike.armed = True
        with pytest.raises(ActorFailed):
            await in_mind(node)
        await trio.sleep(60)
        assert [assignment.input for assignment in got] == list(range(40))
        assert only_task(node, sessions[-1]).attempt == 1


async def test_lines_of_agents_are_read_as_those_of_capabilities_are(tmp_path: Path, autojump_clock: MockClock) -> None:
    async with World(tmp_path, limits=LIMITS, look=check_rows).node() as node:
        await join(node, "x", state="active")
        await queued(node, 15, agentId="x", agentCapability=None)
        assert await in_mind(node) <= 2 * WINDOW
        for number in range(15):
            await node.report_state("x", "idle")
            await quiet()
            (lease,) = [node.lease("x")]
            assert lease is not None
            task = node.task(lease.task_id)
            assert node.session(task.session_id).session.payload == number
            await node.complete(task.task_id, task.attempt)


# --- what is in mind ----------------------------------------------------------------------------------------

LINE = (CAPABILITY, "a")


def place(one: ReadyTask) -> Place:
    return one.rank, one.task_id


def goes(lines: Lines) -> list[str]:
    """Those of a line that are in mind, in the order in which they go."""
    gone = []
    while (entry := lines.first(LINE)) is not None:
        gone.append(entry[2])
        lines.remove(entry[2])
    return gone


def test_who_stands_aside_behind_one_that_was_dropped_comes_with_the_rows_as_well() -> None:
    lines, patient = Lines(window=1), task("patient", ready_at=NOW)
    lines.put(patient)
    aside = lines.step_aside(LINE)
    urgent = [task(f"urgent {number}", ready_at=NOW - 4 + number) for number in range(3)]
    for one in urgent:
        lines.put(one)
    assert not lines.step_back(LINE, aside)
    assert goes(lines) == ["urgent 0"]
    assert list(lines.take_wanted()) == [(LINE, place(urgent[0]))]
    lines.take_page(LinePage(requirement=LINE, tasks=tuple(urgent[1:]), reached=place(urgent[2])))
    assert goes(lines) == ["urgent 1", "urgent 2"]
    lines.take_page(LinePage(requirement=LINE, tasks=(patient,), reached=None))
    assert goes(lines) == ["patient"]


def test_who_stands_aside_where_a_line_is_cut_among_those_of_its_rank_stands_in_line_again() -> None:
    lines = Lines(window=1)
    lines.put(task("1"))
    aside = lines.step_aside(LINE)
    for name in "234":
        lines.put(task(name))
    assert goes(lines) == ["1", "2"]
    assert not lines.step_back(LINE, aside)


def test_who_waits_behind_a_task_that_gets_another_place_is_called_up_without_it() -> None:
    book = MatchBook(Limits(workflow_limits={"w": DispatchLimit(at_once=1)}))
    offer = ended(is_idle(book, agent("x")) or waits(book, task("out", ready_at=NOW - 9)), OfferOutcome.TAKEN, 5)
    assert book.offer_ended(offer, NOW) == []
    first, second = task("first", ready_at=NOW - 3), task("second", ready_at=NOW - 2)
    assert book.take_page(LinePage(requirement=LINE, tasks=(first, second), reached=place(second)), NOW) == []
    assert is_idle(book, agent("y")) is None
    assert is_busy(book, "x", as_of=6, leased=False) == []
    assert waits(book, task("first", ready_at=NOW), 7) is None
    book.task_withdrawn("first")
    (match,) = book.take_page(LinePage(requirement=LINE, tasks=(), reached=None), NOW)
    assert match.task == second


def test_who_begins_while_the_next_behind_a_gate_are_read_is_given_no_agent_before_them() -> None:
    limit = DispatchLimit(per_interval=2, interval_s=10.0)
    book = MatchBook(Limits(capability_limits={"a": limit}, line_window=1))
    for number, name in enumerate(("x", "y"), start=1):
        book.agent_available(agent(name, as_of=number), NOW)
        (match,) = book.task_ready(task(f"t{number}"), number, NOW)
        book.offer_ended(ended(match, OfferOutcome.TAKEN, number + 10), NOW)
    for name in ("x", "y"):
        book.agent_available(agent(name, as_of=20), NOW)
    for number in range(3, 8):
        assert book.task_ready(task(f"t{number}", ready_at=NOW + number), number, NOW) == []
    (opens_at,) = book.take_times().values()
    (match,) = book.gate_due("capability/a", opens_at)
    assert match.task.task_id == "t3"
    assert list(book.take_wanted())
    assert book.find_agent(task("t8", ready_at=NOW + 100), opens_at) is None


def test_those_who_wait_no_longer_leave_nothing_in_a_line_whose_first_waits_for_good() -> None:
    lines = Lines(window=1_000)
    lines.put(task("first"))
    for number in range(5_000):
        lines.put(task(f"t{number}", ready_at=NOW + number))
        lines.remove(f"t{number}")
    (line,) = lines._lines.values()  # noqa: SLF001 (nobody else is told)
    assert len(line.entries) < 500
    first = lines.first((CAPABILITY, "a"))
    assert first is not None
    assert lines.known(first).task_id == "first"


def test_a_line_in_which_nobody_waits_any_more_is_gone() -> None:
    lines = Lines(window=1_000)
    for number in range(100):
        lines.put(task(f"t{number}", capability=f"c{number}"))
        lines.remove(f"t{number}")
    assert lines._lines == {}  # noqa: SLF001


def test_a_task_that_is_offered_in_vain_again_and_again_stands_in_its_line_once() -> None:
    lines = Lines(window=1_000)
    for _ in range(5_000):
        lines.put(task("again"))
        lines.remove("again")
        lines.put(task("behind", ready_at=NOW + 1))
    (line,) = lines._lines.values()  # noqa: SLF001
    assert len(line.entries) < 500
    assert [entry[2] for entry in sorted(line.entries)][-1] == "behind"
