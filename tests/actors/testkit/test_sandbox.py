# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import pytest
import trio
from outcome import Outcome
from trio.testing import MockClock

from opscore.actors import Actor, Message, Name, Reply, handles
from opscore.actors.testkit import Sandbox, Scheduled, Sent, Started
from tests.actors.cast import AskOn, Crash, Defer, Do, Leave, Note, Player, Recall, Refusal, Refuse, Unheard


def a_sandbox() -> Sandbox[Player]:
    return Sandbox(lambda: Player([]), name="/player")


async def what_it_does(action: Callable[[Player], Any]) -> Any:
    return await a_sandbox().handle(Do(action=action))


async def test_a_handler_changes_the_actor_and_its_reply_is_an_effect(autojump_clock: MockClock) -> None:
    sandbox = a_sandbox()
    assert (await sandbox.handle(Note(text="a"))).reply is None
    assert (await sandbox.handle(Recall())).reply == ("a",)
    assert isinstance(sandbox.actor, Player)
    assert sandbox.actor.notes == ["a"]


async def test_hooks_run_when_the_test_says_so(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    sandbox = Sandbox(lambda: Player(diary), name="/player")
    await sandbox.start()
    await sandbox.stop()
    assert diary == ["start /player 1", "stop /player 1"]


async def test_an_error_is_an_effect_and_says_whether_it_is_an_answer(autojump_clock: MockClock) -> None:
    crashed = await a_sandbox().handle(Crash())
    assert (type(crashed.error), crashed.declared) == (ValueError, False)
    refused = await a_sandbox().handle(Refuse())
    assert (type(refused.error), refused.declared) == (Refusal, True)


async def test_what_a_handler_sends_is_an_effect_and_not_sent(autojump_clock: MockClock) -> None:
    sandbox = a_sandbox()
    other, sent = sandbox.ref("/other"), Note(text="a")

    def send(player: Player) -> None:
        other.tell(sent)
        player.context.ref.tell(sent)

    effects = await sandbox.handle(Do(action=send))
    assert effects.sent == [Sent("/other", sent, "tell"), Sent("/player", sent, "tell")]
    assert (await sandbox.handle(Recall())).sent == []


async def test_an_ask_gets_what_the_test_said(autojump_clock: MockClock) -> None:
    sandbox = a_sandbox()
    other = sandbox.ref("/other")
    sandbox.answer(other, AskOn, lambda message: f"{len(message.path)} further")
    effects = await sandbox.handle(AskOn(path=(other,)))
    assert effects.reply == "0 further"
    assert effects.sent == [Sent("/other", AskOn(path=()), "ask")]


async def test_an_ask_that_nobody_prepared_says_how_to(autojump_clock: MockClock) -> None:
    sandbox = a_sandbox()
    effects = await sandbox.handle(AskOn(path=(sandbox.ref("/other"),)))
    assert isinstance(effects.error, AssertionError)
    assert "no reply of /other to AskOn is set" in str(effects.error)


async def test_a_deferred_reply_is_an_effect(autojump_clock: MockClock) -> None:
    effects = await a_sandbox().handle(Defer())
    assert effects.reply is None
    assert isinstance(effects.deferred, Reply)
    effects.deferred.set("later")
    assert await effects.deferred.wait() == "later"


async def test_an_ask_that_nobody_waits_for_is_an_effect_and_answered_as_the_test_said(
    autojump_clock: MockClock,
) -> None:
    outcomes: list[Outcome[Any]] = []
    sandbox = a_sandbox()
    other = sandbox.ref("/other")
    sandbox.answer(other, Recall, lambda _: ("seen",))
    asking = Do(action=lambda player: player.context.ask_soon(other, Recall(), outcomes.append))
    assert (await sandbox.handle(asking)).sent == [Sent("/other", Recall(), "ask")]
    assert [each.unwrap() for each in outcomes] == [("seen",)]


async def test_timers_watches_tasks_and_stops_are_effects(autojump_clock: MockClock) -> None:
    note = Note(text="later")

    def act(player: Player) -> bool:
        other = player.context.ref
        player.context.tell_after(2.0, note)
        player.context.tell_every(3.0, note)
        player.context.start_soon(trio.sleep, 1.0)
        player.context.watch(other)
        player.context.unwatch(other)
        return player.context.stop_if_quiet()

    effects = await what_it_does(act)
    assert effects.scheduled == [Scheduled(note, 2.0), Scheduled(note, 3.0, repeats=True)]
    assert effects.started == [Started(trio.sleep, (1.0,))]
    assert (effects.watched, effects.unwatched) == (["/player"], ["/player"])
    assert effects.stopped
    assert effects.reply is True
    assert (await a_sandbox().handle(Leave())).stopped


async def test_what_was_stashed_comes_back_as_an_effect(autojump_clock: MockClock) -> None:
    sandbox = a_sandbox()
    stashing = Do(action=lambda player: player.context.stash())
    effects = await sandbox.handle(stashing)
    assert (effects.stashed, effects.reply) == (True, None)
    effects = await sandbox.handle(Leave(if_quiet=True))
    assert (effects.stopped, effects.reply) == (False, False)
    effects = await sandbox.handle(Do(action=lambda player: player.context.unstash()))
    assert effects.unstashed == (stashing,)
    assert (await sandbox.handle(Do(action=lambda player: player.context.unstash()))).unstashed == ()


async def test_an_actor_finds_the_names_that_the_test_registered(autojump_clock: MockClock) -> None:
    sandbox, ledger = a_sandbox(), Name[Player]("ledger")
    other = sandbox.ref("/other")
    sandbox.registry.register(ledger, other)
    effects = await sandbox.handle(Do(action=lambda player: player.context.registry.find(ledger)))
    assert effects.reply is other


async def test_a_message_without_a_handler_is_a_mistake_of_the_test(autojump_clock: MockClock) -> None:
    with pytest.raises(TypeError, match="Player has no handler for Unheard"):
        await a_sandbox().handle(Unheard())


async def test_hooks_have_no_message_to_defer_or_stash(autojump_clock: MockClock) -> None:
    class Eager(Player):
        async def on_start(self) -> None:
            self.context.defer()

    effects = await Sandbox(lambda: Eager([])).start()
    assert isinstance(effects.error, RuntimeError)


@attrs.frozen(kw_only=True)
class Add(Message["Plain", int]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (Refusal,)
    count: int


class Plain(Actor["Plain"]):
    """Its handler is a plain function."""

    def __init__(self) -> None:
        self.sum = 0

    @handles(Add)
    def add(self, message: Add) -> Any:
        if message.count < 0:
            raise Refusal
        if message.count == 0:
            return self.context.defer()
        self.sum += message.count
        self.context.ref.tell(message)
        return self.sum


async def test_a_plain_handler_runs_as_any_other(autojump_clock: MockClock) -> None:
    sandbox = Sandbox(Plain)
    assert (await sandbox.handle(Add(count=1))).reply == 1
    added = await sandbox.handle(Add(count=2))
    assert (added.reply, added.error, added.sent) == (3, None, [Sent("/sandbox", Add(count=2), "tell")])
    refused = await sandbox.handle(Add(count=-1))
    assert (type(refused.error), refused.declared, refused.reply) == (Refusal, True, None)
    deferred = await sandbox.handle(Add(count=0))
    assert (deferred.reply, deferred.deferred is not None) == (None, True)
