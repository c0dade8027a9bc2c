# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Well-known names."""

from __future__ import annotations

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.errors import ActorStopped, NameTaken
from opscore.actors.registry import Name
from opscore.actors.spec import Restart, SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import Do, Leave, Player, Recall, Work, crash, play, the

FIRST: Name[Player] = Name("first")
SECOND: Name[Player] = Name("second")


def tree(*, drain: bool = False) -> SupervisorSpec:
    children = tuple(attrs.evolve(play(name, restart=Restart.TRANSIENT), drain=drain) for name in "ab")
    return SupervisorSpec(name="root", children=children)


async def test_a_registered_actor_is_found_by_its_name_in_and_outside_of_actors(autojump_clock: MockClock) -> None:
    async with open_system(tree()) as system:
        a, b = the(system, "/a"), the(system, "/b")
        assert system.registry.find(FIRST) is None
        await a.ask(Do(action=lambda player: player.context.registry.register(FIRST, player.context.ref)))
        assert system.registry.find(FIRST) is a
        assert await b.ask(Do(action=lambda player: player.context.registry.find(FIRST) is a))


async def test_a_name_survives_the_restart_of_its_actor(autojump_clock: MockClock) -> None:
    async with open_system(tree()) as system:
        a = the(system, "/a")
        system.registry.register(FIRST, a)
        await crash(a)
        found = system.registry.find(FIRST)
        assert found is a
        assert await found.ask(Recall()) == ()


async def test_a_name_is_free_once_its_actor_is_gone_for_good(autojump_clock: MockClock) -> None:
    async with open_system(tree()) as system:
        a, b = the(system, "/a"), the(system, "/b")
        system.registry.register(FIRST, a)
        await a.ask(Leave())
        await trio.testing.wait_all_tasks_blocked()
        assert (system.registry.find(FIRST), system.registry.names()) == (None, ())
        system.registry.register(FIRST, b)
        assert system.registry.find(FIRST) is b


async def test_a_name_of_another_live_actor_is_refused(autojump_clock: MockClock) -> None:
    async with open_system(tree()) as system:
        a, b = the(system, "/a"), the(system, "/b")
        system.registry.register(FIRST, a)
        system.registry.register(FIRST, a)
        with pytest.raises(NameTaken) as caught:
            system.registry.register(FIRST, b)
        assert (caught.value.name, caught.value.actor) == ("first", "/a")
        assert system.registry.find(FIRST) is a


async def test_an_actor_that_is_gone_gets_no_name(autojump_clock: MockClock) -> None:
    async with open_system(tree()) as system:
        a = the(system, "/a")
        await system.supervisor("/").stop_child("a")
        with pytest.raises(ActorStopped):
            system.registry.register(FIRST, a)
        assert system.registry.names() == ()


async def test_an_actor_may_have_several_names_and_give_one_back(autojump_clock: MockClock) -> None:
    async with open_system(tree()) as system:
        a, b = the(system, "/a"), the(system, "/b")
        system.registry.register(SECOND, a)
        system.registry.register(FIRST, a)
        assert system.registry.names() == ("second", "first")
        system.registry.unregister(SECOND)
        system.registry.unregister(SECOND)
        system.registry.register(SECOND, b)
        await system.supervisor("/").stop_child("a")
        assert system.registry.names() == ("second",)
        assert system.registry.find(SECOND) is b


@pytest.mark.parametrize("drain", [False, True])
async def test_an_actor_that_handles_its_last_messages_is_not_found_and_its_name_may_be_taken(
    drain: bool, autojump_clock: MockClock
) -> None:
    async with open_system(tree(drain=drain)) as system, trio.open_nursery() as nursery:
        a, b = the(system, "/a"), the(system, "/b")
        system.registry.register(FIRST, a)
        a.tell(Work(seconds=2.0))
        a.tell(Work(seconds=2.0))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(system.supervisor("/").stop_child, "a")
        await trio.testing.wait_all_tasks_blocked()
        assert system.registry.find(FIRST) is None
        system.registry.register(FIRST, b)
        await trio.sleep(10)
        # The end of the first one does not take the name from the second.
        assert system.registry.find(FIRST) is b


def test_a_name_says_something() -> None:
    with pytest.raises(ValueError, match="value"):
        Name("")
