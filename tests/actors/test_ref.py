# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
import math
from contextlib import suppress

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.clock import SystemClock
from opscore.actors.dead_letters import DeadLetterReason, DeadLetters
from opscore.actors.errors import (
    ActorFailed,
    ActorRestarted,
    ActorStopped,
    AskCycle,
    AskTimeout,
    MailboxFull,
)
from opscore.actors.mailbox import Mailbox
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.spec import Restart, SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import (
    AskOn,
    Crash,
    Defer,
    Leave,
    Note,
    Player,
    Recall,
    Refusal,
    Refuse,
    Settle,
    Unheard,
    Work,
    play,
    the,
)


async def test_messages_from_one_sender_are_handled_in_order(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        for number in range(500):
            if number % 2:
                ref.tell(Note(text=str(number)))
            else:
                await ref.send(Note(text=str(number)))
        assert await ref.ask(Recall()) == tuple(str(number) for number in range(500))


async def test_an_actor_handles_one_message_at_a_time(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref, ended = the(system, "/a"), list[float]()
        start = trio.current_time()

        async def work() -> None:
            await ref.ask(Work(seconds=1.0))
            ended.append(round(trio.current_time() - start, 6))

        async with trio.open_nursery() as nursery:
            for _ in range(3):
                nursery.start_soon(work)
        assert ended == [1.0, 2.0, 3.0]


async def test_send_waits_until_there_is_room(autojump_clock: MockClock) -> None:
    child = play("a", mailbox=MailboxSpec(capacity=1))
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref = the(system, "/a")
        ref.tell(Work(seconds=2.0))
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(Note(text="waits in the mailbox"))
        with pytest.raises(MailboxFull):
            ref.tell(Note(text="no room"))
        start = trio.current_time()
        await ref.send(Note(text="waits for room"))
        assert trio.current_time() - start == pytest.approx(2.0)
        assert await ref.ask(Recall()) == ("waits in the mailbox", "waits for room")


async def test_a_declared_error_answers_the_asker_and_the_actor_lives_on(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        ref.tell(Note(text="before"))
        with pytest.raises(Refusal, match="/a"):
            await ref.ask(Refuse())
        ref.tell(Refuse())
        assert await ref.ask(Recall()) == ("before",)
        assert system.dead_letters.recent() == ()


async def test_an_undeclared_error_answers_the_asker_and_makes_the_message_a_dead_letter(
    autojump_clock: MockClock,
) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref, error = the(system, "/a"), ValueError("boom")
        with pytest.raises(ActorFailed, match="boom") as caught:
            await ref.ask(Crash(error=error))
        assert caught.value.cause is error
        assert caught.value.actor == "/a"
        (letter,) = system.dead_letters.recent()
        assert (letter.message, letter.reason) == (Crash(error=error), DeadLetterReason.FAILED)


async def test_a_message_nobody_handles_is_refused_and_the_actor_lives_on(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        ref.tell(Note(text="before"))
        with pytest.raises(ActorFailed, match="no handler for Unheard"):
            await ref.ask(Unheard())
        assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.UNHANDLED]
        assert await ref.ask(Recall()) == ("before",)


async def test_an_ask_ends_at_its_deadline_and_the_late_reply_is_ignored(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        start = trio.current_time()
        with pytest.raises(AskTimeout) as caught:
            await ref.ask(Work(seconds=10.0), timeout_s=4.0)
        assert trio.current_time() - start == pytest.approx(4.0)
        assert (caught.value.actor, caught.value.timeout_s) == ("/a", 4.0)
        assert await ref.ask(Work(seconds=0.0)) == "done"
        assert trio.current_time() - start == pytest.approx(10.0)


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, math.inf, math.nan])
async def test_an_ask_without_a_deadline_is_refused(timeout_s: float) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        with pytest.raises(ValueError, match="positive and finite"):
            await the(system, "/a").ask(Recall(), timeout_s=timeout_s)


async def test_a_cancelled_ask_leaves_the_message_to_the_actor(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        ref.tell(Work(seconds=5.0))
        with trio.move_on_after(1.0) as scope:
            await ref.ask(Note(text="asked and left"))
        assert scope.cancelled_caught
        assert await ref.ask(Recall()) == ("asked and left",)


async def test_a_deferred_reply_is_given_later_and_the_first_answer_wins(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref, answers = the(system, "/a"), list[str]()

        async def ask() -> None:
            answers.append(await ref.ask(Defer()))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.sleep(3)
            assert answers == []
            ref.tell(Settle(value="first"))
            ref.tell(Settle(value="second"))
        assert answers == ["first"]


async def test_deferring_a_told_message_gives_a_sink(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        ref.tell(Defer())
        await ref.ask(Settle(value="nobody listens"))
        assert system.snapshot()[1].failed == 0


async def test_a_deferred_ask_gets_actor_restarted_when_its_incarnation_ends(
    autojump_clock: MockClock,
) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorRestarted, match="/a was restarted"):
                    await ref.ask(Defer())

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            ref.tell(Crash())


async def test_a_deferred_ask_gets_actor_stopped_when_the_actor_goes_for_good(
    autojump_clock: MockClock,
) -> None:
    child = play("a", restart=Restart.TRANSIENT)
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref = the(system, "/a")
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorStopped):
                    await ref.ask(Defer())

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            ref.tell(Leave())


async def test_a_gone_actor_refuses_asks_and_sends_and_makes_tells_dead_letters(
    autojump_clock: MockClock,
) -> None:
    child = play("a", restart=Restart.TRANSIENT)
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref = the(system, "/a")
        before = ref.alive
        await ref.ask(Leave())
        assert (before, ref.alive) == (True, False)
        with pytest.raises(ActorStopped):
            await ref.ask(Recall())
        with pytest.raises(ActorStopped):
            await ref.send(Note(text="sent"))
        ref.tell(Note(text="told"))
        (letter,) = system.dead_letters.recent()
        assert (letter.message, letter.reason) == (Note(text="told"), DeadLetterReason.STOPPED)


async def test_an_actor_that_asks_itself_gets_ask_cycle_at_once(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        with pytest.raises(ActorFailed) as caught:
            await ref.ask(AskOn(path=(ref,)))
        assert isinstance(caught.value.cause, AskCycle)
        assert caught.value.cause.cycle == ("/a", "/a")


async def test_an_ask_cycle_is_refused_at_once_and_names_everyone_in_it(autojump_clock: MockClock) -> None:
    children = (play("a"), play("b"), play("c"))
    async with open_system(SupervisorSpec(name="root", children=children)) as system:
        a, b, c = the(system, "/a"), the(system, "/b"), the(system, "/c")
        start = trio.current_time()
        with pytest.raises(ActorFailed) as caught:
            await a.ask(AskOn(path=(b, c, a)))
        assert trio.current_time() == start
        cause: BaseException = caught.value
        while isinstance(cause, ActorFailed):
            cause = cause.cause
        assert isinstance(cause, AskCycle)
        assert cause.cycle == ("/a", "/b", "/c", "/a")
        assert "/a → /b → /c → /a" in str(cause)


async def test_asking_along_a_path_that_is_no_cycle_works(autojump_clock: MockClock) -> None:
    children = (play("a"), play("b"), play("c"))
    async with open_system(SupervisorSpec(name="root", children=children)) as system:
        a, b, c = the(system, "/a"), the(system, "/b"), the(system, "/c")
        assert await a.ask(AskOn(path=(b, c))) == "/c"


async def test_an_ask_to_someone_who_no_longer_waits_is_no_cycle(autojump_clock: MockClock) -> None:
    heard: list[str] = []

    class Slow(Player):
        async def ask_on(self, message: AskOn) -> str:
            await trio.sleep(2.0)
            heard.append(str(await super().ask_on(message)))
            return heard[-1]

    children = (play("a"), play("b", factory=lambda: Slow([])))
    async with open_system(SupervisorSpec(name="root", children=children)) as system:
        a, b = the(system, "/a"), the(system, "/b")
        with pytest.raises(ActorFailed) as caught:
            await a.ask(AskOn(path=(b, a), timeout_s=1.0))
        assert isinstance(caught.value.cause, AskTimeout)
        await trio.sleep(2.0)
        assert heard == ["/a"]


async def test_a_job_that_a_handler_starts_elsewhere_may_ask_whoever_waits_for_that_handler(
    autojump_clock: MockClock,
) -> None:
    heard: list[tuple[str, ...]] = []
    children = (play("a"), play("b"))
    async with (
        trio.open_nursery() as elsewhere,
        open_system(SupervisorSpec(name="root", children=children)) as system,
    ):
        a, b = the(system, "/a"), the(system, "/b")

        class Starter(Player):
            async def ask_on(self, message: AskOn) -> str:
                elsewhere.start_soon(self.job)
                await trio.sleep(1.0)
                return "started"

            async def job(self) -> None:
                heard.append(await a.ask(Recall()))

        c = system.supervisor("/").start_child(play("c", factory=lambda: Starter([])))
        assert await a.ask(AskOn(path=(b, c))) == "started"
        await trio.sleep(1.0)
        assert heard == [()]


async def test_an_ask_from_a_nursery_inside_a_handler_is_part_of_the_cycle(autojump_clock: MockClock) -> None:
    class Splitter(Player):
        async def ask_on(self, message: AskOn) -> str:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(self.part)
            return "done"

        async def part(self) -> None:
            await self.context.ref.ask(Recall())

    async with open_system(SupervisorSpec(name="root", children=(play("a", factory=lambda: Splitter([])),))) as system:
        with pytest.raises(ActorFailed) as caught:
            await the(system, "/a").ask(AskOn(path=()))
        assert isinstance(caught.value.cause, ExceptionGroup)
        assert [type(error) for error in caught.value.cause.exceptions] == [AskCycle]


async def test_an_ask_whose_handler_is_cancelled_by_a_stop_gets_actor_stopped(
    autojump_clock: MockClock,
) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a", shutdown_s=1.0),))) as system:
        ref = the(system, "/a")
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorStopped):
                    await ref.ask(Work(seconds=1_000.0), timeout_s=2_000.0)

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            await system.supervisor("/").stop_child("a")
        assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.INTERRUPTED]


async def test_senders_that_wait_for_room_are_served_across_a_restart(autojump_clock: MockClock) -> None:
    child = play("a", mailbox=MailboxSpec(capacity=1))
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref = the(system, "/a")
        ref.tell(Crash())
        async with trio.open_nursery() as nursery:
            for text in "xyz":
                nursery.start_soon(ref.send, Note(text=text))
        assert sorted(await ref.ask(Recall())) == ["x", "y", "z"]


async def test_who_waits_for_room_is_let_in_once_half_of_the_mailbox_is_free(nursery: trio.Nursery) -> None:
    mailbox = Mailbox("/a", MailboxSpec(capacity=4), DeadLetters(SystemClock()))
    for text in "abcd":
        mailbox.put(Note(text=text))
    for text in "ef":
        nursery.start_soon(mailbox.put_when_room, Note(text=text))
    await trio.testing.wait_all_tasks_blocked()
    mailbox.take()
    assert (len(mailbox), len(mailbox.senders)) == (3, 2)
    mailbox.take()
    assert (len(mailbox), len(mailbox.senders)) == (4, 0)


async def test_tells_that_keep_a_mailbox_more_than_half_full_do_not_starve_who_waits_for_room(
    autojump_clock: MockClock,
) -> None:
    class Refilled(Player):
        async def note(self, message: Note) -> None:
            if len(self.diary) < 5_000:
                self.diary.append(message.text)
                with suppress(MailboxFull):
                    self.context.ref.tell(Note(text="told"))

    diary: list[str] = []
    child = play("a", factory=lambda: Refilled(diary), mailbox=MailboxSpec(capacity=10))
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref = the(system, "/a")
        for _ in range(10):
            ref.tell(Note(text="told"))
        await ref.send(Note(text="sent"))
    assert "sent" in diary
