# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Actors that handle what waits before they stop for good."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorStopped
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.ref import Ref
from opscore.actors.spec import ChildSpec, Restart, Strategy, SupervisorSpec
from opscore.actors.system import System, open_system
from tests.actors.cast import Crash, Leave, Note, Player, Recall, Work, play, the


def draining(
    diary: list[str],
    *,
    restart: Restart = Restart.PERMANENT,
    mailbox: MailboxSpec | None = None,
    shutdown_s: float = 5.0,
) -> ChildSpec[Player]:
    return attrs.evolve(
        play("a", diary, restart=restart, mailbox=mailbox, shutdown_s=shutdown_s),
        drain=True,
    )


def tree(*children: ChildSpec[Player], strategy: Strategy = Strategy.ONE_FOR_ONE) -> SupervisorSpec:
    return SupervisorSpec(name="root", children=children, strategy=strategy)


def lost(system: System) -> list[tuple[object, DeadLetterReason]]:
    return [(letter.message, letter.reason) for letter in system.dead_letters.recent()]


async def begin_to_stop(system: System, nursery: trio.Nursery, ref: Ref[Player]) -> None:
    ref.tell(Work(seconds=2.0))
    for text in "xyz":
        ref.tell(Note(text=text))
    await trio.testing.wait_all_tasks_blocked()
    nursery.start_soon(system.supervisor("/").stop_child, "a")
    await trio.testing.wait_all_tasks_blocked()


async def test_a_draining_actor_handles_what_waits_before_it_stops(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(draining(diary))) as system, trio.open_nursery() as nursery:
        await begin_to_stop(system, nursery, the(system, "/a"))
    assert diary == ["start /a 1", "x", "y", "z", "stop /a 1"]


async def test_one_that_does_not_drain_leaves_dead_letters(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(play("a", diary))) as system:
        async with trio.open_nursery() as nursery:
            await begin_to_stop(system, nursery, the(system, "/a"))
        assert lost(system) == [(Note(text=text), DeadLetterReason.STOPPED) for text in "xyz"]


async def test_closing_the_system_drains_too(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(draining(diary))) as system:
        for text in "xyz":
            the(system, "/a").tell(Note(text=text))
    assert diary == ["start /a 1", "x", "y", "z", "stop /a 1"]
    assert lost(system) == []


async def test_a_draining_actor_takes_nothing_new_and_answers_what_waits(autojump_clock: MockClock) -> None:
    async with open_system(tree(draining([]))) as system, trio.open_nursery() as nursery:
        ref, answers = the(system, "/a"), list[tuple[str, ...]]()

        async def ask() -> None:
            answers.append(await ref.ask(Recall()))

        ref.tell(Work(seconds=1.0))
        nursery.start_soon(ask)
        await begin_to_stop(system, nursery, ref)
        ref.tell(Note(text="late"))
        assert lost(system) == [(Note(text="late"), DeadLetterReason.STOPPED)]
        with pytest.raises(ActorStopped):
            await ref.ask(Recall())
        with pytest.raises(ActorStopped):
            await ref.send(Note(text="late"))
        assert not ref.alive
        await trio.sleep(4)
        assert answers == [("x", "y", "z")]


async def test_senders_that_wait_for_room_are_refused_when_a_drain_begins(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(draining(diary, mailbox=MailboxSpec(capacity=1)))) as system:
        ref = the(system, "/a")
        ref.tell(Work(seconds=2.0))
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(Note(text="waits"))

        async def send() -> None:
            with pytest.raises(ActorStopped):
                await ref.send(Note(text="no room"))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(send)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(system.supervisor("/").stop_child, "a")
    assert diary == ["start /a 1", "waits", "stop /a 1"]


async def test_a_drain_ends_after_shutdown_s_and_the_rest_becomes_dead_letters(autojump_clock: MockClock) -> None:
    async with open_system(tree(draining([], shutdown_s=3.0))) as system:
        ref, start = the(system, "/a"), trio.current_time()
        for _ in range(3):
            ref.tell(Work(seconds=2.0))
        await trio.testing.wait_all_tasks_blocked()
        await system.supervisor("/").stop_child("a")
        assert trio.current_time() - start == pytest.approx(3.0)
        assert sorted(reason.name for _, reason in lost(system)) == ["INTERRUPTED", "STOPPED"]


async def test_an_actor_that_stops_itself_drains_within_the_same_limit(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(draining(diary, restart=Restart.TRANSIENT, shutdown_s=3.0))) as system:
        ref, start = the(system, "/a"), trio.current_time()
        ref.tell(Leave())
        ref.tell(Note(text="x"))
        for _ in range(3):
            ref.tell(Work(seconds=2.0))
        await trio.testing.wait_all_tasks_blocked()
        assert not ref.alive
        await system.supervisor("/").stop_child("a")
        assert trio.current_time() - start == pytest.approx(3.0)
        assert diary == ["start /a 1", "x", "stop /a 1"]
        assert sorted(reason.name for _, reason in lost(system)) == ["INTERRUPTED", "STOPPED"]


async def test_a_permanent_actor_that_stops_itself_does_not_drain_and_keeps_its_mailbox(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    async with open_system(tree(draining(diary))) as system:
        ref = the(system, "/a")
        ref.tell(Leave())
        ref.tell(Note(text="x"))
        await trio.sleep(1)
        assert diary == ["start /a 1", "stop /a 1", "start /a 2", "x"]
        assert ref.alive


async def test_a_group_restart_does_not_drain(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    spec = tree(draining(diary), play("b"), strategy=Strategy.ONE_FOR_ALL)
    async with open_system(spec) as system:
        ref = the(system, "/a")
        ref.tell(Work(seconds=2.0))
        ref.tell(Note(text="x"))
        await trio.testing.wait_all_tasks_blocked()
        the(system, "/b").tell(Crash())
        await trio.sleep(5)
        assert diary == ["start /a 1", "stop /a 1", "start /a 2", "x"]


@pytest.mark.parametrize("redeliveries", [0, 1])
async def test_a_crash_while_draining_ends_the_drain(redeliveries: int, autojump_clock: MockClock) -> None:
    diary: list[str] = []
    mailbox = MailboxSpec(redeliveries=redeliveries)
    async with open_system(tree(draining(diary, mailbox=mailbox))) as system:
        ref = the(system, "/a")
        ref.tell(Work(seconds=1.0))
        ref.tell(Crash())
        ref.tell(Note(text="x"))
        await trio.testing.wait_all_tasks_blocked()
        await system.supervisor("/").stop_child("a")
        assert diary == ["start /a 1", "stop /a 1"]
        assert {type(message) for message, _ in lost(system)} == {Crash, Note}


async def test_a_child_stopped_before_it_began_drains_what_it_got(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree()) as system:
        ref = system.supervisor("/").start_child(draining(diary))
        ref.tell(Note(text="x"))
        await system.supervisor("/").stop_child("a")
        assert diary == ["start /a 1", "x", "stop /a 1"]


async def test_an_idle_actor_has_nothing_to_drain_and_stops_at_once(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(draining(diary))) as system:
        await the(system, "/a").ask(Note(text="x"))
        start = trio.current_time()
        await system.supervisor("/").stop_child("a")
        assert trio.current_time() == start
        assert diary[-1] == "stop /a 1"
