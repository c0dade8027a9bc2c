# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Who hears that an actor is gone, when, and why."""

from __future__ import annotations

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.actor import Terminated, handles
from opscore.actors.backoff import Backoff
from opscore.actors.ref import Ref
from opscore.actors.spec import ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import AT_ONCE, Crash, Do, Leave, Note, Player, Recall, Refuse, Work, crash, play, the


class Watcher(Player):
    """Writes down whose end it heard of, when and why."""

    @handles(Terminated)
    async def terminated(self, message: Terminated) -> None:
        self.diary.append(f"{message.actor} {trio.current_time() - self.began:g} {message.cause!r}")

    async def on_start(self) -> None:
        self.began = trio.current_time()

    async def on_stop(self) -> None:
        """Its diary is for what it hears."""


class Slow(Player):
    """Takes two seconds to stop."""

    async def on_stop(self) -> None:
        await trio.sleep(2)


def tree(diary: list[str], *children: ChildSpec[Player], strategy: Strategy = Strategy.ONE_FOR_ONE) -> SupervisorSpec:
    watcher = play("watcher", factory=lambda: Watcher(diary))
    return SupervisorSpec(
        name="root", children=(watcher, *children), strategy=strategy, intensity=Intensity(restarts_max=100)
    )


async def watch(watcher: Ref[Player], watched: Ref[Player]) -> None:
    await watcher.ask(Do(action=lambda player: player.context.watch(watched)))


async def test_the_watcher_hears_only_when_the_actor_is_really_gone(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(diary, play("b", factory=lambda: Slow([]), restart=Restart.TRANSIENT))) as system:
        b = the(system, "/b")
        await watch(the(system, "/watcher"), b)
        await b.ask(Leave())
        assert not b.alive
        await trio.sleep(1)
        assert diary == []
        await trio.sleep(2)
        assert diary == ["/b 2 None"]


async def test_the_cause_is_the_error_of_the_last_incarnation(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    children = (
        play("crashes", restart=Restart.TEMPORARY),
        play("given up", budget=Intensity(restarts_max=1)),
        play("stopped"),
    )
    async with open_system(tree(diary, *children)) as system:
        watcher = the(system, "/watcher")
        for name in ("crashes", "given up", "stopped"):
            await watch(watcher, the(system, f"/{name}"))
        the(system, "/crashes").tell(Crash(error=KeyError("first")))
        given_up = the(system, "/given up")
        await crash(given_up)
        given_up.tell(Crash(error=KeyError("second")))
        await trio.sleep(1)
        await system.supervisor("/").stop_child("stopped")
        await watcher.ask(Recall())
        assert sorted(line.split(" ")[0] + " " + line.split(" ")[-1] for line in diary) == [
            "/crashes KeyError('first')",
            "/given KeyError('second')",
            "/stopped None",
        ]


async def test_watching_an_actor_that_is_gone_tells_its_cause_at_once(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(diary, play("b", restart=Restart.TEMPORARY))) as system:
        b = the(system, "/b")
        await crash(b)
        await watch(the(system, "/watcher"), b)
        await the(system, "/watcher").ask(Recall())
        assert diary == ["/b 1 ValueError('boom')"]


async def test_watching_twice_is_watching_once_and_unwatch_ends_it(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    children = tuple(play(name, restart=Restart.TRANSIENT) for name in "bc")
    async with open_system(tree(diary, *children)) as system:
        watcher, b, c = the(system, "/watcher"), the(system, "/b"), the(system, "/c")
        for ref in (b, b, c, c):
            await watch(watcher, ref)
        for _ in range(2):
            await watcher.ask(Do(action=lambda player: player.context.unwatch(c)))
        await b.ask(Leave())
        await c.ask(Leave())
        await trio.sleep(1)
        assert diary == ["/b 0 None"]


async def test_who_waits_out_a_backoff_is_not_gone_until_it_is_stopped(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(diary, play("b", backoff=Backoff(initial_s=50.0, jitter=0.0)))) as system:
        b = the(system, "/b")
        await watch(the(system, "/watcher"), b)
        await crash(b)
        assert diary == []
        await system.supervisor("/").stop_child("b")
        await trio.testing.wait_all_tasks_blocked()
        assert diary == ["/b 1 ValueError('boom')"]


async def test_what_was_heard_of_before_a_restart_is_not_told_to_the_next_incarnation(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    async with open_system(tree(diary, play("b", restart=Restart.TRANSIENT))) as system:
        watcher, b = the(system, "/watcher"), the(system, "/b")
        await watch(watcher, b)
        watcher.tell(Work(seconds=1.0))
        watcher.tell(Crash())
        await trio.testing.wait_all_tasks_blocked()
        await b.ask(Leave())
        await trio.sleep(5)
        # The watch was heard of before the crash, because its lane goes first; and never again.
        assert diary == ["/b 1 None"]
        await crash(watcher)
        assert diary == ["/b 1 None"]


async def test_an_actor_may_watch_itself_and_hears_nothing(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(diary)) as system:
        watcher = the(system, "/watcher")
        await watch(watcher, watcher)
        await system.supervisor("/").stop_child("watcher")
        assert (diary, system.dead_letters.recent()) == ([], ())


async def test_siblings_that_watch_each_other_end_together(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    other = play("other", factory=lambda: Watcher(diary))
    async with open_system(tree(diary, other, strategy=Strategy.ONE_FOR_ALL)) as system:
        watcher, ref = the(system, "/watcher"), the(system, "/other")
        await watch(watcher, ref)
        await watch(ref, watcher)
        await crash(ref)
        assert diary == []
        await watch(watcher, ref)
        await watch(ref, watcher)
    assert diary == []


async def test_a_watch_that_raises_harms_neither_the_system_nor_other_watches(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fail() -> None:
        raise ValueError("an observer's own trouble")

    diary: list[str] = []
    async with open_system(tree(diary, play("b", restart=Restart.TRANSIENT), play("c"))) as system:
        b = the(system, "/b")
        b.mailbox.watch(fail)
        await watch(the(system, "/watcher"), b)
        await b.ask(Leave())
        await trio.sleep(1)
        assert diary == ["/b 0 None"]
        assert await the(system, "/c").ask(Recall()) == ()
    assert "an observer's own trouble" in caplog.text


async def test_a_message_at_every_interval_until_cancelled(autojump_clock: MockClock) -> None:
    async with open_system(tree([], play("b"))) as system:
        b = the(system, "/b")
        timer = await b.ask(Do(action=lambda player: player.context.tell_every(2.0, Note(text="tick"))))
        await trio.sleep(7)
        assert await b.ask(Recall()) == ("tick",) * 3
        timer.cancel()
        await trio.sleep(7)
        assert await b.ask(Recall()) == ("tick",) * 3


async def test_a_slow_actor_is_not_buried_in_its_own_timer(autojump_clock: MockClock) -> None:
    async with open_system(tree([], play("b"))) as system:
        b = the(system, "/b")
        await b.ask(Do(action=lambda player: player.context.tell_every(1.0, Note(text="tick"))))
        b.tell(Work(seconds=10.5))
        await trio.sleep(10.7)
        assert await b.ask(Recall()) == ("tick",)
        await trio.sleep(3)
        assert len(await b.ask(Recall())) == 4


async def test_a_message_at_every_interval_ends_with_the_incarnation(autojump_clock: MockClock) -> None:
    async with open_system(tree([], play("b"))) as system:
        b = the(system, "/b")
        await b.ask(Do(action=lambda player: player.context.tell_every(1.0, Note(text="tick"))))
        await crash(b)
        await trio.sleep(10)
        assert await b.ask(Recall()) == ()


async def test_a_message_at_every_interval_goes_on_after_a_declared_error_and_ends_with_a_crash(
    autojump_clock: MockClock,
) -> None:
    async with open_system(tree([], play("b", backoff=AT_ONCE))) as system:
        b = the(system, "/b")
        await b.ask(Do(action=lambda player: player.context.tell_every(1.0, Refuse())))
        await trio.sleep(3.5)
        assert [each.handled for each in system.snapshot() if each.name == "/b"] == [4]
        await b.ask(Do(action=lambda player: player.context.tell_every(1.0, Crash())))
        await trio.sleep(1.5)
        assert await b.ask(Do(action=lambda player: player.context.incarnation)) == 2


@pytest.mark.parametrize("interval_s", [0.0, -1.0, float("nan")])
async def test_an_interval_must_be_positive(interval_s: float, autojump_clock: MockClock) -> None:
    def start(player: Player) -> None:
        with pytest.raises(ValueError, match="interval_s must be positive"):
            player.context.tell_every(interval_s, Note(text="never"))

    async with open_system(tree([], play("b"))) as system:
        await the(system, "/b").ask(Do(action=start))
