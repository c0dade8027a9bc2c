# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
import signal

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.backoff import Backoff
from opscore.actors.clock import VirtualClock
from opscore.actors.errors import ActorFailed, ActorStopped, StartFailed, SystemFailed
from opscore.actors.ref import Ref
from opscore.actors.snapshot import State
from opscore.actors.spec import Intensity, Restart, Strategy, SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.cast import AT_ONCE, Crash, Do, Note, Player, Recall, Work, play, the


class Broken(Player):
    """Never starts."""

    async def on_start(self) -> None:
        await super().on_start()
        raise ValueError("broken")


async def test_children_start_left_to_right_and_stop_right_to_left(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    class Slow(Player):
        async def on_start(self) -> None:
            await trio.sleep(1)
            await super().on_start()

    branch = SupervisorSpec(name="branch", children=(play("b", diary), play("c", diary)))
    children = (play("a", factory=lambda: Slow(diary)), branch, play("d", diary))
    async with open_system(SupervisorSpec(name="root", children=children)):
        assert diary == ["start /a 1", "start /branch/b 1", "start /branch/c 1", "start /d 1"]
    assert diary[4:] == ["stop /d 1", "stop /branch/c 1", "stop /branch/b 1", "stop /a 1"]


async def test_a_child_that_never_starts_is_start_failed_after_the_intensity(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    children = (play("a", diary), play("b", factory=lambda: Broken(diary)))
    with pytest.raises(StartFailed, match="/b could not start: ValueError: broken") as caught:
        async with open_system(SupervisorSpec(name="root", children=children, intensity=Intensity(restarts_max=2))):
            pytest.fail("entered without its children")
    assert caught.value.actor == "/b"
    assert isinstance(caught.value.cause, ValueError)
    assert diary == ["start /a 1", "start /b 1", "start /b 2", "start /b 3", "stop /a 1"]


async def test_a_factory_that_raises_is_a_failed_start(autojump_clock: MockClock) -> None:
    def factory() -> Player:
        raise ValueError("no instance")

    spec = SupervisorSpec(name="root", children=(play("a", factory=factory),), intensity=Intensity(restarts_max=1))
    with pytest.raises(StartFailed, match="no instance"):
        async with open_system(spec):
            pytest.fail("entered without its children")


async def test_a_deep_child_that_never_starts_is_named(autojump_clock: MockClock) -> None:
    branch = SupervisorSpec(
        name="branch",
        children=(play("a", factory=lambda: Broken([])),),
        intensity=Intensity(restarts_max=1),
        backoff=AT_ONCE,
    )
    spec = SupervisorSpec(name="root", children=(branch,), intensity=Intensity(restarts_max=1))
    with pytest.raises(StartFailed) as caught:
        async with open_system(spec):
            pytest.fail("entered without its children")
    assert caught.value.actor == "/branch/a"


async def test_errors_of_the_body_come_out_as_they_are_after_everyone_stopped(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    with pytest.raises(KeyError, match="body"):
        async with open_system(SupervisorSpec(name="root", children=(play("a", diary),))):
            raise KeyError("body")
    assert diary == ["start /a 1", "stop /a 1"]


async def test_cancelling_the_body_stops_everyone_in_order(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    class Slow(Player):
        async def on_stop(self) -> None:
            await trio.sleep(2)
            await super().on_stop()

    children = (play("a", diary), play("b", factory=lambda: Slow(diary)))
    with trio.move_on_after(1) as scope:
        async with open_system(SupervisorSpec(name="root", children=children)):
            await trio.sleep_forever()
    assert scope.cancelled_caught
    assert diary == ["start /a 1", "start /b 1", "stop /b 1", "stop /a 1"]


async def test_cancelling_the_opening_leaves_nobody_behind(autojump_clock: MockClock) -> None:
    diary: list[str] = []

    class Slow(Player):
        async def on_start(self) -> None:
            await super().on_start()
            await trio.sleep(1_000)

    children = (play("a", diary), play("b", factory=lambda: Slow(diary), shutdown_s=1.0))
    with trio.move_on_after(1) as scope:
        async with open_system(SupervisorSpec(name="root", children=children)):
            pytest.fail("entered without its children")
    assert scope.cancelled_caught
    assert diary == ["start /a 1", "start /b 1", "stop /a 1"]


async def test_opening_inside_a_cancelled_scope_starts_nobody(autojump_clock: MockClock) -> None:
    diary: list[str] = []
    with trio.CancelScope() as scope:
        scope.cancel()
        async with open_system(SupervisorSpec(name="root", children=(play("a", diary),))):
            pytest.fail("entered though cancelled")
    assert scope.cancelled_caught
    assert [line for line in diary if line.startswith("start")] == [
        line.replace("stop", "start") for line in diary if line.startswith("stop")
    ]


async def test_a_failed_system_cancels_the_body_and_keeps_its_error_as_context(
    autojump_clock: MockClock,
) -> None:
    diary: list[str] = []
    spec = SupervisorSpec(
        name="root", children=(play("a", diary), play("b", diary)), intensity=Intensity(restarts_max=0)
    )
    with pytest.raises(SystemFailed) as caught:
        async with open_system(spec) as system:
            await the(system, "/a").ask(Crash())
    assert isinstance(caught.value.__context__, ActorFailed)
    assert diary == ["start /a 1", "start /b 1", "stop /a 1", "stop /b 1"]


async def test_nothing_outlives_the_system(autojump_clock: MockClock) -> None:
    refs: list[Ref[Player]] = []
    before = trio.lowlevel.current_statistics().tasks_living
    branch = SupervisorSpec(name="branch")
    async with open_system(SupervisorSpec(name="root", children=(branch, play("a")))) as system:
        refs.append(the(system, "/a"))
        branch_handle = system.supervisor("/branch")
        refs.extend(branch_handle.start_child(play(str(number))) for number in range(50))
        refs[-1].tell(Work(seconds=10_000.0))
    assert trio.lowlevel.current_statistics().tasks_living == before
    assert not any(ref.alive for ref in refs)
    with pytest.raises(ActorStopped):
        await refs[0].ask(Recall())


async def test_an_ask_to_a_sibling_that_has_stopped_already_ends_at_once(autojump_clock: MockClock) -> None:
    asked: list[str] = []

    class Curious(Player):
        async def on_stop(self) -> None:
            with pytest.raises(ActorStopped):
                await sibling[0].ask(Recall())
            asked.append(self.context.name)

    sibling: list[Ref[Player]] = []
    children = (play("a", factory=lambda: Curious([])), play("b"))
    start = trio.current_time()
    async with open_system(SupervisorSpec(name="root", children=children)) as system:
        sibling.append(the(system, "/b"))
    assert asked == ["/a"]
    assert trio.current_time() == start


async def test_actors_are_found_by_their_path(autojump_clock: MockClock) -> None:
    branch = SupervisorSpec(name="branch", children=(play("a"),))
    async with open_system(SupervisorSpec(name="root", children=(branch,)), name="stage") as system:
        assert system.name == "stage"
        ref = the(system, "/branch/a")
        assert ref.name == "/branch/a"
        assert repr(ref) == "<Ref /branch/a>"
        assert system.supervisor("/branch").child("a") is ref
        assert system.supervisor("/branch").name == "/branch"
        for path in ("/nobody", "/branch", "/branch/a/b", "/"):
            assert system.ref(path) is None
        with pytest.raises(LookupError, match="'/nobody' in system 'stage'"):
            system.supervisor("/nobody")


async def test_a_snapshot_shows_every_actor(autojump_clock: MockClock) -> None:
    children = (play("a", backoff=Backoff(initial_s=5.0, jitter=0.0)), play("b"))
    async with open_system(SupervisorSpec(name="root", children=children)) as system:
        a, b = the(system, "/a"), the(system, "/b")
        for text in "xyz":
            b.tell(Note(text=text))
        await b.ask(Recall())
        a.tell(Crash(error=ValueError("why")))
        await trio.sleep(1)
        a.tell(Note(text="waits"))
        root, first, second = system.snapshot()
        assert (root.name, root.state, root.incarnation) == ("/", State.RUNNING, 1)
        assert (first.name, first.state, first.depth, first.failed) == ("/a", State.DOWN, 1, 1)
        assert repr(first.last_error) == "ValueError('why')"
        assert (second.state, second.handled, second.high_water, second.last_error) == (
            State.RUNNING,
            4,
            4,
            None,
        )


async def test_a_keyboard_interrupt_in_an_actor_comes_out_as_one(autojump_clock: MockClock) -> None:
    def interrupt(_: Player) -> None:
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (the block is the system's life)
        async with open_system(SupervisorSpec(name="root", children=(play("a"), play("b")))) as system:
            the(system, "/a").tell(Do(action=interrupt))
            await trio.sleep_forever()


def test_an_interrupt_signal_ends_the_program_in_order() -> None:
    diary: list[str] = []

    async def main() -> None:
        async with open_system(SupervisorSpec(name="root", children=(play("a", diary),))):
            signal.raise_signal(signal.SIGINT)
            await trio.sleep_forever()

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert diary == ["start /a 1", "stop /a 1"]


@pytest.mark.parametrize("seed", range(20))
def test_every_message_is_handled_refused_or_a_dead_letter_whatever_crashes(seed: int) -> None:
    """A seeded storm of tells, asks, crashes, stops and restarts; afterwards each message is accounted for."""
    handled: set[int] = set()

    class Recorder(Player):
        async def note(self, message: Note) -> None:
            handled.add(int(message.text))

    async def main() -> None:
        clock = VirtualClock(seed=seed)
        children = tuple(
            play(
                name,
                factory=lambda: Recorder([]),
                restart=restart,
                backoff=Backoff(initial_s=0.01),
                shutdown_s=0.5,
            )
            for name, restart in zip("abcd", [*Restart, Restart.PERMANENT], strict=True)
        )
        spec = SupervisorSpec(
            name="root",
            strategy=clock.random.choice(list(Strategy)),
            children=children,
            intensity=Intensity(restarts_max=10_000),
        )
        refused: set[int] = set()
        dead: set[int] = set()
        async with open_system(spec, clock=clock) as system:
            refs = [the(system, f"/{name}") for name in "abcd"]
            system.dead_letters.subscribe(lambda letter: dead.update(_number(letter.message)))
            async with trio.open_nursery() as nursery:
                for number in range(400):
                    ref = clock.random.choice(refs)
                    event = clock.random.random()
                    if event < 0.03:
                        ref.tell(Crash())
                    elif event < 0.04:
                        ref.tell(Work(seconds=clock.random.random()))
                    elif event < 0.05:
                        await trio.sleep(clock.random.random() * 0.02)
                    if event < 0.5:
                        nursery.start_soon(_ask, ref, number, refused)
                    else:
                        ref.tell(Note(text=str(number)))
        assert handled | refused | dead == set(range(400))
        assert not handled & (dead | refused)

    trio.run(main, clock=MockClock(autojump_threshold=0.0))


async def _ask(ref: Ref[Player], number: int, refused: set[int]) -> None:
    try:
        await ref.ask(Note(text=str(number)))
    except (ActorFailed, ActorStopped):
        refused.add(number)


def _number(message: object) -> set[int]:
    return {int(message.text)} if isinstance(message, Note) else set()
