# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
import logging

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.backoff import Backoff
from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorStopped
from opscore.actors.spec import (
    Restart,
    Strategy,
    SupervisorSpec,
)
from opscore.actors.system import open_system
from tests.actors.cast import Crash, Leave, Note, Player, Recall, Work, crash, play, the, tree


class Stubborn(Player):
    """Lets no cancellation through while it works."""

    async def work(self, message: Work) -> str:
        with trio.CancelScope(shield=True):
            await trio.sleep(message.seconds)
        return "done"


class Lingering(Player):
    """Takes two seconds to stop."""

    async def on_stop(self) -> None:
        await trio.sleep(2)
        await super().on_stop()


@pytest.mark.parametrize("restart", [Restart.TRANSIENT, Restart.TEMPORARY])
async def test_other_children_that_stop_are_gone_and_their_name_is_free_at_once(
    restart: Restart, autojump_clock: MockClock
) -> None:
    diary: list[str] = []

    class Slow(Player):
        async def on_stop(self) -> None:
            await trio.sleep(2)
            await super().on_stop()

    async with open_system(tree()) as system:
        root = system.supervisor("/")
        spec = play("a", factory=lambda: Slow(diary), restart=restart)
        first = root.start_child(spec)
        await first.ask(Leave())
        assert root.child("a") is None
        second = root.start_child(spec)
        assert second is not first
        assert await second.ask(Recall()) == ()
        # The successor starts only once its predecessor is gone.
        assert diary == ["start /a 1", "stop /a 1", "start /a 1"]


async def test_messages_left_when_an_actor_stops_become_dead_letters(autojump_clock: MockClock) -> None:
    async with open_system(tree(play("a", restart=Restart.TRANSIENT))) as system:
        ref = the(system, "/a")
        ref.tell(Work(seconds=1.0))
        ref.tell(Leave())
        ref.tell(Note(text="left"))
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorStopped):
                    await ref.ask(Recall())

            nursery.start_soon(ask)
        assert [(letter.message, letter.reason) for letter in system.dead_letters.recent()] == [
            (Note(text="left"), DeadLetterReason.STOPPED),
            (Recall(), DeadLetterReason.STOPPED),
        ]


async def test_an_actor_that_stops_only_if_quiet_loses_no_message(autojump_clock: MockClock) -> None:
    async with open_system(tree()) as system:
        root = system.supervisor("/")
        spec = play("a", restart=Restart.TRANSIENT)
        ref = root.start_child(spec)
        ref.tell(Leave(if_quiet=True))
        ref.tell(Note(text="came in between"))
        assert await ref.ask(Recall()) == ("came in between",)
        assert await ref.ask(Leave(if_quiet=True))
        assert root.child("a") is None
        again = root.start_child(spec)
        again.tell(Note(text="to the next one"))
        assert await again.ask(Recall()) == ("to the next one",)
        assert system.dead_letters.recent() == ()


async def test_stop_child_returns_when_the_child_is_gone_and_it_stays_gone(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(play("a", diary))) as system:
        root, ref = system.supervisor("/"), the(system, "/a")
        ref.tell(Work(seconds=2.0))
        await trio.testing.wait_all_tasks_blocked()
        await root.stop_child("a")
        await root.stop_child("a")
        assert diary == ["start /a 1", "stop /a 1"]
        assert (ref.alive, root.child("a")) == (False, None)
        await trio.sleep(10)
        assert diary == ["start /a 1", "stop /a 1"]


async def test_stopping_a_child_that_waits_out_its_backoff_ends_the_wait(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    child = play("a", diary, backoff=Backoff(initial_s=5.0, jitter=0.0))
    async with open_system(tree(child)) as system:
        ref = the(system, "/a")
        await crash(ref)
        await system.supervisor("/").stop_child("a")
        await trio.sleep(10)
        assert diary == ["start /a 1", "stop /a 1"]
        assert not ref.alive


async def test_a_child_that_outstays_its_shutdown_is_cancelled(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree(play("a", diary, shutdown_s=3.0))) as system:
        the(system, "/a").tell(Work(seconds=1_000.0))
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await system.supervisor("/").stop_child("a")
        assert trio.current_time() - start == pytest.approx(3.0)
        assert diary == ["start /a 1", "stop /a 1"]


async def test_a_child_that_swallows_cancellation_is_named_every_second_past_its_deadline(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Stubborn(Player):
        async def work(self, message: Work) -> str:
            with trio.CancelScope(shield=True):
                await trio.sleep(message.seconds)
            return "done"

    child = play("a", factory=lambda: Stubborn([]), shutdown_s=1.0)
    with caplog.at_level(logging.WARNING, "opscore.actors"):
        async with open_system(tree(child)) as system:
            the(system, "/a").tell(Work(seconds=4.5))
            await trio.testing.wait_all_tasks_blocked()
    assert [record.getMessage() for record in caplog.records] == [
        f"/a was cancelled and still runs: Work for {age:.1f} s" for age in (2, 3, 4)
    ]


async def test_on_stop_is_shielded_but_bounded(autojump_clock: MockClock, caplog: pytest.LogCaptureFixture) -> None:
    diary: list[str] = []

    class Slow(Player):
        async def on_stop(self) -> None:
            await trio.sleep(1.0)
            await super().on_stop()
            await trio.sleep(1_000.0)

    child = play("a", factory=lambda: Slow(diary), shutdown_s=2.0)
    start = trio.current_time()
    async with open_system(tree(child)):
        pass
    assert diary == ["start /a 1", "stop /a 1"]
    assert trio.current_time() - start == pytest.approx(2.0)
    assert "on_stop of /a was cancelled after 2 s" in caplog.text


async def test_an_on_stop_that_raises_is_logged_and_changes_nothing(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class Clumsy(Player):
        async def on_stop(self) -> None:
            raise ValueError("clumsy")

    async with open_system(tree(play("a", factory=lambda: Clumsy([])))) as system:
        await crash(the(system, "/a"))
        assert await the(system, "/a").ask(Recall()) == ()
    assert "clumsy" in caplog.text


async def test_a_supervisor_that_is_gone_starts_nobody(autojump_clock: MockClock) -> None:
    branch = SupervisorSpec(name="branch")
    async with open_system(tree(branch)) as system:
        handle = system.supervisor("/branch")
        await system.supervisor("/").stop_child("branch")
        with pytest.raises(ActorStopped, match="/branch"):
            handle.start_child(play("a"))


async def test_independent_dynamic_children_stop_together(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    class Slow(Player):
        async def on_stop(self) -> None:
            await trio.sleep(2)
            await super().on_stop()

    start = trio.current_time()
    async with open_system(tree(play("static", diary))) as system:
        for number in range(20):
            system.supervisor("/").start_child(play(str(number), factory=lambda: Slow(diary)))
        await trio.sleep(1)
    assert trio.current_time() - start == pytest.approx(3.0)
    assert diary[-1] == "stop /static 1"
    assert len(diary) == 42


async def test_a_supervisor_past_its_own_deadline_cancels_everything_below(autojump_clock: MockClock) -> None:
    branch = SupervisorSpec(
        name="branch", shutdown_s=2.0, children=tuple(play(name, shutdown_s=1_000.0) for name in "abc")
    )
    async with open_system(tree(branch)) as system:
        refs = [the(system, f"/branch/{name}") for name in "abc"]
        for ref in refs:
            ref.tell(Work(seconds=10_000.0))
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await system.supervisor("/").stop_child("branch")
        assert trio.current_time() - start == pytest.approx(2.0)
        assert not any(ref.alive for ref in refs)


async def test_a_group_restart_waits_for_a_predecessor_that_is_still_leaving(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    class Slow(Player):
        async def on_stop(self) -> None:
            await trio.sleep(3)
            await super().on_stop()

    spec = play("b", factory=lambda: Slow(diary), restart=Restart.TRANSIENT)
    async with open_system(tree(play("a", diary), strategy=Strategy.ONE_FOR_ALL)) as system:
        root = system.supervisor("/")
        await root.start_child(spec).ask(Leave())
        successor = root.start_child(spec)
        the(system, "/a").tell(Crash())
        assert await successor.ask(Recall()) == ()
        diary_of_b = [line for line in diary if "/b" in line]
        assert diary_of_b == ["start /b 1", "stop /b 1", "start /b 1"]


async def test_stopping_the_system_ends_a_group_restart_in_the_middle(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    class Slow(Player):
        async def on_start(self) -> None:
            await super().on_start()
            if self.context.incarnation > 1:
                await trio.sleep(1_000)

    children = (play("a", factory=lambda: Slow(diary), shutdown_s=1.0), play("b", diary))
    async with open_system(tree(*children, strategy=Strategy.ONE_FOR_ALL)) as system:
        the(system, "/b").tell(Crash())
        await trio.sleep(1)
        start = trio.current_time()
    assert trio.current_time() - start == pytest.approx(1.0)
    assert diary[-1] == "start /a 2"


async def test_a_child_on_its_way_out_is_waited_for_when_its_supervisor_stops(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    children = (play("a", diary), SupervisorSpec(name="branch"))
    async with open_system(tree(*children)) as system:
        spec = play("b", factory=lambda: Lingering(diary), restart=Restart.TRANSIENT)
        await system.supervisor("/branch").start_child(spec).ask(Leave())
    assert diary[-2:] == ["stop /branch/b 1", "stop /a 1"]


async def test_a_child_that_says_it_leaves_and_does_not_is_stopped_with_its_supervisor(
    autojump_clock: MockClock,
) -> None:
    class Hesitant(Player):
        async def leave(self, message: Leave) -> bool:
            self.context.stop()
            await trio.sleep(1_000)
            return True

    start = trio.current_time()
    async with open_system(tree()) as system:
        spec = play("a", factory=lambda: Hesitant([]), restart=Restart.TRANSIENT, shutdown_s=3.0)
        system.supervisor("/").start_child(spec).tell(Leave())
        await trio.testing.wait_all_tasks_blocked()
    assert trio.current_time() - start == pytest.approx(3.0)


async def test_what_is_killed_handles_no_other_message(autojump_clock: MockClock) -> None:
    branch = SupervisorSpec(
        name="branch",
        shutdown_s=2.0,
        children=(play("a", factory=lambda: Stubborn([])), play("b", factory=lambda: Stubborn([]))),
    )
    async with open_system(tree(branch)) as system:
        for _ in range(3):
            the(system, "/branch/a").tell(Work(seconds=5.0))
        the(system, "/branch/b").tell(Work(seconds=20.0))
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
        await system.supervisor("/").stop_child("branch")
        assert trio.current_time() - start == pytest.approx(20.0)
        reasons = [letter.reason for letter in system.dead_letters.recent()]
        assert reasons.count(DeadLetterReason.STOPPED) == 2


async def test_an_ask_to_an_actor_that_is_stopping_for_good_ends_at_once(autojump_clock: MockClock) -> None:
    async with open_system(tree(play("a", factory=lambda: Lingering([])))) as system:
        ref, start = the(system, "/a"), trio.current_time()
        async with trio.open_nursery() as nursery:
            nursery.start_soon(system.supervisor("/").stop_child, "a")
            await trio.testing.wait_all_tasks_blocked()
            with pytest.raises(ActorStopped):
                await ref.ask(Recall())
            assert trio.current_time() == start


async def test_asking_to_stop_again_does_not_extend_the_deadline(autojump_clock: MockClock) -> None:
    start = trio.current_time()
    async with trio.open_nursery() as nursery, open_system(tree(play("a", shutdown_s=3.0))) as system:
        the(system, "/a").tell(Work(seconds=1_000.0))
        await trio.testing.wait_all_tasks_blocked()
        nursery.start_soon(system.supervisor("/").stop_child, "a")
        await trio.sleep(2)
    assert trio.current_time() - start == pytest.approx(3.0)


async def test_stop_child_on_one_that_is_leaving_waits_until_it_is_gone(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    async with open_system(tree()) as system:
        spec = play("a", factory=lambda: Lingering(diary), restart=Restart.TRANSIENT)
        await system.supervisor("/").start_child(spec).ask(Leave())
        await system.supervisor("/").stop_child("a")
        assert diary == ["start /a 1", "stop /a 1"]


async def test_a_child_that_waits_out_its_backoff_does_not_come_back_while_those_after_it_stop(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    children = (
        play("a", diary, backoff=Backoff(initial_s=1.0, jitter=0.0)),
        play("b", factory=lambda: Lingering(diary)),
    )
    async with open_system(tree(*children)) as system:
        the(system, "/a").tell(Crash())
        await trio.testing.wait_all_tasks_blocked()
    assert diary == ["start /a 1", "start /b 1", "stop /a 1", "stop /b 1"]
