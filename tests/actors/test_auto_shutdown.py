# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Supervisors that stop by themselves once their significant children have ended."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.errors import ActorFailed, ActorStopped, SystemFailed
from opscore.actors.snapshot import State
from opscore.actors.spec import AutoShutdown, ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from opscore.actors.system import System, open_system
from tests.actors.cast import Crash, Do, Leave, Note, Player, Recall, play, the


def significant(name: str, diary: list[str] | None = None, restart: Restart = Restart.TRANSIENT) -> ChildSpec[Player]:
    return attrs.evolve(play(name, diary, restart=restart), significant=True)


async def stops(system: System) -> bool:
    """Whether the system stops by itself in time, and nothing of it is left."""
    with trio.move_on_after(100):
        await system.wait_stopped()
        return [each.state for each in system.snapshot()] == [State.GONE]
    return False


def tree(*children: ChildSpec[Player] | SupervisorSpec, when: AutoShutdown) -> SupervisorSpec:
    return SupervisorSpec(name="root", auto_shutdown=when, children=children, intensity=Intensity(restarts_max=3))


async def test_the_system_stops_when_any_significant_child_ended(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    children = (play("x", diary), significant("a", diary), significant("b", diary))
    async with open_system(tree(*children, when=AutoShutdown.ANY_SIGNIFICANT)) as system:
        the(system, "/a").tell(Leave())
        assert await stops(system)
        assert diary[3:] == ["stop /a 1", "stop /b 1", "stop /x 1"]
        assert system.state("/") is State.GONE
        with pytest.raises(ActorStopped):
            system.supervisor("/").start_child(play("late"))


async def test_the_system_stops_when_all_significant_children_ended(autojump_clock: MockClock) -> None:
    children = (play("x"), significant("a"), significant("b"))
    async with open_system(tree(*children, when=AutoShutdown.ALL_SIGNIFICANT)) as system:
        b = the(system, "/b")
        await the(system, "/a").ask(Leave())
        await trio.sleep(10)
        assert await b.ask(Recall()) == ()
        await b.ask(Leave())
        assert await stops(system)
        assert not b.alive


async def test_the_end_of_insignificant_children_stops_nobody(autojump_clock: MockClock) -> None:
    children = (play("x", restart=Restart.TRANSIENT), significant("a"))
    async with open_system(tree(*children, when=AutoShutdown.ANY_SIGNIFICANT)) as system:
        await the(system, "/x").ask(Leave())
        await trio.sleep(10)
        assert await the(system, "/a").ask(Recall()) == ()


async def test_a_significant_child_that_crashes_is_restarted_and_stops_nobody(autojump_clock: MockClock) -> None:
    async with open_system(tree(significant("a"), when=AutoShutdown.ANY_SIGNIFICANT)) as system:
        with pytest.raises(ActorFailed):
            await the(system, "/a").ask(Crash())
        await trio.sleep(10)
        assert await the(system, "/a").ask(Do(action=lambda player: player.context.incarnation)) == 2


async def test_a_significant_temporary_child_counts_also_when_it_crashes(autojump_clock: MockClock) -> None:
    child = significant("a", restart=Restart.TEMPORARY)
    async with open_system(tree(child, when=AutoShutdown.ANY_SIGNIFICANT)) as system:
        the(system, "/a").tell(Crash())
        assert await stops(system)


async def test_a_significant_child_that_is_stopped_from_outside_does_not_count(autojump_clock: MockClock) -> None:
    children = (significant("a"), significant("b"))
    async with open_system(tree(*children, when=AutoShutdown.ANY_SIGNIFICANT)) as system:
        await system.supervisor("/").stop_child("a")
        await trio.sleep(10)
        assert await the(system, "/b").ask(Recall()) == ()


async def test_after_one_was_stopped_from_outside_the_last_significant_child_decides(
    autojump_clock: MockClock,
) -> None:
    children = (significant("a"), significant("b"))
    async with open_system(tree(*children, when=AutoShutdown.ALL_SIGNIFICANT)) as system:
        await system.supervisor("/").stop_child("a")
        the(system, "/b").tell(Leave())
        assert await stops(system)


async def test_a_dynamic_child_may_be_significant(autojump_clock: MockClock) -> None:
    async with open_system(tree(play("x"), when=AutoShutdown.ALL_SIGNIFICANT)) as system:
        system.supervisor("/").start_child(significant("a")).tell(Leave())
        assert await stops(system)


async def test_the_name_of_a_significant_child_is_free_only_once_its_end_was_judged(
    autojump_clock: MockClock,
) -> None:
    async with open_system(tree(significant("a"), significant("b"), when=AutoShutdown.ALL_SIGNIFICANT)) as system:
        root, a = system.supervisor("/"), the(system, "/a")

        def leave(player: Player) -> None:
            player.context.stop()
            assert root.start_child(significant("a")) is a

        await a.ask(Do(action=leave))
        await trio.testing.wait_all_tasks_blocked()
        assert root.start_child(significant("a")) is not a
        assert await the(system, "/a").ask(Recall()) == ()


async def test_a_significant_child_that_stops_and_fails_after_that_has_failed_and_comes_back(
    autojump_clock: MockClock,
) -> None:
    class Torn(Player):
        async def leave(self, message: Leave) -> bool:
            self.context.stop()
            raise ValueError("after all")

    child = attrs.evolve(play("a", factory=lambda: Torn([]), restart=Restart.TRANSIENT), significant=True)
    async with open_system(tree(child, when=AutoShutdown.ANY_SIGNIFICANT)) as system:
        ref = the(system, "/a")
        ref.tell(Leave())
        assert await ref.ask(Do(action=lambda player: player.context.incarnation)) == 2


async def test_a_branch_that_shuts_down_is_restarted_gone_or_significant_as_its_spec_says(
    autojump_clock: MockClock,
) -> None:
    def branch(name: str, restart: Restart, *, counts: bool = False) -> SupervisorSpec:
        return SupervisorSpec(
            name=name,
            restart=restart,
            significant=counts,
            auto_shutdown=AutoShutdown.ANY_SIGNIFICANT,
            children=(significant("a"),),
        )

    branches = (
        branch("p", Restart.PERMANENT),
        branch("t", Restart.TRANSIENT),
        branch("s", Restart.TRANSIENT, counts=True),
    )
    async with open_system(tree(*branches, when=AutoShutdown.ANY_SIGNIFICANT)) as system:
        the(system, "/p/a").tell(Leave())
        the(system, "/t/a").tell(Leave())
        await trio.sleep(10)
        assert (system.state("/p"), system.state("/t")) == (State.RUNNING, None)
        assert await the(system, "/p/a").ask(Recall()) == ()
        the(system, "/s/a").tell(Leave())
        assert await stops(system)


async def test_a_group_restart_does_not_count_as_the_end_of_a_significant_child(autojump_clock: MockClock) -> None:
    spec = attrs.evolve(
        tree(significant("a"), play("b"), when=AutoShutdown.ANY_SIGNIFICANT), strategy=Strategy.ONE_FOR_ALL
    )
    async with open_system(spec) as system:
        with pytest.raises(ActorFailed):
            await the(system, "/b").ask(Crash())
        await trio.sleep(10)
        assert await the(system, "/a").ask(Do(action=lambda player: player.context.incarnation)) == 2


async def test_waiting_for_the_stop_ends_also_by_a_failure_and_its_cancellation_stops_nobody(
    autojump_clock: MockClock,
) -> None:
    with pytest.raises(SystemFailed):  # noqa: PT012 (the block is the system's life)
        async with open_system(tree(play("a"), when=AutoShutdown.NEVER)) as system:
            with trio.move_on_after(5) as scope:
                await system.wait_stopped()
            assert scope.cancelled_caught
            await the(system, "/a").ask(Note(text="alive"))
            for _ in range(4):
                the(system, "/a").tell(Crash())
            await system.wait_stopped()


async def test_without_a_ceiling_children_may_crash_for_ever(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),), intensity=None)) as system:
        for _ in range(100):
            the(system, "/a").tell(Crash())
        await trio.sleep(10)
        assert await the(system, "/a").ask(Do(action=lambda player: player.context.incarnation)) == 101


async def test_a_draining_child_that_a_group_restart_overtakes_while_it_leaves_takes_messages_again(
    autojump_clock: MockClock,
) -> None:
    class Slow(Player):
        async def on_stop(self) -> None:
            await trio.sleep(5)

    leaver = attrs.evolve(play("b", factory=lambda: Slow([]), restart=Restart.TRANSIENT), significant=True, drain=True)
    spec = attrs.evolve(tree(play("a"), leaver, when=AutoShutdown.ANY_SIGNIFICANT), strategy=Strategy.ONE_FOR_ALL)
    async with open_system(spec) as system:
        a, b = the(system, "/a"), the(system, "/b")
        await b.ask(Leave())
        a.tell(Crash())
        await trio.sleep(20)
        assert b.alive
        assert await b.ask(Do(action=lambda player: player.context.incarnation)) == 2
