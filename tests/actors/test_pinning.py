# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Actors that leave context variables or nurseries behind in their task keep a worker for themselves."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractAsyncContextManager
from contextvars import ContextVar
from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.actor import handles
from opscore.actors.message import Message
from opscore.actors.scheduler import BATCH_MAX
from opscore.actors.spec import Intensity, Restart, SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import Do, Leave, Note, Player, Recall, Work, crash, play, the

TENANT: ContextVar[Any] = ContextVar("tenant", default=None)


class Marking(Player):
    """Sets a context variable when it starts, and writes down what it finds there later."""

    async def on_start(self) -> None:
        TENANT.set(self.context.name)

    async def note(self, message: Note) -> None:
        if message.text == "slow":
            await trio.sleep(0.01)
        self.diary.append(TENANT.get())

    async def on_stop(self) -> None:
        self.diary.append(TENANT.get())


class Holding(Player):
    """Keeps a nursery open from its start to its end."""

    nursery: trio.Nursery

    async def on_start(self) -> None:
        self.manager: AbstractAsyncContextManager[trio.Nursery] = trio.open_nursery()
        self.nursery = await self.manager.__aenter__()
        await super().on_start()

    async def on_stop(self) -> None:
        self.nursery.cancel_scope.cancel()
        try:
            await self.manager.__aexit__(None, None, None)
        finally:
            # The shield around `on_stop` lies within the nursery, so trio complains of their order; it is closed.
            await super().on_stop()


def tree(*factories: Callable[[], Player]) -> SupervisorSpec:
    children = tuple(
        play(name, factory=factory, restart=Restart.TRANSIENT, shutdown_s=1.0)
        for name, factory in zip("abcd", factories, strict=False)
    )
    return SupervisorSpec(name="root", children=children, intensity=Intensity(restarts_max=100))


def plain() -> Player:
    return Player([])


def mark(player: Player, value: Any = None) -> None:
    TENANT.set(player.context.name if value is None else value)


def nursery_of(player: Player) -> trio.Nursery:
    assert isinstance(player, Holding)
    return player.nursery


async def fail_after(seconds: float) -> None:
    await trio.sleep(seconds)
    raise ValueError("in the nursery")


async def test_what_on_start_sets_stays_with_the_actor_however_many_messages_come(
    autojump_clock: MockClock,
) -> None:
    diary: list[Any] = []
    async with open_system(tree(lambda: Marking(diary), plain)) as system:
        ref = the(system, "/a")
        for _ in range(3):
            # More than one turn's worth, with handlers that wait and without.
            for number in range(3 * BATCH_MAX):
                ref.tell(Note(text="slow" if number % 7 == 0 else "fast"))
            await trio.sleep(10)
        assert diary == ["/a"] * 9 * BATCH_MAX
        # It has the one worker, and others share another.
        assert system.statistics().scheduler.workers <= 2
    assert diary[-1] == "/a"


async def test_what_a_handler_sets_stays_with_its_actor_and_reaches_no_other(autojump_clock: MockClock) -> None:
    TENANT.set("opener")
    async with open_system(tree(plain, plain, plain)) as system:
        refs = {name: the(system, f"/{name}") for name in "abc"}
        for name in "ab":
            await refs[name].ask(Do(action=mark))
        for _ in range(10):
            for name, expected in {"a": "/a", "b": "/b", "c": "opener"}.items():
                assert await refs[name].ask(Do(action=lambda _: TENANT.get())) == expected
        await crash(refs["a"])
        assert await refs["a"].ask(Do(action=lambda _: TENANT.get())) == "opener"
    assert TENANT.get() == "opener"


async def test_a_value_that_equals_the_openers_but_is_another_object_reaches_no_other_actor(
    autojump_clock: MockClock,
) -> None:
    of_opener: list[str] = []
    TENANT.set(of_opener)
    async with open_system(tree(plain, plain)) as system:
        await the(system, "/a").ask(Do(action=lambda player: mark(player, [])))
        assert await the(system, "/b").ask(Do(action=lambda _: TENANT.get() is of_opener))
        assert not await the(system, "/a").ask(Do(action=lambda _: TENANT.get() is of_opener))


async def test_values_that_cannot_be_compared_harm_nobody(autojump_clock: MockClock) -> None:
    class Incomparable:
        __hash__ = None  # type: ignore[assignment]

        def __eq__(self, other: object) -> bool:
            raise ValueError("neither true nor false")

    TENANT.set(Incomparable())
    async with open_system(tree(plain, plain)) as system:
        await the(system, "/a").ask(Do(action=lambda player: mark(player, Incomparable())))
        assert await the(system, "/b").ask(Recall()) == ()
        assert await the(system, "/a").ask(Recall()) == ()


async def test_pinned_actors_give_their_workers_back_when_they_end(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root")) as system:
        before = trio.lowlevel.current_statistics().tasks_living
        for number in range(100):
            ref = system.supervisor("/").start_child(play(f"{number}", factory=lambda: Marking([])))
            for _ in range(2 * BATCH_MAX):
                ref.tell(Note(text="x"))
        await trio.sleep(1)
        assert system.statistics().scheduler.workers >= 100
        for number in range(100):
            await system.supervisor("/").stop_child(f"{number}")
        await trio.sleep(1)
        assert system.statistics().scheduler.workers <= 2
        assert trio.lowlevel.current_statistics().tasks_living <= before + 2


async def test_a_pinned_actor_that_waits_holds_up_nobody_else(autojump_clock: MockClock) -> None:
    async with open_system(tree(lambda: Marking([]), plain)) as system:
        the(system, "/a").tell(Work(seconds=100.0))
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        assert await the(system, "/b").ask(Recall()) == ()
        assert trio.current_time() == start


async def test_cancelling_a_pinned_actor_leaves_the_others_alone(autojump_clock: MockClock) -> None:
    diary: list[Any] = []
    async with open_system(tree(lambda: Marking(diary), plain)) as system:
        the(system, "/a").tell(Note(text="fast"))
        the(system, "/a").tell(Work(seconds=1_000.0))
        await trio.testing.wait_all_tasks_blocked()
        await system.supervisor("/").stop_child("a")
        assert diary == ["/a", "/a"]
        assert await the(system, "/b").ask(Work(seconds=3.0)) == "done"


async def test_a_nursery_may_stay_open_from_start_to_stop(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(lambda: Holding(diary), plain)) as system:
        ref = the(system, "/a")
        await ref.ask(Do(action=lambda player: nursery_of(player).start_soon(trio.sleep_forever)))
        assert await the(system, "/b").ask(Work(seconds=1.0)) == "done"
        await ref.ask(Leave())
        await trio.sleep(1)
        assert diary == ["start /a 1", "stop /a 1"]
        assert await the(system, "/b").ask(Work(seconds=1.0)) == "done"


async def test_an_actor_with_an_open_nursery_can_be_cancelled(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(lambda: Holding(diary), plain)) as system:
        the(system, "/a").tell(Work(seconds=1_000.0))
        await trio.testing.wait_all_tasks_blocked()
        await system.supervisor("/").stop_child("a")
        assert diary == ["start /a 1", "stop /a 1"]
        assert await the(system, "/b").ask(Work(seconds=1.0)) == "done"


@pytest.mark.parametrize("busy", [False, True], ids=["idle", "in a handler"])
async def test_a_failure_in_a_nursery_left_open_crashes_its_actor_and_nobody_else(
    busy: bool, autojump_clock: MockClock
) -> None:
    diary: list[str] = []
    async with open_system(tree(lambda: Holding(diary), plain)) as system:
        ref = the(system, "/a")
        await ref.ask(Do(action=lambda player: nursery_of(player).start_soon(fail_after, 1.0)))
        if busy:
            ref.tell(Work(seconds=5.0))
        await trio.sleep(2)
        assert diary == ["start /a 1", "stop /a 1", "start /a 2"]
        assert await ref.ask(Do(action=lambda player: player.context.incarnation)) == 2
        assert await the(system, "/b").ask(Work(seconds=1.0)) == "done"
        assert system.snapshot()[1].failed == 1


@attrs.frozen(kw_only=True)
class Mark(Message["Player", None]):
    pass


class Plain(Player):
    """Has a handler that never waits, and so is answered in its askers' tasks."""

    @handles(Mark)
    def mark_plainly(self, message: Mark) -> None:
        TENANT.set(self.context.name)


async def test_what_a_plain_handler_sets_stays_with_its_actor_and_reaches_neither_asker_nor_others(
    autojump_clock: MockClock,
) -> None:
    async with open_system(tree(lambda: Plain([]), lambda: Plain([]))) as system:
        a, b = the(system, "/a"), the(system, "/b")
        await a.ask(Mark())
        assert TENANT.get() is None
        for _ in range(3):
            for _ in range(3 * BATCH_MAX):
                a.tell(Note(text="x"))
            assert await a.ask(Do(action=lambda _: TENANT.get())) == "/a"
            assert await b.ask(Do(action=lambda _: TENANT.get())) is None
        await crash(a)
        assert await a.ask(Do(action=lambda _: TENANT.get())) is None


async def test_a_failure_in_a_nursery_that_was_left_open_after_a_plain_answer_crashes_its_actor_alone(
    autojump_clock: MockClock,
) -> None:
    class Late(Plain, Holding):
        async def on_start(self) -> None:
            """It opens its nursery later."""

        async def work(self, message: Work) -> str:
            await Holding.on_start(self)
            self.nursery.start_soon(fail_after, 1.0)
            return "open"

        async def on_stop(self) -> None:
            if hasattr(self, "nursery"):
                await super().on_stop()

    async with open_system(tree(lambda: Late([]), plain)) as system:
        a = the(system, "/a")
        await a.ask(Mark())
        assert await a.ask(Work(seconds=0.0)) == "open"
        await trio.sleep(2)
        assert await a.ask(Do(action=lambda player: player.context.incarnation)) == 2
        assert await the(system, "/b").ask(Work(seconds=1.0)) == "done"
