# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Mistakes that actor systems are known for: each test fails on an implementation that makes the one it names."""

import itertools

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.backoff import Backoff
from opscore.actors.errors import ActorFailed, MailboxFull
from opscore.actors.mailbox_spec import MailboxSpec, Overflow
from opscore.actors.ref import Ref
from opscore.actors.spec import ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from opscore.actors.system import open_system
from tests.actors.subject import (
    AT_ONCE,
    FOR_EVER_S,
    Crash,
    Do,
    Note,
    Recall,
    SlowToStop,
    Steps,
    Subject,
    Work,
    child,
    the,
)

STEPS_MAX = 400
POOL = 100


def root(
    *children: ChildSpec[Subject] | SupervisorSpec,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: Intensity | None = None,
    shutdown_s: float = 10.0,
) -> SupervisorSpec:
    return SupervisorSpec(name="root", strategy=strategy, intensity=intensity, children=children, shutdown_s=shutdown_s)


async def crash(ref: Ref[Subject]) -> None:
    """Crash an actor and let what follows at once come to rest."""
    with pytest.raises(ActorFailed):
        await ref.ask(Crash())
    await trio.testing.wait_all_tasks_blocked()


# A restart counter that never resets.


@pytest.mark.parametrize("of", ["supervisor", "child"])
async def test_a_child_that_fails_now_and_then_is_restarted_as_often_as_that_happens(
    of: str, autojump_clock: MockClock
) -> None:
    window = Intensity(restarts_max=2, within_s=10.0)
    subject = child("a", budget=window if of == "child" else None)
    async with open_system(root(subject, intensity=window if of == "supervisor" else None)) as system:
        for _ in range(20):
            await trio.sleep(5.0)
            await crash(the(system, "/a"))
        assert await the(system, "/a").ask(Recall()) == 21


async def test_the_backoff_of_a_child_that_ran_long_starts_small_again(autojump_clock: MockClock) -> None:
    subject = child("a", backoff=Backoff(initial_s=1.0, coefficient=10.0, max_s=100.0, jitter=0.0))
    async with open_system(root(subject)) as system:
        for _ in range(5):
            await trio.sleep(100.0)
            await crash(the(system, "/a"))
            start = trio.current_time()
            await the(system, "/a").ask(Recall(), timeout_s=FOR_EVER_S)
            assert trio.current_time() - start == pytest.approx(1.0)


# An exponential backoff that is linear.


async def test_the_wait_between_starts_that_fail_doubles_each_time(autojump_clock: MockClock) -> None:
    times: list[float] = []

    class Timed(Subject):
        async def on_start(self) -> None:
            times.append(trio.current_time())
            if len(times) <= 6:
                raise ValueError("not yet")

    subject = child("a", cast=Timed, backoff=Backoff(initial_s=1.0, coefficient=2.0, max_s=20.0, jitter=0.0))
    async with open_system(root(subject)):
        waits = [after - before for before, after in itertools.pairwise(times)]
    assert waits == pytest.approx([1.0, 2.0, 4.0, 8.0, 16.0, 20.0])


# A full mailbox that kills the sender.


@pytest.mark.parametrize("overflow", Overflow)
async def test_a_sender_survives_the_full_mailbox_of_its_neighbour(
    overflow: Overflow, autojump_clock: MockClock
) -> None:
    refused: list[object] = []

    async def flood(sender: Subject) -> None:
        for number in range(10):
            try:
                slow.tell(Note(number=number))
            except MailboxFull as error:
                refused.append(error.message)

    diary: list[str] = []
    full = child("full", diary, mailbox=MailboxSpec(capacity=2, overflow=overflow))
    async with open_system(root(full, child("sender"))) as system:
        slow, sender = the(system, "/full"), the(system, "/sender")
        slow.tell(Work(seconds=5.0))
        await trio.testing.wait_all_tasks_blocked()
        await sender.ask(Do(work=flood))
        assert await sender.ask(Recall()) == 1
        await trio.sleep(6)
        assert await slow.ask(Recall()) == 1
    lost = range(2, 10) if overflow is Overflow.REJECT else ()
    assert refused == [Note(number=number) for number in lost]
    kept = (8, 9) if overflow is Overflow.DROP_OLDEST else (0, 1)
    assert [line for line in diary if line.startswith("note")] == [f"note {number}" for number in kept]


async def test_what_the_library_itself_sends_to_a_full_mailbox_harms_nobody(autojump_clock: MockClock) -> None:
    async def prepare(actor: Subject) -> None:
        actor.context.watch(other)
        actor.context.tell_after(1.0, Note(number=1))
        actor.context.tell_after(1.0, Note(number=2))
        await trio.sleep(3)

    diary: list[str] = []
    tight = child("tight", diary, mailbox=MailboxSpec(capacity=1))
    async with open_system(root(tight, child("other", restart=Restart.TEMPORARY), child("bystander"))) as system:
        subject, other = the(system, "/tight"), the(system, "/other")
        subject.tell(Do(work=prepare))
        await trio.sleep(2)
        await system.supervisor("/").stop_child("other")
        await trio.sleep(2)
        assert [await the(system, path).ask(Recall()) for path in ("/tight", "/bystander")] == [1, 1]
    assert "heard that /other is gone" in diary


# A shutdown that spins, or that has no end.


@pytest.mark.parametrize("busy", ["on_stop", "handler"])
@pytest.mark.parametrize("of", ["child", "system"])
async def test_waiting_a_hundred_seconds_for_a_child_to_stop_takes_next_to_no_steps(
    busy: str, of: str, autojump_clock: MockClock
) -> None:
    slow = child("slow", cast=SlowToStop if busy == "on_stop" else Subject, shutdown_s=200.0)
    steps = Steps(autojump_clock, STEPS_MAX, 100.0)
    trio.lowlevel.add_instrument(steps)
    async with open_system(root(child("a"), slow, child("b"), shutdown_s=500.0)) as system:
        if busy == "handler":
            the(system, "/slow").tell(Work(seconds=101.0))
        await trio.sleep(1)
        start = trio.current_time()
        if of == "child":
            await system.supervisor("/").stop_child("slow")
            assert trio.current_time() - start == pytest.approx(100.0)
    trio.lowlevel.remove_instrument(steps)
    assert trio.current_time() - start == pytest.approx(100.0)
    assert 0 < steps.count <= STEPS_MAX


@pytest.mark.parametrize("below", ["root", "branch"])
async def test_a_supervisor_stops_within_its_own_deadline_however_many_children_use_up_theirs(
    below: str, autojump_clock: MockClock
) -> None:
    children = tuple(child(str(number), cast=SlowToStop, shutdown_s=5.0) for number in range(30))
    tree, path = root(*children, shutdown_s=10.0), ""
    if below == "branch":
        branch = SupervisorSpec(name="branch", children=children, shutdown_s=10.0)
        tree, path = root(branch, shutdown_s=FOR_EVER_S), "/branch"
    async with open_system(tree) as system:
        for number in range(30):
            the(system, f"{path}/{number}").tell(Work(seconds=FOR_EVER_S))
        await trio.testing.wait_all_tasks_blocked()
        start = trio.current_time()
    # What is cancelled at the deadline of ten seconds has five more for its on_stop, all of it at a time.
    assert 10.0 <= trio.current_time() - start <= 15.0


# A restarted child that nobody finds any more.


async def test_a_restarted_child_is_found_by_its_path_and_by_addresses_taken_before(
    autojump_clock: MockClock,
) -> None:
    subject = child("a", backoff=Backoff(initial_s=5.0, jitter=0.0))
    branch = SupervisorSpec(name="branch", children=(subject,))
    async with open_system(root(branch)) as system:
        before = the(system, "/branch/a")
        for incarnation in range(2, 5):
            await crash(before)
            assert system.ref("/branch/a") is before, "it is found while it waits out its backoff"
            assert before.alive
            assert await before.ask(Recall(), timeout_s=FOR_EVER_S) == incarnation
            assert await the(system, "/branch/a").ask(Recall()) == incarnation
            assert system.supervisor("/branch").child("a") is before


# Dynamic children that a group restart forgets.


@pytest.mark.parametrize("failing", ["a", "x", "y"])
async def test_one_for_all_restarts_dynamic_children_with_the_static_ones_whoever_fails(
    failing: str, autojump_clock: MockClock
) -> None:
    diary: list[str] = []
    async with open_system(root(child("a", diary), strategy=Strategy.ONE_FOR_ALL)) as system:
        for name in ("x", "y"):
            system.supervisor("/").start_child(child(name, diary))
        await trio.testing.wait_all_tasks_blocked()
        diary.clear()
        await crash(the(system, f"/{failing}"))
        others = [name for name in ("y", "x", "a") if name != failing]
        assert diary == [
            f"stop /{failing} 1",
            *(f"stop /{name} 1" for name in others),
            *(f"start /{name} 2" for name in ("a", "x", "y")),
        ]
        assert [await the(system, f"/{name}").ask(Recall()) for name in "axy"] == [2, 2, 2]


# A healthy child taken down by the crash loop of another.


@pytest.mark.parametrize("intensity", [None, Intensity(restarts_max=5, within_s=60.0)])
async def test_one_poisoned_child_of_a_hundred_goes_alone(
    intensity: Intensity | None, autojump_clock: MockClock
) -> None:
    diary: list[str] = []
    gone: list[str] = []
    budget = Intensity(restarts_max=3, within_s=60.0)
    async with open_system(root(intensity=intensity)) as system:
        for number in range(POOL):
            spec = ChildSpec(
                name=str(number),
                factory=lambda: Subject(diary),
                backoff=AT_ONCE,
                budget=budget,
                on_given_up=lambda name, _: gone.append(name),
            )
            system.supervisor("/").start_child(spec)
        poisoned = the(system, "/42")
        for _ in range(10):
            poisoned.tell(Crash())
        await trio.sleep(10)
        assert gone == ["42"]
        assert not poisoned.alive
        answers = [await the(system, f"/{number}").ask(Recall()) for number in range(POOL) if number != 42]
        assert answers == [1] * (POOL - 1)
        assert [line for line in diary if line.startswith("stop")] == [f"stop /42 {count}" for count in range(1, 5)]


# A stale exit that counts against the new incarnation.


@pytest.mark.parametrize("lingers_s", [0.0, 3.0])
@pytest.mark.parametrize("apart_s", [0.0, 1.0])
async def test_the_exit_of_an_incarnation_that_a_group_restart_replaced_does_not_count(
    apart_s: float, lingers_s: float, autojump_clock: MockClock
) -> None:
    class Lingering(Subject):
        async def on_stop(self) -> None:
            await trio.sleep(lingers_s)
            await super().on_stop()

    diary: list[str] = []
    children = (child("a", diary, cast=Lingering), child("b", diary, cast=Lingering))
    window = Intensity(restarts_max=2)
    async with open_system(root(*children, strategy=Strategy.ONE_FOR_ALL, intensity=window)) as system:
        the(system, "/a").tell(Crash())
        if lingers_s:
            await trio.sleep(apart_s)
        the(system, "/b").tell(Crash())
        await trio.sleep(20)
        assert [await the(system, path).ask(Recall()) for path in ("/a", "/b")] == [2, 2]
        assert sorted(diary) == ["start /a 1", "start /a 2", "start /b 1", "start /b 2", "stop /a 1", "stop /b 1"]
        # The next restart is the second, and allowed; had the exit of the other counted, it were the third.
        await crash(the(system, "/b"))
        await trio.sleep(20)
        assert [await the(system, path).ask(Recall()) for path in ("/a", "/b")] == [3, 3]


# A restarted supervisor that goes on counting, or that keeps what it should forget.


async def test_a_restarted_supervisor_counts_failures_anew_and_forgets_its_dynamic_children(
    autojump_clock: MockClock,
) -> None:
    subject = child("a", backoff=Backoff(initial_s=1.0, coefficient=10.0, max_s=1_000.0, jitter=0.0))
    branch = SupervisorSpec(name="branch", children=(subject,), intensity=Intensity(restarts_max=1), backoff=AT_ONCE)
    async with open_system(root(branch)) as system:
        ref = the(system, "/branch/a")
        guest = system.supervisor("/branch").start_child(child("guest"))
        await crash(ref)
        assert await ref.ask(Recall(), timeout_s=FOR_EVER_S) == 2
        assert guest.alive
        await crash(ref)
        assert await ref.ask(Recall()) == 3, "the branch gave up, and was restarted at once"
        assert (guest.alive, system.ref("/branch/guest")) == (False, None)
        start = trio.current_time()
        await crash(ref)
        assert await ref.ask(Recall(), timeout_s=FOR_EVER_S) == 4
        assert trio.current_time() - start == pytest.approx(1.0)


# Two actors of one name at a time.


@pytest.mark.parametrize("strategy", Strategy)
async def test_who_takes_a_name_over_starts_when_the_one_before_is_gone(
    strategy: Strategy, autojump_clock: MockClock
) -> None:
    diary: list[str] = []
    async with open_system(root(strategy=strategy), name="one name") as system, trio.open_nursery() as nursery:
        supervisor = system.supervisor("/")
        spec = child("a", diary, cast=SlowToStop, restart=Restart.TEMPORARY, shutdown_s=200.0)
        before = supervisor.start_child(spec)
        assert await before.ask(Recall()) == 1
        nursery.start_soon(supervisor.stop_child, "a")
        await trio.sleep(1)
        start = trio.current_time()
        after = supervisor.start_child(spec)
        assert after is not before
        assert await after.ask(Recall(), timeout_s=FOR_EVER_S) == 1
        assert trio.current_time() - start == pytest.approx(99.0)
        assert diary == ["start /a 1", "stop /a 1", "start /a 1"]
