# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.backoff import Backoff
from opscore.actors.dead_letters import DeadLetterReason
from opscore.actors.errors import ActorFailed, ActorRestarted
from opscore.actors.spec import (
    Intensity,
    Restart,
    Strategy,
    SupervisorSpec,
)
from opscore.actors.system import open_system
from tests.actors.cast import Crash, Do, Leave, Note, Player, Recall, Work, crash, play, the, tree


@pytest.mark.parametrize(
    ("strategy", "expected"),
    [
        (Strategy.ONE_FOR_ONE, ["stop /b 1", "start /b 2"]),
        (
            Strategy.ONE_FOR_ALL,
            ["stop /b 1", "stop /c 1", "stop /a 1", "start /a 2", "start /b 2", "start /c 2"],
        ),
        (Strategy.REST_FOR_ONE, ["stop /b 1", "stop /c 1", "start /b 2", "start /c 2"]),
    ],
)
async def test_a_crash_restarts_whom_the_strategy_names(
    strategy: Strategy, expected: list[str], autojump_clock: MockClock
) -> None:
    diary: list[str] = []
    children = (play("a", diary), play("b", diary), play("c", diary))
    async with open_system(tree(*children, strategy=strategy)) as system:
        assert diary == ["start /a 1", "start /b 1", "start /c 1"]
        diary.clear()
        await crash(the(system, "/b"))
        assert diary == expected
        diary.clear()
    assert [line.split()[1] for line in diary] == ["/c", "/b", "/a"]


async def test_dynamic_children_take_part_in_group_restarts_in_the_order_they_came(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    async with open_system(tree(play("a", diary), strategy=Strategy.REST_FOR_ONE)) as system:
        root = system.supervisor("/")
        for name in ("b", "c"):
            root.start_child(play(name, diary))
        await trio.sleep(1)
        diary.clear()
        await crash(the(system, "/b"))
        assert diary == ["stop /b 1", "stop /c 1", "start /b 2", "start /c 2"]


async def test_a_group_restart_ends_temporary_siblings_for_good_and_restarts_transient_ones(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    children = (
        play("a", diary),
        play("b", diary, restart=Restart.TEMPORARY),
        play("c", diary, restart=Restart.TRANSIENT),
    )
    async with open_system(tree(*children, strategy=Strategy.ONE_FOR_ALL)) as system:
        await crash(the(system, "/a"))
        assert diary[-2:] == ["start /a 2", "start /c 2"]
        assert system.ref("/b") is None


async def test_a_crash_never_disturbs_siblings_of_one_for_one(autojump_clock: MockClock) -> None:
    async with open_system(tree(play("a"), play("b"))) as system:
        a, b = the(system, "/a"), the(system, "/b")
        async with trio.open_nursery() as nursery:
            answers: list[str] = []

            async def work() -> None:
                answers.append(await b.ask(Work(seconds=5.0)))

            nursery.start_soon(work)
            await crash(a)
        assert answers == ["done"]
        assert await b.ask(Do(action=lambda player: player.context.incarnation)) == 1


async def test_messages_queued_across_a_restart_are_handled_by_the_next_incarnation(
    autojump_clock: MockClock,
) -> None:
    child = play("a", backoff=Backoff(initial_s=3.0, jitter=0.0))
    async with open_system(tree(child)) as system:
        ref = the(system, "/a")
        ref.tell(Note(text="dies with the instance"))
        ref.tell(Crash())
        ref.tell(Note(text="queued before the crash"))
        await trio.sleep(1)
        ref.tell(Note(text="queued during the backoff"))
        start = trio.current_time()
        assert await ref.ask(Recall()) == ("queued before the crash", "queued during the backoff")
        assert trio.current_time() - start == pytest.approx(2.0)


async def test_group_restarts_keep_the_mailboxes_of_siblings(autojump_clock: MockClock) -> None:
    async with open_system(tree(play("a"), play("b"), strategy=Strategy.ONE_FOR_ALL)) as system:
        a, b = the(system, "/a"), the(system, "/b")
        b.tell(Work(seconds=2.0))
        await trio.testing.wait_all_tasks_blocked()
        b.tell(Note(text="kept"))
        a.tell(Crash())
        assert await b.ask(Recall()) == ("kept",)
        assert await b.ask(Do(action=lambda player: player.context.incarnation)) == 2


async def test_an_ask_in_the_handler_of_a_sibling_that_is_killed_by_a_group_restart_gets_actor_restarted(
    autojump_clock: MockClock,
) -> None:
    children = (play("a"), play("b", shutdown_s=1.0))
    async with open_system(tree(*children, strategy=Strategy.ONE_FOR_ALL)) as system:
        a, b = the(system, "/a"), the(system, "/b")
        async with trio.open_nursery() as nursery:

            async def ask() -> None:
                with pytest.raises(ActorRestarted):
                    await b.ask(Work(seconds=1_000.0), timeout_s=2_000.0)

            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            a.tell(Crash())
        assert [letter.reason for letter in system.dead_letters.recent()] == [
            DeadLetterReason.FAILED,
            DeadLetterReason.INTERRUPTED,
        ]


async def test_restarts_wait_out_a_backoff_that_grows_and_resets(autojump_clock: MockClock) -> None:
    backoff = Backoff(initial_s=1.0, coefficient=2.0, max_s=10.0, jitter=0.0)
    async with open_system(tree(play("a", backoff=backoff), intensity=Intensity(restarts_max=99))) as system:
        ref, waited = the(system, "/a"), list[float]()
        for pause_s in (0.0, 0.0, 0.0, 20.0):
            await trio.sleep(pause_s)
            with pytest.raises(ActorFailed):
                await ref.ask(Crash())
            start = trio.current_time()
            await ref.ask(Recall())
            waited.append(round(trio.current_time() - start, 6))
        assert waited == [1.0, 2.0, 4.0, 1.0]


async def test_a_child_beyond_its_budget_is_given_up_alone(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    given_up: list[tuple[str, BaseException]] = []
    poison = play(
        "poison",
        budget=Intensity(restarts_max=2, within_s=60.0),
        on_given_up=lambda name, cause: given_up.append((name, cause)),
    )
    async with open_system(tree(play("a"), intensity=None)) as system:
        ref = system.supervisor("/").start_child(poison)
        for _ in range(2):
            await crash(ref)
            assert ref.alive
        ref.tell(Crash(error=KeyError("last")))
        ref.tell(Note(text="left behind"))
        await trio.sleep(1)
        ((name, cause),) = given_up
        assert name == "poison"
        assert isinstance(cause, KeyError)
        assert not ref.alive
        assert system.ref("/poison") is None
        assert system.dead_letters.recent()[-1].message == Note(text="left behind")
        assert await the(system, "/a").ask(Do(action=lambda player: player.context.incarnation)) == 1
    assert "/poison exceeded its restart budget" in caplog.text


async def test_an_observer_of_given_up_children_that_raises_harms_nobody(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    def fault(name: str, cause: BaseException) -> None:
        raise ValueError("faulty observer")

    poison = play("poison", budget=Intensity(restarts_max=0), on_given_up=fault)
    async with open_system(tree(poison, play("a"))) as system:
        await crash(the(system, "/poison"))
        assert await the(system, "/a").ask(Recall()) == ()
    assert "faulty observer" in caplog.text


async def test_a_stale_exit_is_ignored(autojump_clock: MockClock) -> None:
    """Both crash at once: the group restart that one causes makes the other's exit stale."""
    diary: list[str] = []
    children = (play("a", diary), play("b", diary))
    spec = tree(*children, strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(restarts_max=1))
    async with open_system(spec) as system:
        the(system, "/a").tell(Crash())
        the(system, "/b").tell(Crash())
        await trio.sleep(1)
        assert sorted(line for line in diary if line.startswith("start")) == [
            "start /a 1",
            "start /a 2",
            "start /b 1",
            "start /b 2",
        ]


async def test_a_permanent_child_that_stops_is_restarted_and_keeps_its_mailbox(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    async with open_system(tree(play("a", diary))) as system:
        ref = the(system, "/a")
        ref.tell(Leave())
        ref.tell(Note(text="kept"))
        assert await ref.ask(Recall()) == ("kept",)
        assert diary == ["start /a 1", "stop /a 1", "start /a 2", "kept"]


async def test_start_child_returns_at_once_and_keeps_messages_sent_before_the_start(
    autojump_clock: MockClock,
) -> None:
    class Slow(Player):
        async def on_start(self) -> None:
            await trio.sleep(5)

    async with open_system(tree()) as system:
        ref = system.supervisor("/").start_child(play("a", factory=lambda: Slow([])))
        ref.tell(Note(text="early"))
        assert await ref.ask(Recall()) == ("early",)


async def test_starting_a_child_whose_name_is_taken_returns_the_live_one(autojump_clock: MockClock) -> None:
    child = play("a", backoff=Backoff(initial_s=5.0, jitter=0.0))
    async with open_system(tree(child, SupervisorSpec(name="branch"))) as system:
        root = system.supervisor("/")
        ref = root.child("a")
        assert root.start_child(play("a")) is ref
        the(system, "/a").tell(Crash())
        await trio.sleep(1)
        assert root.start_child(play("a")) is ref
        with pytest.raises(ValueError, match="/branch is a supervisor"):
            root.start_child(play("branch"))
        assert root.child("branch") is None
        assert root.child("nobody") is None


async def test_children_started_during_a_group_restart_start_after_it(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    child = play("a", diary, backoff=Backoff(initial_s=5.0, jitter=0.0))
    async with open_system(tree(child, strategy=Strategy.ONE_FOR_ALL)) as system:
        the(system, "/a").tell(Crash())
        await trio.sleep(1)
        newcomer = system.supervisor("/").start_child(play("b", diary))
        assert await newcomer.ask(Recall()) == ()
        assert diary == ["start /a 1", "stop /a 1", "start /a 2", "start /b 1"]


async def test_a_failed_start_counts_as_a_restart_and_leaves_no_zombie(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    class LateStarter(Player):
        async def on_start(self) -> None:
            self.context.start_soon(self.linger)
            await super().on_start()
            if self.context.incarnation < 3:
                raise ValueError("not yet")

        async def linger(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                self.diary.append(f"background of {self.context.incarnation} ended")

    child = play("a", factory=lambda: LateStarter(diary), backoff=Backoff(initial_s=1.0, jitter=0.0))
    async with open_system(tree(child)) as system:
        assert trio.current_time() >= 3.0
        assert diary == [
            "start /a 1",
            "background of 1 ended",
            "start /a 2",
            "background of 2 ended",
            "start /a 3",
        ]
        (snapshot,) = system.snapshot()[1:]
        assert (snapshot.incarnation, snapshot.restarts, snapshot.failed) == (3, 2, 2)
