# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What an actor leaves open when it ends is closed, and harms nobody else."""

from __future__ import annotations

import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import TYPE_CHECKING, Any

import pytest
import trio

from opscore.actors.spec import Intensity, Restart, SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import Do, Player, Work, play, the

if TYPE_CHECKING:
    from trio.testing import MockClock

    from opscore.actors.ref import Ref
    from opscore.actors.system import System

Opens = Callable[[list[Any]], Awaitable[object]]


async def open_nursery(kept: list[Any]) -> None:
    manager = trio.open_nursery()
    nursery = await manager.__aenter__()
    nursery.start_soon(trio.sleep_forever)
    kept.append(manager)


async def open_scope(kept: list[Any]) -> None:
    scope = trio.CancelScope()
    scope.__enter__()
    kept.append(scope)


async def open_both(kept: list[Any]) -> None:
    await open_scope(kept)
    await open_nursery(kept)
    await open_scope(kept)


async def leave_a_generator(kept: list[Any]) -> None:
    async def numbers() -> AsyncIterator[int]:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(trio.sleep_forever)
            yield 1

    kept.append(numbers())
    async for _ in kept[-1]:
        return


OPENS = pytest.mark.parametrize("opens", [open_nursery, open_scope, open_both, leave_a_generator])


class Leaving(Player):
    """Opens something in a handler, in a background task, or before its start fails, and closes it nowhere."""

    def __init__(self, opens: Opens, kept: list[Any], *, starts: int = 0) -> None:
        super().__init__([])
        self.opens = opens
        self.kept = kept
        self.starts = starts

    async def on_start(self) -> None:
        if len(self.kept) < self.starts:
            await self.opens(self.kept)
            raise ValueError("it does not start")
        await super().on_start()

    async def work(self, message: Work) -> str:
        await self.opens(self.kept)
        if message.seconds:
            raise ValueError("it fails")
        return "open"


def tree(opens: Opens, kept: list[Any], *, starts: int = 0) -> SupervisorSpec:
    leaving = play("a", factory=lambda: Leaving(opens, kept, starts=starts), restart=Restart.TRANSIENT)
    others = (play(name, factory=lambda: Player([])) for name in "bcd")
    return SupervisorSpec(name="root", children=(leaving, *others), intensity=Intensity(restarts_max=100))


async def all_others_work(system: System, seconds: float = 0.5) -> None:
    for _ in range(2):
        for name in "bcd":
            assert await the(system, f"/{name}").ask(Work(seconds=seconds)) == "done"
    assert [each.name for each in system.snapshot() if each.failed and each.name != "/a"] == []


async def incarnation_of(actor: Ref[Any]) -> object:
    return await actor.ask(Do(action=lambda player: player.context.incarnation))


@OPENS
async def test_what_an_actor_leaves_open_that_is_stopped_is_closed_and_named(
    opens: Opens, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    with caplog.at_level(logging.WARNING):
        async with open_system(tree(opens, [])) as system:
            assert await the(system, "/a").ask(Work(seconds=0.0)) == "open"
            await system.supervisor("/").stop_child("a")
            await all_others_work(system)
    assert any("/a ended and left a " in record.getMessage() for record in caplog.records)


@OPENS
async def test_what_an_actor_leaves_open_that_crashes_harms_neither_the_others_nor_its_next_incarnation(
    opens: Opens, autojump_clock: MockClock
) -> None:
    kept: list[Any] = []
    async with open_system(tree(opens, kept)) as system:
        actor = the(system, "/a")
        for seconds in (1.0, 0.0):
            actor.tell(Work(seconds=seconds))
        await trio.sleep(1)
        assert await incarnation_of(actor) == 2
        await all_others_work(system)


@OPENS
async def test_a_start_that_fails_with_something_open_is_a_failed_start_and_no_more(
    opens: Opens, autojump_clock: MockClock
) -> None:
    kept: list[Any] = []
    async with open_system(tree(opens, kept, starts=1)) as system:
        assert await incarnation_of(the(system, "/a")) == 2
        await all_others_work(system)


@OPENS
async def test_what_a_background_task_leaves_open_is_closed_when_it_ends(
    opens: Opens, autojump_clock: MockClock
) -> None:
    kept: list[Any] = []
    async with open_system(tree(opens, kept)) as system:
        actor = the(system, "/a")
        await actor.ask(Do(action=lambda player: player.context.start_soon(opens, kept)))
        await trio.sleep(1)
        assert (len(kept) > 0, await incarnation_of(actor)) == (True, 1)
        await all_others_work(system)


async def test_the_time_of_a_cancel_scope_that_an_actor_leaves_open_is_over_for_that_actor_alone(
    autojump_clock: MockClock,
) -> None:
    async def opens(kept: list[Any]) -> None:
        await open_scope(kept)
        kept[-1].deadline = trio.current_time() + 1

    async with open_system(tree(opens, [])) as system:
        actor = the(system, "/a")
        assert await actor.ask(Work(seconds=0.0)) == "open"
        await all_others_work(system)
        assert await incarnation_of(actor) == 2
