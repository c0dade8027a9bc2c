# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Messages that an actor puts aside."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.actor import handles
from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorFailed, ActorStopped, AskTimeout, StashFull
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.message import Message
from opscore.actors.ref import Ref, Reply
from opscore.actors.spec import Restart, SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import Crash, Defer, Do, Leave, Note, Player, Recall, play, the


@attrs.frozen(kw_only=True)
class Open(Message["Player", None]):
    """Opens the gate."""


class Gate(Player):
    """Puts every note and every question aside until its gate is opened."""

    opened = False

    @handles(Open)
    async def open(self, message: Open) -> None:
        self.opened = True
        self.context.unstash()

    async def note(self, message: Note) -> Reply[None] | None:
        if not self.opened:
            return self.context.stash()
        return await super().note(message)

    async def recall(self, message: Recall) -> Any:
        return await super().recall(message) if self.opened else self.context.stash()


def gated(
    *, mailbox: MailboxSpec | None = None, restart: Restart = Restart.PERMANENT, diary: list[str] | None = None
) -> SupervisorSpec:
    pages = [] if diary is None else diary
    child = play("a", factory=lambda: Gate(pages), mailbox=mailbox, restart=restart)
    return SupervisorSpec(name="root", children=(child,))


async def expect(error: type[Exception], ref: Ref[Player], message: Message[Player, Any]) -> None:
    with pytest.raises(error):
        await ref.ask(message, timeout_s=60.0)


async def test_what_was_put_aside_comes_before_what_waits_in_the_order_it_came(autojump_clock: MockClock) -> None:
    async with open_system(gated()) as system:
        ref = the(system, "/a")
        for text in "abc":
            ref.tell(Note(text=text))
        ref.tell(Open())
        ref.tell(Note(text="d"))
        assert await ref.ask(Recall()) == ("a", "b", "c", "d")


async def test_the_asker_of_a_stashed_message_waits_until_it_is_handled(autojump_clock: MockClock) -> None:
    async with open_system(gated()) as system:
        ref, answers = the(system, "/a"), list[tuple[str, ...]]()

        async def ask() -> None:
            answers.append(await ref.ask(Recall()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(3)
            assert answers == []
            assert system.snapshot()[1].stashed == 1
            ref.tell(Open())
        assert answers == [()]
        assert system.snapshot()[1].stashed == 0


async def test_an_ask_that_times_out_in_the_stash_ends_at_its_deadline(autojump_clock: MockClock) -> None:
    async with open_system(gated()) as system:
        ref, start = the(system, "/a"), trio.current_time()
        with pytest.raises(AskTimeout):
            await ref.ask(Note(text="late"), timeout_s=2.0)
        assert trio.current_time() - start == pytest.approx(2.0)
        await ref.ask(Open())
        assert await ref.ask(Recall()) == ("late",)


async def test_a_stashed_message_counts_as_handled_once_it_is(autojump_clock: MockClock) -> None:
    async with open_system(gated()) as system:
        ref = the(system, "/a")
        ref.tell(Note(text="x"))
        await trio.testing.wait_all_tasks_blocked()
        assert system.snapshot()[1].handled == 0
        await ref.ask(Open())
        await trio.testing.wait_all_tasks_blocked()
        assert system.snapshot()[1].handled == 2


async def test_a_full_stash_gives_the_message_back_on_the_error(autojump_clock: MockClock) -> None:
    async with open_system(gated(mailbox=MailboxSpec(stash_max=2))) as system:
        ref = the(system, "/a")
        for text in "abc":
            ref.tell(Note(text=text))
        await trio.testing.wait_all_tasks_blocked()
        (letter,) = system.dead_letters.recent()
        assert (letter.message, letter.reason) == (Note(text="c"), DeadLetterReason.FAILED)
        error = system.snapshot()[1].last_error
        assert isinstance(error, StashFull)
        assert (error.actor, error.message) == ("/a", Note(text="c"))


async def test_a_stash_of_nothing_refuses_everything(autojump_clock: MockClock) -> None:
    async with open_system(gated(mailbox=MailboxSpec(stash_max=0))) as system:
        await expect(ActorFailed, the(system, "/a"), Note(text="x"))


async def test_what_was_put_aside_returns_even_beyond_the_capacity(autojump_clock: MockClock) -> None:
    async with open_system(gated(mailbox=MailboxSpec(capacity=2))) as system:
        ref = the(system, "/a")
        for text in "abcd":
            ref.tell(Note(text=text))
            await trio.testing.wait_all_tasks_blocked()
        ref.tell(Open())
        ref.tell(Note(text="e"))
        await trio.testing.wait_all_tasks_blocked()
        assert await ref.ask(Recall()) == ("a", "b", "c", "d", "e")
        assert system.snapshot()[1].high_water == 5


async def test_the_next_incarnation_gets_what_was_put_aside_first(autojump_clock: MockClock) -> None:
    async with open_system(gated()) as system:
        ref = the(system, "/a")
        for text in "ab":
            ref.tell(Note(text=text))
        ref.tell(Crash())
        ref.tell(Note(text="c"))
        await trio.sleep(1)
        assert system.snapshot()[1].restarts == 1
        ref.tell(Open())
        assert await ref.ask(Recall()) == ("a", "b", "c")


async def test_stashed_asks_survive_a_restart_of_their_actor(autojump_clock: MockClock) -> None:
    async with open_system(gated()) as system:
        ref, answers = the(system, "/a"), list[tuple[str, ...]]()

        async def ask() -> None:
            answers.append(await ref.ask(Recall()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(1)
            ref.tell(Crash())
            await trio.sleep(1)
            assert answers == []
            ref.tell(Open())
        assert answers == [()]


async def test_what_is_put_aside_when_the_actor_goes_becomes_dead_letters(autojump_clock: MockClock) -> None:
    async with open_system(gated(restart=Restart.TRANSIENT)) as system:
        ref = the(system, "/a")
        ref.tell(Note(text="told"))
        async with trio.open_nursery() as nursery:
            nursery.start_soon(expect, ActorStopped, ref, Recall())
            await trio.testing.wait_all_tasks_blocked()
            ref.tell(Leave())
        assert [(letter.message, letter.reason) for letter in system.dead_letters.recent()] == [
            (Note(text="told"), DeadLetterReason.STOPPED),
            (Recall(), DeadLetterReason.STOPPED),
        ]


async def test_stopping_a_child_makes_its_stash_dead_letters(autojump_clock: MockClock) -> None:
    async with open_system(gated()) as system:
        the(system, "/a").tell(Note(text="x"))
        await trio.testing.wait_all_tasks_blocked()
        await system.supervisor("/").stop_child("a")
        assert [letter.message for letter in system.dead_letters.recent()] == [Note(text="x")]


async def test_stash_is_for_the_message_being_handled(autojump_clock: MockClock) -> None:
    def stash_twice(player: Player) -> Reply[Any]:
        reply = player.context.stash()
        with pytest.raises(RuntimeError, match="no message is being handled"):
            player.context.stash()
        return reply

    async with open_system(gated()) as system:
        ref = the(system, "/a")
        ref.tell(Do(action=stash_twice))
        context = await ref.ask(Do(action=lambda player: player.context))
        assert system.snapshot()[1].stashed == 1
        with pytest.raises(RuntimeError, match="no message is being handled"):
            context.stash()


async def test_an_actor_with_something_put_aside_is_not_quiet(autojump_clock: MockClock) -> None:
    async with open_system(gated(restart=Restart.TRANSIENT)) as system:
        ref = the(system, "/a")
        ref.tell(Note(text="x"))
        assert not await ref.ask(Leave(if_quiet=True))
        await ref.ask(Open())
        assert await ref.ask(Leave(if_quiet=True))


async def test_a_deferred_message_that_is_put_aside_is_asked_of_the_next_incarnation(
    autojump_clock: MockClock,
) -> None:
    class Wavering(Player):
        async def defer(self, message: Defer) -> Reply[str]:
            reply: Reply[str] = self.context.defer()
            if self.context.incarnation == 1:
                return self.context.stash()
            reply.set("second thoughts")
            return reply

    child = play("a", factory=lambda: Wavering([]))
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref, answers = the(system, "/a"), list[str]()

        async def ask() -> None:
            answers.append(await ref.ask(Defer()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            ref.tell(Crash())
        assert answers == ["second thoughts"]


async def test_a_context_that_has_ended_touches_nothing_of_its_successor(autojump_clock: MockClock) -> None:
    async with open_system(gated(restart=Restart.TRANSIENT)) as system:
        ref = the(system, "/a")
        old = await ref.ask(Do(action=lambda player: player.context))
        await expect(ActorFailed, ref, Crash())

        def use_old(_: Player) -> None:
            for use in (old.defer, old.stash):
                with pytest.raises(RuntimeError, match="no message is being handled"):
                    use()
            assert not old.stop_if_quiet()
            old.stop()

        await ref.ask(Do(action=use_old))
        await ref.ask(Open())
        assert await ref.ask(Recall()) == ()


async def test_a_context_that_has_ended_brings_nothing_back_that_its_successor_put_aside(
    autojump_clock: MockClock,
) -> None:
    async with open_system(gated()) as system:
        ref = the(system, "/a")
        ended = await ref.ask(Do(action=lambda player: player.context))
        await expect(ActorFailed, ref, Crash())
        ref.tell(Note(text="put aside"))
        await ref.ask(Do(action=lambda player: setattr(player, "opened", True)))
        ended.unstash()
        assert await ref.ask(Recall()) == ()
        ref.tell(Open())
        assert await ref.ask(Recall()) == ("put aside",)
