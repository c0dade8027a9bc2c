# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
from contextvars import ContextVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from opscore.actors.actor import Actor, handles
from opscore.actors.spec import SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import Do, Note, Player, Recall, Unheard, play, the

request: ContextVar[str] = ContextVar("request")


def test_two_handlers_for_one_type_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match="Twice handles Note twice: first and second"):

        class Twice(Actor["Player"]):
            @handles(Note)
            async def first(self, message: Note) -> None: ...

            @handles(Note)
            async def second(self, message: Note) -> None: ...


async def test_a_handler_may_be_a_plain_function(autojump_clock: MockClock) -> None:
    class Plain(Player):
        @handles(Unheard)
        def unheard(self, message: Unheard) -> None:
            self.notes.append("heard")

        def recall(self, message: Recall) -> tuple[str, ...]:  # type: ignore[override]
            return tuple(self.notes)

    child = play("a", factory=lambda: Plain([]))
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref = the(system, "/a")
        ref.tell(Unheard())
        assert await ref.ask(Recall()) == ("heard",)
        await ref.ask(Unheard())
        assert await ref.ask(Recall()) == ("heard", "heard")


def test_a_subclass_inherits_handlers_and_may_override_them_without_the_decorator() -> None:
    class Understudy(Player):
        async def note(self, message: Note) -> None: ...

    assert Understudy.handler_table.keys() == Player.handler_table.keys()
    assert Understudy.handler_table[Note] is Understudy.note
    assert Understudy.handler_table[Recall] is Player.recall


async def test_a_subclass_of_a_message_goes_to_the_handler_of_its_base(autojump_clock: MockClock) -> None:
    @attrs.frozen(kw_only=True)
    class LoudNote(Note):
        pass

    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        ref.tell(LoudNote(text="HEARD"))
        assert await ref.ask(Recall()) == ("HEARD",)


async def test_an_actor_that_floods_does_not_starve_its_neighbour(autojump_clock: MockClock) -> None:
    turns: list[str] = []

    class Flood(Player):
        async def note(self, message: Note) -> None:
            turns.append("flood")
            if len(turns) < 10_000:
                self.context.ref.tell(message)

    class Neighbour(Player):
        async def note(self, message: Note) -> None:
            turns.append("neighbour")

    children = (play("a", factory=lambda: Flood([])), play("b", factory=lambda: Neighbour([])))
    async with open_system(SupervisorSpec(name="root", children=children)) as system:
        the(system, "/a").tell(Note(text=""))
        await trio.lowlevel.checkpoint()
        the(system, "/b").tell(Note(text=""))
        await the(system, "/b").ask(Recall())
        assert turns.index("neighbour") <= 3 * 64


async def test_context_variables_come_from_whoever_opened_the_system(autojump_clock: MockClock) -> None:
    request.set("opener")
    async with open_system(SupervisorSpec(name="root")) as system:
        request.set("whoever activates the actor")
        ref = system.supervisor("/").start_child(play("a"))
        assert await ref.ask(Do(action=lambda _: request.get())) == "opener"
