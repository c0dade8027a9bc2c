# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Many actors on few tasks: who runs where, and what one actor's trouble does to the others."""

from __future__ import annotations

import gc
from collections.abc import Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.actor import Actor, handles
from opscore.actors.errors import ActorFailed
from opscore.actors.message import Message
from opscore.actors.scheduler import BATCH_MAX, IDLE_MAX, Turn
from opscore.actors.spec import Intensity, Restart, SupervisorSpec
from opscore.actors.system import System, open_system
from tests.actors.cast import Crash, Do, Note, Player, Recall, Work, play, the


def pool(count: int, factory: Callable[[], Actor[Player]] | None = None) -> SupervisorSpec:
    """A root with children 0, 1, 2 and so on, which are restarted as often as they like."""
    children = tuple(play(str(number), factory=factory, shutdown_s=1.0) for number in range(count))
    return SupervisorSpec(name="root", children=children, intensity=Intensity(restarts_max=10_000))


def tasks_living() -> int:
    return trio.lowlevel.current_statistics().tasks_living


async def settle(_: System) -> None:
    """Let everyone handle what is there to be handled."""
    await trio.testing.wait_all_tasks_blocked()


async def test_idle_actors_hold_no_task(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root")) as system:
        before = tasks_living()
        for number in range(1_000):
            system.supervisor("/").start_child(play(str(number)))
        await trio.sleep(1)
        assert system.statistics().actors == 1_001
        assert tasks_living() - before <= 2
        for number in range(1_000):
            the(system, f"/{number}").tell(Note(text="x"))
        await trio.sleep(1)
        assert tasks_living() - before <= 2
        assert sum(each.handled for each in system.snapshot()) == 1_000


async def test_a_handler_that_waits_holds_up_nobody_else(autojump_clock: MockClock) -> None:
    async with open_system(pool(10)) as system:
        for number in range(9):
            the(system, f"/{number}").tell(Work(seconds=100.0))
        start = trio.current_time()
        assert await the(system, "/9").ask(Recall()) == ()
        assert trio.current_time() == start


async def test_a_thousand_handlers_wait_at_once_and_idle_workers_go_down_to_the_limit(
    autojump_clock: MockClock,
) -> None:
    async with open_system(pool(1_000)) as system:
        before, start = tasks_living(), trio.current_time()
        for number in range(1_000):
            the(system, f"/{number}").tell(Work(seconds=10.0))
        await trio.sleep(1)
        statistics = system.statistics().scheduler
        assert (statistics.ready, statistics.workers - statistics.idle) == (0, 1_000)
        await trio.sleep(10)
        statistics = system.statistics().scheduler
        assert statistics.workers == statistics.idle <= IDLE_MAX
        assert sum(each.handled for each in system.snapshot()) == 1_000
        assert tasks_living() - before <= IDLE_MAX
        assert trio.current_time() - start == pytest.approx(11.0)


async def test_a_hundred_handlers_that_wait_begin_within_a_few_passes_of_the_loop(autojump_clock: MockClock) -> None:
    async with open_system(pool(100)) as system:
        for _ in range(2):
            for number in range(100):
                the(system, f"/{number}").tell(Work(seconds=10.0))
            passes = 0
            while system.statistics().scheduler.ready:
                passes += 1
                await trio.lowlevel.checkpoint()
            # 1, 1, 2, 4 and so on: twice as many in each.
            assert passes <= 10
            await trio.sleep(11)


async def test_handlers_that_do_not_wait_call_one_worker_at_a_time(autojump_clock: MockClock) -> None:
    async with open_system(pool(100)) as system:
        for _ in range(20):
            for number in range(100):
                the(system, f"/{number}").tell(Note(text="x"))
            await settle(system)
        assert system.statistics().scheduler.workers <= 2


async def test_cancelling_one_actor_leaves_every_other_one_alone(autojump_clock: MockClock) -> None:
    async with open_system(pool(4)) as system:
        refs = [the(system, f"/{number}") for number in range(4)]
        answers: list[str] = []

        async def ask(number: int) -> None:
            answers.append(await refs[number].ask(Work(seconds=5.0)))

        async with trio.open_nursery() as nursery:
            refs[0].tell(Work(seconds=1_000.0))
            for number in range(1, 4):
                nursery.start_soon(ask, number)
            await settle(system)
            await system.supervisor("/").stop_child("0")
        assert answers == ["done"] * 3


async def test_the_next_actor_on_the_worker_of_a_cancelled_one_is_not_cancelled(autojump_clock: MockClock) -> None:
    async with open_system(pool(2)) as system:
        for _ in range(5):
            system.supervisor("/").start_child(play("victim", shutdown_s=1.0)).tell(Work(seconds=1_000.0))
            await settle(system)
            await system.supervisor("/").stop_child("victim")
            # There is one worker now, the one on which that was cancelled.
            assert await the(system, "/1").ask(Work(seconds=3.0)) == "done"
        assert system.statistics().scheduler.workers <= 2


async def test_a_handler_that_swallows_its_cancellation_ends_and_its_worker_goes_on(
    autojump_clock: MockClock,
) -> None:
    class Deaf(Player):
        async def work(self, message: Work) -> str:
            try:
                await trio.sleep(message.seconds)
            except trio.Cancelled:
                self.diary.append("swallowed")
            return "done"

    diary: list[str] = []
    async with open_system(pool(2)) as system:
        spec = play("deaf", factory=lambda: Deaf(diary), shutdown_s=1.0)
        ref = system.supervisor("/").start_child(spec)
        ref.tell(Work(seconds=1_000.0))
        ref.tell(Note(text="never handled"))
        await settle(system)
        await system.supervisor("/").stop_child("deaf")
        assert diary == ["start /deaf 1", "swallowed", "stop /deaf 1"]
        assert await the(system, "/0").ask(Work(seconds=3.0)) == "done"


async def test_an_error_beside_a_cancellation_is_for_the_supervisor_of_the_one_actor(
    autojump_clock: MockClock,
) -> None:
    class Splitter(Player):
        async def work(self, message: Work) -> str:
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.sleep_forever)
                nursery.start_soon(self.fail_when_cancelled)
            return "done"

        async def fail_when_cancelled(self) -> None:
            try:
                await trio.sleep_forever()
            finally:
                raise ValueError("on the way out")

    async with open_system(pool(2)) as system:
        spec = play("splitter", factory=lambda: Splitter([]), restart=Restart.TEMPORARY, shutdown_s=1.0)
        ref = system.supervisor("/").start_child(spec)
        ref.tell(Work(seconds=0.0))
        ref.tell(Note(text="left"))
        await settle(system)
        await system.supervisor("/").stop_child("splitter")
        assert isinstance(ref.mailbox.cause, ExceptionGroup)
        assert sorted(type(letter.message).__name__ for letter in system.dead_letters.recent()) == ["Note", "Work"]
        assert await the(system, "/0").ask(Work(seconds=3.0)) == "done"


async def test_a_background_failure_ends_a_handler_that_waits_in_a_nursery(autojump_clock: MockClock) -> None:
    class Splitter(Player):
        async def work(self, message: Work) -> str:
            self.context.start_soon(self.fail)
            async with trio.open_nursery() as nursery:
                for _ in range(3):
                    nursery.start_soon(trio.sleep_forever)
            return "done"

        async def fail(self) -> None:
            await trio.sleep(1)
            raise ValueError("background")

    async with open_system(pool(2, factory=lambda: Splitter([]))) as system:
        before = tasks_living()
        with pytest.raises(ActorFailed, match="background"):
            await the(system, "/0").ask(Work(seconds=0.0))
        assert await the(system, "/0").ask(Do(action=lambda player: player.context.incarnation)) == 2
        assert await the(system, "/1").ask(Do(action=lambda player: player.context.incarnation)) == 1
        await trio.sleep(1)
        assert tasks_living() <= before + 1


@pytest.mark.parametrize("error", [KeyboardInterrupt, SystemExit])
async def test_what_ends_the_program_comes_out_of_a_handler_and_stops_everyone_in_order(
    error: type[BaseException], autojump_clock: MockClock
) -> None:
    diary: list[str] = []

    def leave(_: Player) -> None:
        raise error

    children = (play("a", diary), play("b", diary), play("c", diary))
    with pytest.raises(error):  # noqa: PT012 (the block is the system's life)
        async with open_system(SupervisorSpec(name="root", children=children)) as system:
            for name in "abc":
                the(system, f"/{name}").tell(Work(seconds=1.0))
            # Two workers have nothing to do by then, and one waits in a handler.
            await trio.sleep(2)
            the(system, "/c").tell(Work(seconds=1.0))
            await settle(system)
            the(system, "/b").tell(Do(action=leave))
            await trio.sleep_forever()
    assert sorted(diary[3:]) == ["stop /a 1", "stop /b 1", "stop /c 1"]
    assert diary[-1] == "stop /a 1"


class Tick(Message["Flooder", None]):
    pass


class Flooder(Actor["Flooder"]):
    """Answers every message with another one."""

    count = 0
    peer: Flooder

    @handles(Tick)
    async def tick(self, message: Tick) -> None:
        type(self).count += 1
        self.peer.context.ref.tell(message)


async def _count_turns_beside_a_flood(turns: int) -> int:
    """Return how many messages two flooding actors handle while a plain task gets some turns."""

    class Counted(Flooder):
        count = 0

    a, b = Counted(), Counted()
    a.peer, b.peer = b, a
    children = (play("a", factory=lambda: a), play("b", factory=lambda: b))  # type: ignore[arg-type, return-value]
    async with open_system(SupervisorSpec(name="root", children=children)) as system:
        for actor in (a, b):
            for _ in range(10):
                actor.context.ref.tell(Tick())
        for _ in range(turns):
            await trio.lowlevel.checkpoint()
        await system.supervisor("/").stop_child("a")
        return Counted.count


@pytest.mark.parametrize("clock", [None, MockClock(autojump_threshold=0.0)], ids=["real clock", "virtual clock"])
def test_actors_that_flood_each_other_starve_no_other_task(clock: MockClock | None) -> None:
    async def main() -> None:
        with trio.fail_after(10):
            assert await _count_turns_beside_a_flood(100) > 100

    trio.run(main, clock=clock)


async def test_an_actor_that_always_has_mail_starves_no_other_actor(autojump_clock: MockClock) -> None:
    async with open_system(pool(2)) as system:
        for number in range(1_000):
            the(system, "/0").tell(Note(text=str(number)))
        answered = await the(system, "/1").ask(Do(action=lambda _: system.snapshot()[1].handled))
        assert answered <= 2 * BATCH_MAX


async def test_no_actor_is_run_by_two_workers_whatever_happens_to_it(
    autojump_clock: MockClock, monkeypatch: pytest.MonkeyPatch
) -> None:
    inside: set[object] = set()
    from opscore.actors.actor_cell import ActorCell

    turn = ActorCell.turn

    async def watched(cell: ActorCell[Player], *times: float) -> Turn:
        assert cell not in inside, "an actor has one turn at a time"
        inside.add(cell)
        try:
            return await turn(cell, *times)
        finally:
            inside.discard(cell)

    monkeypatch.setattr(ActorCell, "turn", watched)
    async with open_system(pool(5)) as system:
        for number in range(600):
            ref = the(system, f"/{number % 5}")
            if number % 37 == 0:
                ref.tell(Crash())
            elif number % 11 == 0:
                ref.tell(Work(seconds=0.3))
            else:
                ref.tell(Note(text=str(number)))
            if number % 50 == 0:
                await trio.sleep(0.1)
        await trio.sleep(100)
        assert sum(each.depth for each in system.snapshot()) == 0
    assert inside == set()


async def test_starting_and_stopping_many_children_leaves_nothing_behind(autojump_clock: MockClock) -> None:
    async with open_system(SupervisorSpec(name="root")) as system:
        root, before = system.supervisor("/"), tasks_living()
        for number in range(3_000):
            root.start_child(play(f"{number}", restart=Restart.TEMPORARY)).tell(Note(text="x"))
            if number % 10 == 0:
                await trio.testing.wait_all_tasks_blocked()
            await root.stop_child(f"{number}")
        await trio.sleep(100)
        statistics = system.statistics()
        assert (statistics.actors, statistics.scheduler.ready) == (1, 0)
        assert statistics.timers < 1_000
        assert tasks_living() <= before + 2
        gc.collect()
        assert sum(isinstance(each, Player) for each in gc.get_objects()) == 0
