# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Cancellation and failure in every phase of an incarnation: start, handler, background task, stop."""

from __future__ import annotations

from typing import Any

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.errors import ActorError, ActorFailed, ActorStopped, StartFailed
from opscore.actors.ref import Ref
from opscore.actors.spec import Intensity, Restart, SupervisorSpec
from opscore.actors.system import System, open_system
from tests.actors.cast import Crash, Defer, Do, Note, Player, Recall, Work, crash, play, the


async def fail_after(seconds: float) -> None:
    await trio.sleep(seconds)
    raise ValueError("background")


async def fail_when_cancelled() -> None:
    try:
        await trio.sleep_forever()
    finally:
        raise ValueError("background, on its way out")


class Phased(Player):
    """Waits in its hooks as long as it is told to, and starts background tasks first."""

    start_s = 0.0
    stop_s = 0.0
    background: Any = None

    async def on_start(self) -> None:
        await super().on_start()
        if self.background is not None and self.context.incarnation == 1:
            self.context.start_soon(*self.background)
        if self.context.incarnation == 1:
            await trio.sleep(self.start_s)
        self.diary.append("started")

    async def on_stop(self) -> None:
        await trio.sleep(self.stop_s)
        await super().on_stop()


def phased(diary: list[str], **settings: Any) -> SupervisorSpec:
    factory = type("Told", (Phased,), settings)
    children = (play("b"), play("a", factory=lambda: factory(diary), shutdown_s=2.0))
    return SupervisorSpec(name="root", children=children, intensity=Intensity(restarts_max=10))


def failures(system: System) -> int:
    return sum(each.failed for each in system.snapshot())


async def answers_of(ref: Ref[Player]) -> tuple[str, ...]:
    return await ref.ask(Recall())


async def test_a_background_failure_during_the_start_is_a_failed_start(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(phased(diary, start_s=5.0, background=(fail_after, 1.0))) as system:
        # on_stop is for those whose on_start came to its end.
        assert diary == ["start /a 1", "start /a 2", "started"]
        assert failures(system) == 1
        assert await answers_of(the(system, "/a")) == ()


async def test_a_background_failure_while_the_actor_is_idle_restarts_it(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(phased(diary, background=(fail_after, 3.0))):
        await trio.sleep(5)
        assert diary == ["start /a 1", "started", "stop /a 1", "start /a 2", "started"]


async def test_a_background_failure_while_a_handler_waits_restarts_the_actor(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(phased(diary, background=(fail_after, 3.0))) as system:
        with pytest.raises(ActorFailed, match="background"):
            await the(system, "/a").ask(Work(seconds=10.0))
        await trio.sleep(1)
        assert diary[2:] == ["stop /a 1", "start /a 2", "started"]


async def test_a_background_failure_while_the_actor_stops_changes_nothing_but_a_count(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    async with open_system(phased(diary, background=(fail_when_cancelled,), stop_s=1.0)) as system:
        start = trio.current_time()
        await system.supervisor("/").stop_child("a")
        await trio.sleep(10)
        assert diary == ["start /a 1", "started", "stop /a 1"]
        assert trio.current_time() - start == pytest.approx(11.0)
        assert await answers_of(the(system, "/b")) == ()


async def test_a_background_failure_after_a_crash_is_not_the_cause_of_it(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(phased(diary, background=(fail_when_cancelled,))) as system:
        await crash(the(system, "/a"))
        assert diary[2:] == ["stop /a 1", "start /a 2", "started"]
        assert failures(system) == 1


async def test_a_child_stopped_while_it_starts_is_cancelled_after_its_shutdown(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(SupervisorSpec(name="root", children=(play("b"),))) as system:
        factory = type("Told", (Phased,), {"start_s": 100.0})
        ref = system.supervisor("/").start_child(play("a", factory=lambda: factory(diary), shutdown_s=2.0))
        ref.tell(Note(text="never handled"))
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await system.supervisor("/").stop_child("a")
        assert trio.current_time() - start == pytest.approx(2.0)
        assert diary == ["start /a 1"]
        assert [letter.message for letter in system.dead_letters.recent()] == [Note(text="never handled")]


async def test_a_child_stopped_while_it_winds_down_after_a_crash_is_not_restarted(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    async with open_system(phased(diary, stop_s=1.0)) as system:
        with pytest.raises(ActorFailed):
            await the(system, "/a").ask(Crash())
        await system.supervisor("/").stop_child("a")
        await trio.sleep(10)
        assert diary == ["start /a 1", "started", "stop /a 1"]


async def test_a_failed_stop_in_a_nursery_answers_deferred_asks_and_is_no_crash(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Tangled(Player):
        async def on_stop(self) -> None:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(fail_when_cancelled)
                nursery.start_soon(trio.sleep_forever)

    child = play("a", factory=lambda: Tangled([]), restart=Restart.TRANSIENT, shutdown_s=1.0)
    async with open_system(SupervisorSpec(name="root", children=(child, play("b")))) as system:
        ref, start = the(system, "/a"), trio.current_time()

        async def ask() -> None:
            with pytest.raises(ActorStopped):
                await ref.ask(Defer(), timeout_s=100.0)
            assert trio.current_time() - start == pytest.approx(1.0)

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(system.supervisor("/").stop_child, "a")
        assert ref.mailbox.cause is None
    assert "on_stop of /a raised" in caplog.text


class Unspeakable(Exception):
    """An error that fails at its own text."""

    def __str__(self) -> str:
        raise RuntimeError("no words")


async def test_an_error_without_a_text_is_answered_and_crashes_its_actor_like_any_other(
    autojump_clock: MockClock,
) -> None:
    async with open_system(phased([])) as system:
        ref = the(system, "/a")
        await ref.ask(Note(text="of the first incarnation"))
        with pytest.raises(ActorFailed, match="failed with Unspeakable") as caught:
            await ref.ask(Crash(error=Unspeakable()))
        assert isinstance(caught.value.cause, Unspeakable)
        assert await answers_of(ref) == ()
        assert await ref.ask(Do(action=lambda player: player.context.incarnation)) == 2


async def test_a_start_that_fails_without_a_text_is_start_failed(autojump_clock: MockClock) -> None:
    def make() -> Player:
        raise Unspeakable

    child = attrs.evolve(play("a", factory=make), restart=Restart.PERMANENT)
    with pytest.raises(ActorError) as caught:
        async with open_system(SupervisorSpec(name="root", children=(child,), intensity=Intensity(restarts_max=1))):
            pass
    assert isinstance(caught.value, StartFailed)
    assert str(caught.value) == "/a could not start: Unspeakable: its text raised RuntimeError"
