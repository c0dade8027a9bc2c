# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Asks that would wait for each other are refused at once, and no others."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.errors import ActorFailed, AskCycle, AskTimeout
from opscore.actors.ref import Ref, Reply
from opscore.actors.spec import SupervisorSpec
from opscore.actors.system import System, open_system
from tests.actors.cast import AskOn, Crash, Defer, Do, Note, Player, Recall, Settle, Work, play, the


class Asking(Player):
    """Asks on after a second, whether it was told or asked to, and writes down what came of it."""

    async def on_start(self) -> None:
        """Its diary is for answers only."""

    async def on_stop(self) -> None:
        """As above."""

    async def ask_on(self, message: AskOn) -> str:
        await trio.sleep(1.0)
        try:
            answer = str(await super().ask_on(message))
        except AskCycle as cycle:
            self.diary.append(" ".join(cycle.cycle))
            return "cycle"
        except AskTimeout:
            answer = "timeout"
        self.diary.append(answer)
        return answer


def tree(diary: list[str], names: str = "abc") -> SupervisorSpec:
    children = tuple(play(name, factory=lambda: Asking(diary), shutdown_s=1.0) for name in names)
    return SupervisorSpec(name="root", children=children)


def refs_of(system: System, names: str = "abc") -> tuple[Ref[Player], ...]:
    return tuple(the(system, f"/{name}") for name in names)


async def test_an_actor_that_was_told_closes_a_cycle_as_one_that_was_asked_does(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(diary)) as system:
        a, b, _ = refs_of(system)
        start = trio.current_time()
        a.tell(AskOn(path=(b,)))
        await trio.sleep(0.5)
        # While it handles this, a asks it; half a second later it asks a.
        b.tell(AskOn(path=(a,)))
        await trio.sleep(20)
        assert diary[0] == "/a /b /a"
        assert set(diary[1:]) == {"/b"}
        assert trio.current_time() - start == pytest.approx(20.5)


async def test_three_actors_that_were_told_close_a_cycle(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(diary)) as system:
        a, b, c = refs_of(system)
        for delay, asking, asked in ((0.0, a, b), (0.1, b, c), (0.2, c, a)):
            await trio.sleep(delay)
            asking.tell(AskOn(path=(asked,)))
        await trio.sleep(20)
        assert diary[0] == "/a /b /c /a"
        assert set(diary[1:]) == {"/b", "/c"}


async def test_two_actors_may_wait_for_the_same_third_one(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(diary)) as system:
        a, b, c = refs_of(system)
        a.tell(AskOn(path=(c,)))
        b.tell(AskOn(path=(c,)))
        c.tell(Work(seconds=5.0))
        await trio.sleep(20)
        assert diary.count("/c") == 4


async def test_a_reply_that_was_deferred_is_no_wait_for_a_handler(autojump_clock: MockClock) -> None:
    async with open_system(tree([])) as system:
        a, _b, _ = refs_of(system)

        class Deferring(Player):
            """Answers once it has asked back, in a handler of its own."""

            async def note(self, message: Note) -> None:
                self.diary.append(str(await a.ask(Recall(), timeout_s=1.0)))

        d = system.supervisor("/").start_child(play("d", factory=lambda: Deferring([])))
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await d.ask(Defer()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            await d.ask(Note(text="ask a, who is free"))
            await d.ask(Settle(value="settled"))
        assert answers == ["settled"]


async def test_an_asker_whose_question_was_deferred_may_be_asked_and_the_deadline_decides(
    autojump_clock: MockClock,
) -> None:
    class Deferring(Player):
        async def ask_on(self, message: AskOn) -> Any:
            reply: Reply[str] = self.context.defer()
            try:
                await message.path[0].ask(Recall(), timeout_s=2.0)
            except AskTimeout:
                reply.set("a was busy")
            return reply

    async with open_system(
        SupervisorSpec(name="root", children=(play("a"), play("d", factory=lambda: Deferring([]))))
    ) as system:
        a, d = refs_of(system, "ad")
        assert await a.ask(AskOn(path=(d, a))) == "a was busy"


async def test_a_background_task_waits_for_nobody_in_the_name_of_its_actor(autojump_clock: MockClock) -> None:
    heard: list[Any] = []
    async with open_system(tree([])) as system:
        a, b, _ = refs_of(system)

        async def ask_in_the_background() -> None:
            heard.append(await b.ask(Work(seconds=5.0)))

        await a.ask(Do(action=lambda player: player.context.start_soon(ask_in_the_background)))
        await trio.sleep(1)
        # The background task of a waits for b; a itself is free, so b may ask it.
        assert await b.ask(AskOn(path=(a,))) == "/a"
        await trio.sleep(10)
        assert heard == ["done"]


async def test_a_cycle_that_was_cancelled_away_is_none(autojump_clock: MockClock) -> None:
    class Impatient(Player):
        async def work(self, message: Work) -> str:
            with trio.move_on_after(message.seconds):
                await b.ask(Recall())
            await trio.sleep(10)
            return "free of b"

    diary: list[str] = []
    async with open_system(tree(diary, "bc")) as system:
        b, _ = refs_of(system, "bc")
        a = system.supervisor("/").start_child(play("a", factory=lambda: Impatient([])))
        b.tell(Work(seconds=2.0))
        a.tell(Work(seconds=1.0))
        b.tell(AskOn(path=(a,)))
        await trio.sleep(30)
        assert diary == ["/a"]


async def test_a_cycle_that_was_killed_away_is_none(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(diary, "abd")) as system:
        a, b, d = refs_of(system, "abd")
        d.tell(Work(seconds=4.0))
        a.tell(AskOn(path=(d,)))
        await trio.sleep(1.5)
        await system.supervisor("/").stop_child("a")
        again = system.supervisor("/").start_child(play("a"))
        assert await d.ask(AskOn(path=(again,))) == "/a"
        assert a.mailbox.asks == again.mailbox.asks == b.mailbox.asks == ()


async def test_an_ask_that_was_answered_is_no_wait(autojump_clock: MockClock) -> None:
    async with open_system(tree([])) as system:
        a, b, _ = refs_of(system)
        assert await a.ask(AskOn(path=(b,))) == "/b"
        assert await b.ask(AskOn(path=(a,))) == "/a"
        with pytest.raises(ActorFailed):
            await b.ask(Crash())
        assert a.mailbox.asks == b.mailbox.asks == ()


async def test_an_ask_to_an_actor_that_asks_in_its_start_closes_a_cycle(autojump_clock: MockClock) -> None:
    cycles: list[tuple[str, ...]] = []
    refs: dict[str, Ref[Player]] = {}

    class AskingBack(Player):
        async def work(self, message: Work) -> str:
            with pytest.raises(AskCycle) as caught:
                await refs["a"].ask(Recall())
            cycles.append(caught.value.cycle)
            return "done"

    class Starting(Player):
        async def on_start(self) -> None:
            self.notes.append(await refs["b"].ask(Work(seconds=0.0)))

    async with open_system(SupervisorSpec(name="root")) as system:
        for name, factory in (("b", lambda: AskingBack([])), ("a", lambda: Starting([]))):
            refs[name] = system.supervisor("/").start_child(play(name, factory=factory))
        assert await refs["a"].ask(Recall()) == ("done",)
        assert cycles == [("/a", "/b", "/a")]
