# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Supervisors that give up, and what their own supervisors do about it."""

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.errors import ActorRestarted, SystemFailed
from opscore.actors.spec import (
    Intensity,
    Restart,
    Strategy,
    SupervisorSpec,
)
from opscore.actors.system import open_system
from tests.actors.cast import AT_ONCE, Crash, Defer, Leave, Player, Recall, crash, play, the, tree


async def test_a_child_that_keeps_failing_escalates_and_its_supervisor_is_restarted(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    branch = SupervisorSpec(
        name="branch",
        intensity=Intensity(restarts_max=1, within_s=60.0),
        children=(play("a", diary), play("b", diary)),
        backoff=AT_ONCE,
    )
    async with open_system(tree(branch, play("z", diary))) as system:
        a = the(system, "/branch/a")
        await crash(a)
        diary.clear()
        await crash(a)
        assert diary == [
            "stop /branch/a 2",
            "stop /branch/b 1",
            "start /branch/a 3",
            "start /branch/b 2",
        ]
        assert a.alive
        assert await a.ask(Recall()) == ()


async def test_asks_below_an_escalating_supervisor_end_too(autojump_clock: MockClock) -> None:
    branch = SupervisorSpec(
        name="branch", intensity=Intensity(restarts_max=0), children=(play("a"), play("b")), backoff=AT_ONCE
    )
    async with open_system(tree(branch)) as system:
        a, b = the(system, "/branch/a"), the(system, "/branch/b")
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorRestarted):
                    await b.ask(Defer())

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            a.tell(Crash())


async def test_a_restarted_supervisor_forgets_its_dynamic_children(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    branch = SupervisorSpec(
        name="branch", intensity=Intensity(restarts_max=0), children=(play("a", diary),), backoff=AT_ONCE
    )
    async with open_system(tree(branch)) as system:
        handle = system.supervisor("/branch")
        dynamic = handle.start_child(play("d", diary))
        await trio.sleep(1)
        await crash(the(system, "/branch/a"))
        assert diary[-1] == "start /branch/a 2"
        assert handle.child("d") is None
        assert not dynamic.alive
        assert await handle.start_child(play("d", diary)).ask(Recall()) == ()


async def test_escalation_reaches_the_root_and_comes_out_as_system_failed(autojump_clock: MockClock) -> None:
    error = ValueError("poison")
    branch = SupervisorSpec(name="branch", intensity=Intensity(restarts_max=0), children=(play("a"),))
    with pytest.raises(SystemFailed, match="poison") as caught:  # noqa: PT012 (the block is the system's life)
        async with open_system(tree(branch, intensity=Intensity(restarts_max=0))) as system:
            the(system, "/branch/a").tell(Crash(error=error))
            await trio.sleep_forever()
    assert caught.value.cause is error
    assert caught.value.__cause__ is error


async def test_a_restarted_supervisor_counts_from_nothing(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    branch = SupervisorSpec(
        name="branch",
        intensity=Intensity(restarts_max=1),
        children=(play("a"), play("b", diary)),
        backoff=AT_ONCE,
    )
    async with open_system(tree(branch)) as system:
        for _ in range(3):
            await crash(the(system, "/branch/a"))
        # Only the second of the three crashes escalated, so the sibling was restarted once.
        assert diary == ["start /branch/b 1", "stop /branch/b 1", "start /branch/b 2"]


async def test_a_restarted_supervisor_forgets_what_its_children_spent_of_their_budgets(
    autojump_clock: MockClock,
) -> None:
    children = (play("a", budget=Intensity(restarts_max=1)), play("b"))
    branch = SupervisorSpec(name="branch", intensity=Intensity(restarts_max=1), children=children, backoff=AT_ONCE)
    async with open_system(tree(branch)) as system:
        a, b = the(system, "/branch/a"), the(system, "/branch/b")
        await crash(a)
        await crash(b)
        await crash(a)
        assert a.alive


async def test_a_supervisor_that_is_restarted_amid_a_group_restart_has_its_temporary_children_again(
    autojump_clock: MockClock,
) -> None:
    class Slow(Player):
        async def on_stop(self) -> None:
            await trio.sleep(2)
            await super().on_stop()

    temporary = play("t", factory=lambda: Slow([]), restart=Restart.TEMPORARY)
    branch = SupervisorSpec(
        name="branch", strategy=Strategy.ONE_FOR_ALL, children=(play("p"), temporary), backoff=AT_ONCE
    )
    async with open_system(tree(branch, play("z"), strategy=Strategy.ONE_FOR_ALL)) as system:
        the(system, "/branch/p").tell(Crash())
        await trio.sleep(1)
        the(system, "/z").tell(Crash())
        await trio.sleep(10)
        assert await the(system, "/branch/t").ask(Recall()) == ()


async def test_a_temporary_child_that_had_not_started_when_a_start_failed_starts_all_the_same(
    autojump_clock: MockClock,
) -> None:
    class LateStarter(Player):
        async def on_start(self) -> None:
            if self.context.incarnation == 1:
                raise ValueError("not yet")

    children = (play("a", factory=lambda: LateStarter([])), play("t", restart=Restart.TEMPORARY))
    async with open_system(tree(*children, strategy=Strategy.ONE_FOR_ALL)) as system:
        assert await the(system, "/t").ask(Recall()) == ()


async def test_children_stop_only_once_one_after_them_that_was_leaving_already_is_gone(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []

    class Slow(Player):
        async def on_stop(self) -> None:
            await trio.sleep(2)
            await super().on_stop()

    async with open_system(tree(play("a", diary))) as system:
        spec = play("b", factory=lambda: Slow(diary), restart=Restart.TRANSIENT)
        await system.supervisor("/").start_child(spec).ask(Leave())
    assert diary[-2:] == ["stop /b 1", "stop /a 1"]
