# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
import logging
import math
from contextvars import ContextVar
from typing import Any

import pytest
import trio
from outcome import Error, Outcome
from trio.testing import MockClock

from opscore.actors.actor import Terminated, handles
from opscore.actors.clock import VirtualClock
from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorFailed, ActorStopped, AskTimeout
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.spec import Restart, SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import Crash, Defer, Do, Leave, Note, Player, Recall, Refusal, Refuse, Settle, Work, play, the

request: ContextVar[str] = ContextVar("request")


async def test_each_incarnation_gets_a_context_of_its_own(autojump_clock: MockClock) -> None:
    clock = VirtualClock()
    async with open_system(SupervisorSpec(name="root", children=(play("a"),)), clock=clock) as system:
        ref = the(system, "/a")
        for incarnation in (1, 2):
            context = await ref.ask(Do(action=lambda player: player.context))
            assert (context.name, context.incarnation, context.clock) == ("/a", incarnation, clock)
            assert context.ref is ref
            with pytest.raises(ActorFailed):
                await ref.ask(Crash())


async def test_defer_outside_a_handler_is_an_error(autojump_clock: MockClock) -> None:
    contexts = []

    class Eager(Player):
        async def on_start(self) -> None:
            with pytest.raises(RuntimeError, match="no message is being handled"):
                self.context.defer()
            contexts.append(self.context)

    async with open_system(SupervisorSpec(name="root", children=(play("a", factory=lambda: Eager([])),))):
        assert len(contexts) == 1


async def test_the_failure_of_a_background_task_crashes_the_actor(autojump_clock: MockClock) -> None:
    async def fail_after(seconds: float) -> None:
        await trio.sleep(seconds)
        raise ValueError("background")

    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        await ref.ask(Do(action=lambda player: player.context.start_soon(fail_after, 2.0)))
        with pytest.raises(ActorFailed, match="background"):
            await ref.ask(Work(seconds=10.0))
        assert await ref.ask(Do(action=lambda player: player.context.incarnation)) == 2


async def test_what_comes_of_an_ask_that_nobody_waits_for_is_given_to_a_function(autojump_clock: MockClock) -> None:
    outcomes: list[Outcome[Any]] = []
    async with open_system(SupervisorSpec(name="root", children=(play("a"), play("b")))) as system:
        asking, asked = the(system, "/a"), the(system, "/b")
        before = trio.lowlevel.current_statistics().tasks_living

        def ask_all(player: Player) -> None:
            for message in (Work(seconds=1.0), Refuse(), Defer(), Work(seconds=100.0)):
                player.context.ask_soon(asked, message, outcomes.append, timeout_s=10.0)
            assert outcomes == []

        await asking.ask(Do(action=ask_all))
        await trio.sleep(2)
        # One worker, for the one that is handled, and no task for those that are asked.
        assert trio.lowlevel.current_statistics().tasks_living <= before + 1
        assert outcomes.pop(0).unwrap() == "done"
        with pytest.raises(Refusal):
            outcomes.pop(0).unwrap()
        await trio.sleep(10)
        assert [str(type(each.error).__name__) for each in outcomes if isinstance(each, Error)] == ["AskTimeout"] * 2


async def test_an_ask_of_an_actor_that_is_gone_is_answered_with_that(autojump_clock: MockClock) -> None:
    outcomes: list[Outcome[Any]] = []
    async with open_system(SupervisorSpec(name="root", children=(play("a"), play("b")))) as system:
        gone = the(system, "/b")
        await system.supervisor("/").stop_child("b")
        await the(system, "/a").ask(Do(action=lambda a: a.context.ask_soon(gone, Recall(), outcomes.append)))
        with pytest.raises(ActorStopped):
            outcomes[0].unwrap()


async def test_what_the_function_raises_crashes_the_actor_that_asked_and_not_the_one_that_answered(
    autojump_clock: MockClock,
) -> None:
    def stumble(_: Outcome[Any]) -> None:
        raise ValueError("stumbled")

    async with open_system(SupervisorSpec(name="root", children=(play("a"), play("b")))) as system:
        asking, asked = the(system, "/a"), the(system, "/b")
        await asking.ask(Do(action=lambda player: player.context.ask_soon(asked, Recall(), stumble)))
        await trio.sleep(10)
        assert await asking.ask(Do(action=lambda player: player.context.incarnation)) == 2
        assert await asked.ask(Do(action=lambda player: player.context.incarnation)) == 1


async def test_an_answer_that_comes_after_the_incarnation_that_asked_is_given_to_nobody(
    autojump_clock: MockClock,
) -> None:
    outcomes: list[Outcome[Any]] = []
    async with open_system(SupervisorSpec(name="root", children=(play("a"), play("b")))) as system:
        asking, asked = the(system, "/a"), the(system, "/b")
        await asking.ask(Do(action=lambda player: player.context.ask_soon(asked, Work(seconds=5.0), outcomes.append)))
        with pytest.raises(ActorFailed):
            await asking.ask(Crash())
        await trio.sleep(20)
        assert await asked.ask(Recall()) == ()
        assert outcomes == []


async def test_background_tasks_are_cancelled_and_awaited_before_on_stop(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    async def linger() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            diary.append("background ended")

    async with open_system(SupervisorSpec(name="root", children=(play("a", diary),))) as system:
        ref = the(system, "/a")
        await ref.ask(Do(action=lambda player: player.context.start_soon(linger)))
    assert diary == ["start /a 1", "background ended", "stop /a 1"]


async def test_a_background_task_may_ask_its_own_actor(autojump_clock: MockClock) -> None:
    answers: list[tuple[str, ...]] = []

    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")

        async def ask() -> None:
            answers.append(await ref.ask(Recall()))

        await ref.ask(Do(action=lambda player: player.context.start_soon(ask)))
        await trio.sleep(1)
    assert answers == [()]


async def test_tell_after_comes_through_the_mailbox_unless_it_is_cancelled(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")

        def set_timers(player: Player) -> None:
            player.context.tell_after(2.0, Note(text="kept"))
            player.context.tell_after(1.0, Note(text="cancelled")).cancel()

        await ref.ask(Do(action=set_timers))
        await trio.sleep(1.9)
        assert await ref.ask(Recall()) == ()
        await trio.sleep(0.2)
        assert await ref.ask(Recall()) == ("kept",)


async def test_a_delay_that_is_no_number_fails_who_gave_it_and_nobody_else(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"), play("b")))) as system:
        ref, sibling = the(system, "/a"), the(system, "/b")
        await ref.ask(Do(action=lambda player: player.context.tell_after(math.inf, Note(text="never"))))
        with pytest.raises(ActorFailed, match="delay_s must be a number of seconds, not nan"):
            await ref.ask(Do(action=lambda player: player.context.tell_after(math.nan, Note(text="never"))))
        with pytest.raises(AskTimeout):
            await sibling.ask(Work(seconds=2.0), timeout_s=1.0)
        assert await ref.ask(Recall()) == ()


@pytest.mark.parametrize("timeout_s", [0.0, -1.0, math.inf, math.nan])
async def test_an_ask_that_nobody_waits_for_has_a_deadline_as_well(timeout_s: float, autojump_clock: MockClock) -> None:
    def ask(player: Player) -> None:
        with pytest.raises(ValueError, match="positive and finite"):
            player.context.ask_soon(player.context.ref, Recall(), lambda _: None, timeout_s=timeout_s)

    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        await the(system, "/a").ask(Do(action=ask))


async def test_timers_die_with_the_incarnation_that_set_them(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        await ref.ask(Do(action=lambda player: player.context.tell_after(2.0, Note(text="from the dead"))))
        with pytest.raises(ActorFailed):
            await ref.ask(Crash())
        await trio.sleep(5)
        assert await ref.ask(Recall()) == ()


async def test_a_timer_that_meets_a_full_mailbox_becomes_a_dead_letter(autojump_clock: MockClock) -> None:
    child = play("a", mailbox=MailboxSpec(capacity=1))
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref = the(system, "/a")
        await ref.ask(Do(action=lambda player: player.context.tell_after(1.0, Note(text="late"))))
        ref.tell(Work(seconds=5.0))
        await trio.testing.wait_all_tasks_blocked()
        ref.tell(Note(text="fills it"))
        await trio.sleep(2)
        assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.MAILBOX_FULL]


async def test_a_timer_of_an_actor_that_is_stopping_is_no_dead_letter(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        await ref.ask(Do(action=lambda player: player.context.tell_after(1.0, Note(text="late"))))
        await ref.ask(Do(action=lambda player: player.context.tell_every(0.7, Note(text="again"))))
        ref.tell(Work(seconds=3.0))
        await trio.testing.wait_all_tasks_blocked()
        await system.supervisor("/").stop_child("a")
        assert list(system.dead_letters.recent()) == []


async def test_setting_timers_for_years_keeps_only_the_pending_ones(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")

        def count(player: Player) -> int:
            for _ in range(10_000):
                player.context.tell_after(1.0, Note(text="never")).cancel()
            return len(player.context._timers)  # type: ignore[attr-defined]  # noqa: SLF001

        assert await ref.ask(Do(action=count)) < 1_000


async def test_a_watcher_hears_when_an_actor_is_gone_for_good_but_not_when_it_restarts(
    autojump_clock: MockClock,
) -> None:
    class Watcher(Player):
        @handles(Terminated)
        async def terminated(self, message: Terminated) -> None:
            self.notes.append(message.actor)

    children = (play("a", factory=lambda: Watcher([])), play("b", restart=Restart.TRANSIENT))
    async with open_system(SupervisorSpec(name="root", children=children)) as system:
        a, b = the(system, "/a"), the(system, "/b")
        await a.ask(Do(action=lambda player: player.context.watch(b)))
        with pytest.raises(ActorFailed):
            await b.ask(Crash())
        assert await a.ask(Recall()) == ()
        await b.ask(Leave())
        assert await a.ask(Recall()) == ("/b",)
        await a.ask(Do(action=lambda player: player.context.watch(b)))
        assert await a.ask(Recall()) == ("/b", "/b")


async def test_a_crash_is_logged_with_name_incarnation_and_error(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        with caplog.at_level(logging.ERROR, "opscore.actors"), pytest.raises(ActorFailed):
            await the(system, "/a").ask(Crash())
        await trio.testing.wait_all_tasks_blocked()
    (record,) = [record for record in caplog.records if record.levelno == logging.ERROR]
    assert record.getMessage() == "/a failed while running (incarnation 1): ValueError: boom"
    assert record.exc_info is not None
    assert vars(record)["actor"] == "/a"


async def test_an_actors_log_is_bound_with_its_name_and_incarnation(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        with caplog.at_level(logging.INFO, "opscore.actors"):
            await the(system, "/a").ask(Do(action=lambda player: player.context.log.info("hello")))
    (record,) = caplog.records
    assert (record.name, vars(record)["actor"], vars(record)["incarnation"]) == ("opscore.actors", "/a", 1)


async def test_an_ending_incarnation_takes_on_nothing_new(autojump_clock: MockClock) -> None:
    outcomes: list[str] = []

    class Late(Player):
        async def on_stop(self) -> None:
            with pytest.raises(RuntimeError, match="is ending"):
                self.context.start_soon(trio.sleep_forever)
            self.context.tell_after(0.5, Note(text="from the dead"))
            self.context.watch(self.context.ref)
            outcomes.append("refused")

    child = play("a", factory=lambda: Late([]))
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        ref = the(system, "/a")
        with pytest.raises(ActorFailed):
            await ref.ask(Crash())
        await trio.sleep(5)
        assert await ref.ask(Recall()) == ()
        assert outcomes == ["refused"]


async def test_an_incarnation_that_failed_beside_its_handlers_handles_no_other_message(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []

    class Stubborn(Player):
        async def work(self, message: Work) -> str:
            with trio.CancelScope(shield=True):
                await trio.sleep(message.seconds)
            return "done"

        async def note(self, message: Note) -> None:
            diary.append(f"{message.text} in {self.context.incarnation}")

    async def fail() -> None:
        await trio.sleep(1)
        raise ValueError("background")

    async with open_system(SupervisorSpec(name="root", children=(play("a", factory=lambda: Stubborn([])),))) as system:
        ref = the(system, "/a")
        await ref.ask(Do(action=lambda player: player.context.start_soon(fail)))
        ref.tell(Work(seconds=2.0))
        await ref.ask(Note(text="note"))
        assert diary == ["note in 2"]
        ref.tell(Leave())
        await ref.ask(Recall())
        # A permanent actor that stops is restarted, and the failure of old is no failure of this one.
        assert (system.snapshot()[1].incarnation, system.snapshot()[1].failed) == (3, 1)


async def test_a_watch_ends_with_the_incarnation_that_asked_for_it(autojump_clock: MockClock) -> None:
    class Watcher(Player):
        @handles(Terminated)
        async def terminated(self, message: Terminated) -> None:
            self.notes.append(message.actor)

    children = (play("a", factory=lambda: Watcher([])), play("b", restart=Restart.TRANSIENT))
    async with open_system(SupervisorSpec(name="root", children=children)) as system:
        a, b = the(system, "/a"), the(system, "/b")
        await a.ask(Do(action=lambda player: player.context.watch(b)))
        with pytest.raises(ActorFailed):
            await a.ask(Crash())
        await b.ask(Leave())
        assert await a.ask(Recall()) == ()


async def test_no_incarnation_ends_before_its_background_tasks_even_when_killed(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []

    async def linger() -> None:
        try:
            await trio.sleep_forever()
        finally:
            with trio.CancelScope(shield=True):
                await trio.sleep(3)
            diary.append("background ended")

    child = play("a", diary, shutdown_s=1.0)
    async with open_system(SupervisorSpec(name="root", children=(child,))) as system:
        await the(system, "/a").ask(Do(action=lambda player: player.context.start_soon(linger)))
        start = trio.current_time()
        await system.supervisor("/").stop_child("a")
        assert trio.current_time() - start == pytest.approx(3.0)
        assert diary == ["start /a 1", "background ended", "stop /a 1"]


async def test_replies_that_were_answered_or_abandoned_are_forgotten(autojump_clock: MockClock) -> None:
    def held(player: Player) -> int:
        return len(player.context.deferred)  # type: ignore[attr-defined]

    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        ref = the(system, "/a")
        async with trio.open_nursery() as nursery:
            nursery.start_soon(ref.ask, Defer())
            await trio.testing.wait_all_tasks_blocked()
            assert await ref.ask(Do(action=held)) == 1
            ref.tell(Settle(value="answered"))
        assert await ref.ask(Do(action=held)) == 0
        with trio.move_on_after(1.0):
            await ref.ask(Defer())
        assert await ref.ask(Do(action=held)) == 0
