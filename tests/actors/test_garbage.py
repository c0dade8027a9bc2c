# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What is over is freed at once: nothing of it waits for the garbage collector."""

import gc

import trio
from trio.testing import MockClock

from opscore.actors.spec import SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import Do, Refuse, play, the


async def test_an_error_that_is_given_to_a_function_leaves_nothing_to_the_garbage_collector(
    autojump_clock: MockClock,
) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"), play("b")))) as system:
        asking, asked = the(system, "/a"), the(system, "/b")
        ask = Do(action=lambda player: player.context.ask_soon(asked, Refuse(), lambda _: None))
        await asking.ask(ask)
        await trio.sleep(60)
        gc.collect()
        gc.disable()
        try:
            for _ in range(20):
                await asking.ask(ask)
            # Until the deadlines have been met as well.
            await trio.sleep(60)
            assert gc.collect() < 20
        finally:
            gc.enable()
