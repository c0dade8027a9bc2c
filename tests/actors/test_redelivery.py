# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Messages whose handler crashed and that come again, as often as the mailbox allows."""

from __future__ import annotations

from typing import Any

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorFailed, ActorStopped, AskTimeout
from opscore.actors.mailbox_spec import MailboxSpec, Overflow
from opscore.actors.ref import Reply
from opscore.actors.spec import Intensity, Restart, Strategy, SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import Crash, Defer, Do, Note, Player, Recall, Work, play, the


class Clumsy(Player):
    """Fails at a note as often as the note says, then writes it down."""

    async def note(self, message: Note) -> None:
        self.diary.append(f"try {message.text}")
        _, _, failures = message.text.partition(" ")
        if self.diary.count(f"try {message.text}") <= int(failures or 0):
            raise ValueError(message.text)
        await super().note(message)


def clumsy(
    diary: list[str],
    redeliveries: int = 2,
    *,
    restart: Restart = Restart.PERMANENT,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
) -> SupervisorSpec:
    mailbox = MailboxSpec(redeliveries=redeliveries)
    children = (
        play("a", factory=lambda: Clumsy(diary), mailbox=mailbox, restart=restart, shutdown_s=1.0),
        play("b"),
    )
    return SupervisorSpec(name="root", children=children, strategy=strategy, intensity=Intensity(restarts_max=1_000))


def tries(diary: list[str]) -> list[str]:
    return [line for line in diary if line.startswith("try")]


async def test_without_redeliveries_a_message_whose_handler_crashed_is_a_dead_letter(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    async with open_system(clumsy(diary, redeliveries=0)) as system:
        with pytest.raises(ActorFailed):
            await the(system, "/a").ask(Note(text="x 1"))
        assert tries(diary) == ["try x 1"]
        assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.FAILED]


async def test_a_message_whose_handler_crashed_comes_first_with_the_next_incarnation_and_its_asker_waits(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    async with open_system(clumsy(diary)) as system:
        ref = the(system, "/a")
        async with trio.open_nursery() as nursery:
            ref.tell(Work(seconds=1.0))
            nursery.start_soon(ref.ask, Note(text="x 2"))
            await trio.testing.wait_all_tasks_blocked()
            ref.tell(Note(text="y"))
        assert await ref.ask(Recall()) == ("x 2", "y")
        assert tries(diary) == [*["try x 2"] * 3, "try y"]
        assert system.dead_letters.recent() == ()


async def test_beyond_its_redeliveries_a_message_is_a_dead_letter_and_its_asker_is_told(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    async with open_system(clumsy(diary)) as system:
        ref = the(system, "/a")
        with pytest.raises(ActorFailed):
            await ref.ask(Note(text="x 9"))
        ref.tell(Note(text="y 9"))
        await trio.sleep(1)
        assert tries(diary) == ["try x 9"] * 3 + ["try y 9"] * 3
        assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.FAILED] * 2


async def test_one_message_object_that_is_told_again_has_its_redeliveries_afresh(autojump_clock: MockClock) -> None:
    calls: list[int] = []

    class Moody(Player):
        async def note(self, message: Note) -> None:
            calls.append(self.context.incarnation)
            if len(calls) in {1, 3}:
                raise ValueError(message.text)

    child = play("a", factory=lambda: Moody([]), mailbox=MailboxSpec(redeliveries=1))
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref, note = the(system, "/a"), Note(text="the same object")
        for _ in range(2):
            ref.tell(note)
            await trio.sleep(1)
        assert calls == [1, 2, 2, 3]
        assert system.dead_letters.recent() == ()


async def test_other_crashes_between_do_not_give_a_message_more_redeliveries(autojump_clock: MockClock) -> None:
    attempts: list[str] = []

    class Poisoned(Player):
        async def note(self, message: Note) -> Reply[None] | None:
            if message.text == "poison" and self.context.incarnation % 2 == 0:
                return self.context.stash()
            attempts.append(message.text)
            raise ValueError(message.text)

    child = play("a", factory=lambda: Poisoned([]), mailbox=MailboxSpec(redeliveries=1))
    intensity = Intensity(restarts_max=100)
    async with open_system(SupervisorSpec(name="root", children=(child,), intensity=intensity)) as system:
        for text in ("poison", "x", "y", "z"):
            the(system, "/a").tell(Note(text=text))
        await trio.sleep(10)
        assert {text: attempts.count(text) for text in attempts} == {"poison": 2, "x": 2, "y": 2, "z": 2}
        assert len(system.dead_letters.recent()) == 4


async def test_a_message_whose_handler_was_cancelled_by_a_group_restart_comes_again(
    autojump_clock: MockClock,
) -> None:
    async with open_system(clumsy([], strategy=Strategy.ONE_FOR_ALL)) as system:
        a, answers = the(system, "/a"), list[str]()

        async def ask() -> None:
            answers.append(await a.ask(Work(seconds=10.0)))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            the(system, "/b").tell(Crash())
        assert answers == ["done"]
        assert [letter.actor for letter in system.dead_letters.recent()] == ["/b"]


async def test_an_ask_that_has_ended_is_not_redelivered(autojump_clock: MockClock) -> None:
    calls: list[str] = []

    class Late(Player):
        async def work(self, message: Work) -> str:
            calls.append("work")
            await trio.sleep(message.seconds)
            raise ValueError("too late anyway")

    child = play("a", factory=lambda: Late([]), mailbox=MailboxSpec(redeliveries=5))
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        with pytest.raises(AskTimeout):
            await the(system, "/a").ask(Work(seconds=2.0), timeout_s=1.0)
        await trio.sleep(10)
        assert calls == ["work"]
        assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.FAILED]


async def test_a_deferred_ask_that_is_redelivered_goes_on_waiting(autojump_clock: MockClock) -> None:
    class Wavering(Player):
        async def defer(self, message: Defer) -> Reply[str]:
            reply: Reply[str] = self.context.defer()
            if self.context.incarnation == 1:
                raise ValueError("after all not")
            if self.context.incarnation == 2:
                await trio.sleep_forever()
            reply.set("third time")
            return reply

    children = (play("a", factory=lambda: Wavering([]), mailbox=MailboxSpec(redeliveries=2), shutdown_s=1.0), play("b"))
    tree = SupervisorSpec(name="root", children=children, strategy=Strategy.ONE_FOR_ALL)
    async with open_system(tree) as system:
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await the(system, "/a").ask(Defer(), timeout_s=100.0))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            the(system, "/b").tell(Crash())
        assert answers == ["third time"]


async def test_what_is_to_be_redelivered_when_the_actor_goes_is_a_dead_letter(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(clumsy(diary, restart=Restart.TEMPORARY)) as system:
        with pytest.raises(ActorStopped):
            await the(system, "/a").ask(Note(text="x 1"))
        assert tries(diary) == ["try x 1"]
        assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.STOPPED]


async def test_a_stop_for_good_redelivers_nothing(autojump_clock: MockClock) -> None:
    async with open_system(clumsy([])) as system:
        ref = the(system, "/a")
        ref.tell(Work(seconds=1_000.0))
        await trio.testing.wait_all_tasks_blocked()
        await system.supervisor("/").stop_child("a")
        assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.INTERRUPTED]


async def test_a_redelivered_message_finds_room_in_a_full_mailbox_and_is_the_oldest(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    mailbox = MailboxSpec(capacity=2, overflow=Overflow.DROP_OLDEST, redeliveries=1)
    child = play("a", factory=lambda: Clumsy(diary), mailbox=mailbox)
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref = the(system, "/a")

        def fill(_: Player) -> None:
            for text in ("y", "z"):
                ref.tell(Note(text=text))

        ref.tell(Do(action=fill))
        ref.tell(Note(text="x 1"))
        await trio.sleep(1)
        assert set(await ref.ask(Recall())) | {
            letter.message.text for letter in system.dead_letters.recent() if isinstance(letter.message, Note)
        } == {"x 1", "y", "z"}
