# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
import logging
import re
import subprocess
import sys
from contextvars import ContextVar
from pathlib import Path

import attrs
import pytest
import trio
from trio.testing import MockClock

from opscore.actors.actor import Actor, Terminated, handles
from opscore.actors.clock import VirtualClock
from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorFailed
from opscore.actors.mailbox import MailboxSpec
from opscore.actors.ref import Ref
from opscore.actors.supervision import Restart, SupervisorSpec
from opscore.actors.system import System, open_system
from tests.actors.cast import Crash, Do, Leave, Note, Player, Recall, Work, play

request: ContextVar[str] = ContextVar("request")


def the(system: System, path: str) -> Ref[Player]:
    ref = system.ref(path)
    assert ref is not None
    return ref


def test_two_handlers_for_one_type_are_refused_when_the_class_is_made() -> None:
    with pytest.raises(TypeError, match="Twice handles Note twice: first and second"):

        class Twice(Actor["Player"]):
            @handles(Note)
            async def first(self, message: Note) -> None: ...

            @handles(Note)
            async def second(self, message: Note) -> None: ...


def test_a_handler_that_is_not_async_is_refused() -> None:
    with pytest.raises(TypeError, match="must be an async function"):

        class Sync(Actor["Player"]):
            @handles(Note)  # type: ignore[arg-type]
            def note(self, message: Note) -> None: ...


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


async def test_context_variables_come_from_whoever_opened_the_system(autojump_clock: MockClock) -> None:
    request.set("opener")
    async with open_system(SupervisorSpec(name="root")) as system:
        request.set("whoever activates the actor")
        ref = system.supervisor("/").start_child(play("a"))
        assert await ref.ask(Do(action=lambda _: request.get())) == "opener"


_TYPED = """
from typing import assert_type

import attrs

from opscore.actors.actor import Actor, handles
from opscore.actors.message import Message
from opscore.actors.ref import Ref, Reply


@attrs.frozen(kw_only=True)
class Get(Message["Counter", int]):
    pass


@attrs.frozen(kw_only=True)
class Foreign(Message["Other", None]):
    pass


class Other(Actor["Other"]):
    pass


class Counter(Actor["Counter"]):
    @handles(Get)
    async def get(self, message: Get) -> int | Reply[int]:
        return 1


async def use(ref: Ref[Counter]) -> None:
    assert_type(await ref.ask(Get()), int)
    ref.tell(Get())
    await ref.send(Get())
    ref.tell(Foreign())  # refused
    await ref.send(Foreign())  # refused
    await ref.ask(Foreign())  # refused
    text: str = await ref.ask(Get())  # refused


class WrongReply(Actor["WrongReply"]):
    @handles(Get)  # refused
    async def get(self, message: Get) -> str:
        return ""


class WrongMessage(Actor["WrongMessage"]):
    @handles(Get)  # refused
    async def get(self, message: Foreign) -> int:
        return 1


class WrongDeferredReply(Actor["WrongDeferredReply"]):
    @handles(Get)  # refused
    async def get(self, message: Get) -> Reply[str]:
        return self.context.defer()
"""


def test_mypy_infers_replies_and_refuses_foreign_messages_and_wrong_handlers(tmp_path: Path) -> None:
    module = tmp_path / "typed.py"
    module.write_text(_TYPED)
    checked = subprocess.run(
        [sys.executable, "-m", "mypy", "--strict", "--cache-dir", str(tmp_path / "cache"), str(module)],
        capture_output=True,
        text=True,
        check=False,
    )
    refused = {int(number) for number in re.findall(r"typed\.py:(\d+): error:", checked.stdout)}
    expected = {number for number, line in enumerate(_TYPED.splitlines(), 1) if line.endswith("# refused")}
    assert refused == expected, checked.stdout


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
