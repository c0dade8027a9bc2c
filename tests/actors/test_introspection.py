# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""What a running system shows of itself."""

from __future__ import annotations

import logging
from typing import cast

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors import scheduler, steps
from opscore.actors.mailbox_spec import MailboxSpec, Overflow
from opscore.actors.snapshot import ActorSnapshot, State
from opscore.actors.spec import SupervisorSpec
from opscore.actors.system import System, open_system
from tests.actors.cast import Do, Leave, Note, Player, Work, crash, play, the


def shown(system: System, path: str = "/a") -> ActorSnapshot:
    (found,) = [each for each in system.snapshot() if each.name == path]
    return found


class Stubborn(Player):
    """Lets no cancellation through, wherever it waits."""

    async def on_start(self) -> None:
        if self.context.incarnation > 1:
            await self.wait(3.5)

    async def work(self, message: Work) -> str:
        await self.wait(message.seconds)
        return "done"

    async def wait(self, seconds: float) -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(seconds)


@pytest.mark.parametrize("counts_steps", [True, False])
async def test_a_snapshot_shows_what_is_being_handled_and_since_when(
    counts_steps: bool, autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    if not counts_steps:
        # As with a trio that counts no steps: after each message the actor may have waited.
        uncounted = steps.steps_of(cast("trio.lowlevel.Task", object()))
        monkeypatch.setattr(scheduler, "steps_of", lambda _: uncounted)
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        assert (shown(system).current, shown(system).current_age_s) == (None, None)
        the(system, "/a").tell(Work(seconds=5.0))
        the(system, "/a").tell(Work(seconds=5.0))
        await trio.sleep(2)
        assert (shown(system).current, shown(system).depth) == ("Work", 1)
        assert shown(system).current_age_s == pytest.approx(2.0)
        await trio.sleep(4)
        assert shown(system).current_age_s == pytest.approx(1.0)
        await trio.sleep(5)
        assert (shown(system).current, shown(system).current_age_s) == (None, None)
        assert shown(system).handled == 2


async def test_a_snapshot_shows_what_was_put_aside_dropped_and_failed(autojump_clock: MockClock) -> None:
    mailbox = MailboxSpec(capacity=2, overflow=Overflow.DROP_OLDEST)
    async with open_system(SupervisorSpec(name="root", children=(play("a", mailbox=mailbox),))) as system:
        ref = the(system, "/a")
        for text in "xyz":
            ref.tell(Note(text=text))
        await trio.sleep(1)
        ref.tell(Do(action=lambda player: player.context.stash()))
        await trio.sleep(1)
        now = shown(system)
        assert (now.handled, now.dropped, now.high_water, now.stashed) == (2, 1, 2, 1)
        await crash(ref)
        now = shown(system)
        assert (now.failed, now.restarts, now.incarnation, now.state) == (1, 1, 2, State.RUNNING)
        assert isinstance(now.last_error, ValueError)


async def test_statistics_count_actors_workers_timers_and_dead_letters(autojump_clock: MockClock) -> None:
    branch = SupervisorSpec(name="branch", children=(play("b"),))
    async with open_system(SupervisorSpec(name="root", children=(play("a"), branch))) as system:
        ref = the(system, "/a")
        await ref.ask(Do(action=lambda player: [player.context.tell_after(50.0, Note(text="x")) for _ in range(7)]))
        await trio.testing.wait_all_tasks_blocked()
        before = system.statistics()
        assert (before.actors, before.scheduler.ready, before.dead_letters) == (4, 0, 0)
        assert before.scheduler.workers == before.scheduler.idle >= 1
        assert before.timers >= 7
        ref.tell(Work(seconds=5.0))
        the(system, "/branch/b").tell(Work(seconds=5.0))
        await trio.testing.wait_all_tasks_blocked()
        busy = system.statistics().scheduler
        assert busy.workers - busy.idle == 2
        await system.supervisor("/").stop_child("branch")
        ref.tell(Note(text="x"))
        the(system, "/a").tell(Leave())
        assert system.statistics().actors == 2


async def test_a_child_on_its_way_out_is_still_shown(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
        the(system, "/a").tell(Work(seconds=3.0))
        async with trio.open_nursery() as nursery:
            await trio.testing.wait_all_tasks_blocked()
            nursery.start_soon(system.supervisor("/").stop_child, "a")
            await trio.testing.wait_all_tasks_blocked()
            assert (shown(system).state, shown(system).current) == (State.STOPPING, "Work")
            assert system.state("/a") is None
        assert [each.name for each in system.snapshot()] == ["/"]


def warnings(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [record.getMessage() for record in caplog.records if record.levelno == logging.WARNING]


async def test_a_handler_that_swallows_the_cancellation_of_a_crash_is_named_every_second(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        await trio.sleep(1)
        raise ValueError("background")

    async with open_system(SupervisorSpec(name="root", children=(play("a", factory=lambda: Stubborn([])),))) as system:
        ref = the(system, "/a")
        await ref.ask(Do(action=lambda player: player.context.start_soon(fail)))
        ref.tell(Work(seconds=3.5))
        await trio.sleep(20)
        assert warnings(caplog) == [f"/a was cancelled and still runs: Work for {age:.1f} s" for age in (2, 3)]
        assert shown(system).incarnation == 2


async def test_background_tasks_and_hooks_that_swallow_cancellation_are_named_too(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def linger() -> None:
        with trio.CancelScope(shield=True):
            await trio.sleep(3.5)

    async with open_system(SupervisorSpec(name="root", children=(play("a", shutdown_s=1.0),))) as system:
        await the(system, "/a").ask(Do(action=lambda player: player.context.start_soon(linger)))
        await system.supervisor("/").stop_child("a")
        await trio.sleep(10)
    assert warnings(caplog) == ["/a was cancelled and still runs: its hooks or background tasks"] * 2


async def test_what_is_gone_is_named_no_more_and_holds_no_deadline(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_system(SupervisorSpec(name="root")) as system:
        for number in range(300):
            child = play(str(number), factory=lambda: Stubborn([]), shutdown_s=0.5)
            system.supervisor("/").start_child(child).tell(Work(seconds=1.0))
        await trio.testing.wait_all_tasks_blocked()
        async with trio.open_nursery() as nursery:
            for number in range(300):
                nursery.start_soon(system.supervisor("/").stop_child, str(number))
        await trio.sleep(100)
        assert warnings(caplog) == []
        assert system.statistics().timers == 0
