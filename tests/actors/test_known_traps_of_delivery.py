# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""As `test_known_traps`: mistakes with what is on its way when an actor fails or stops, and with saying so."""

import logging
from collections.abc import Awaitable, Callable

import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors.backoff import Backoff
from opscore.actors.errors import ActorFailed, ActorRestarted, ActorStopped, StartFailed, SystemFailed
from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.spec import ChildSpec, Intensity, Strategy, SupervisorSpec
from opscore.actors.system import System, open_system
from tests.actors.subject import (
    FOR_EVER_S,
    Broken,
    Crash,
    Defer,
    Do,
    Note,
    Recall,
    SlowToStart,
    Subject,
    Work,
    child,
    the,
)


def root(
    *children: ChildSpec[Subject] | SupervisorSpec,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: Intensity | None = None,
) -> SupervisorSpec:
    return SupervisorSpec(name="root", strategy=strategy, intensity=intensity, children=children)


# Messages lost between incarnations.


class Unhurried(SlowToStart):
    """Takes two seconds to stop and five to start."""

    async def on_stop(self) -> None:
        await trio.sleep(2)
        await super().on_stop()


@pytest.mark.parametrize("strategy", Strategy)
@pytest.mark.parametrize("failing", ["a", "b"])
async def test_messages_that_come_while_a_child_fails_stops_waits_or_starts_are_handled_in_order(
    strategy: Strategy, failing: str, autojump_clock: MockClock
) -> None:
    diaries: dict[str, list[str]] = {"a": [], "b": []}
    children = (
        child(name, diaries[name], cast=Unhurried, backoff=Backoff(initial_s=7.0, jitter=0.0)) for name in diaries
    )
    async with open_system(root(*children, strategy=strategy)) as system:
        refs = [the(system, f"/{name}") for name in diaries]
        await trio.testing.wait_all_tasks_blocked()
        the(system, f"/{failing}").tell(Crash())
        for number in range(100):
            for ref in refs:
                ref.tell(Note(number=number))
            await trio.sleep(0.5)
        for ref in refs:
            await ref.ask(Recall())
        assert [letter.message for letter in system.dead_letters.recent()] == [Crash()]
    for diary in diaries.values():
        assert [line for line in diary if line.startswith("note")] == [f"note {number}" for number in range(100)]
    assert "start /a 2" in diaries["a"] or failing == "b"


# Asks left hanging.


async def stop_child(system: System) -> None:
    await system.supervisor("/").stop_child("a")


async def leave(system: System) -> None:
    """Leaving the block is the stop."""


async def escalate(system: System) -> None:
    for _ in range(2):
        the(system, "/bad").tell(Crash())
    await trio.sleep(FOR_EVER_S)


ENDS: tuple[Callable[[System], Awaitable[None]], ...] = (stop_child, leave, escalate)


async def ask(ref: Ref[Subject], message: Message[Subject, object], ended: list[tuple[float, object]]) -> None:
    """Ask, and write down when that ended, and how."""
    answer: object
    try:
        answer = await ref.ask(message, timeout_s=FOR_EVER_S)
    except (ActorFailed, ActorRestarted, ActorStopped) as error:
        answer = type(error)
    ended.append((trio.current_time(), answer))


class SlowToReturn(Subject):
    """Does not come up again."""

    async def on_start(self) -> None:
        await super().on_start()
        if self.context.incarnation > 1:
            await trio.sleep(FOR_EVER_S)


async def prepare(ref: Ref[Subject], where: str) -> Message[Subject, object]:
    """Bring an actor to where the ask is to be met by the stop; returns what to ask."""
    if where == "queued":
        ref.tell(Work(seconds=FOR_EVER_S))
    elif where in {"in a backoff", "in a start"}:
        ref.tell(Crash())
    await trio.sleep(1)
    if where == "being handled":
        return Work(seconds=FOR_EVER_S)
    return Defer() if where == "deferred" else Recall()


@pytest.mark.parametrize("end", ENDS, ids=lambda end: end.__name__)
@pytest.mark.parametrize("where", ["queued", "being handled", "deferred", "in a backoff", "in a start"])
async def test_every_ask_ends_with_the_actor_it_waits_for(
    where: str, end: Callable[[System], Awaitable[None]], autojump_clock: MockClock
) -> None:
    wait_s = 1e5 if where == "in a backoff" else 0.0
    backoff = Backoff(initial_s=wait_s, max_s=1e5, jitter=0.0)
    children = (child("a", cast=SlowToReturn, backoff=backoff), child("bad"))
    ended: list[tuple[float, object]] = []
    failed, start = None, 0.0
    async with trio.open_nursery() as nursery:
        try:
            async with open_system(root(*children, intensity=Intensity(restarts_max=1))) as system:
                ref = the(system, "/a")
                question = await prepare(ref, where)
                for _ in range(3):
                    nursery.start_soon(ask, ref, question, ended)
                await trio.sleep(1)
                assert ended == []
                start = trio.current_time()
                await end(system)
                if end is stop_child:
                    # It is not the end of the system that ends the asks.
                    await trio.sleep(20)
        except SystemFailed as error:
            failed = error
    assert (failed is not None) is (end is escalate)
    assert [answer for _, answer in ended] == [ActorStopped] * 3
    assert all(at - start <= 10.0 for at, _ in ended)


@pytest.mark.parametrize("where", ["being handled", "deferred"])
async def test_an_ask_that_an_incarnation_took_with_it_ends_when_it_is_replaced(
    where: str, autojump_clock: MockClock
) -> None:
    ended: list[tuple[float, object]] = []
    spec = root(child("a"), child("b"), strategy=Strategy.ONE_FOR_ALL, intensity=Intensity(restarts_max=1))
    async with open_system(spec) as system, trio.open_nursery() as nursery:
        ref = the(system, "/a")
        nursery.start_soon(ask, ref, await prepare(ref, where), ended)
        await trio.sleep(1)
        start = trio.current_time()
        the(system, "/b").tell(Crash())
        await trio.sleep(20)
        ((at, answer),) = ended
        assert answer is ActorRestarted
        assert at - start <= 10.0


# A crash loop that nobody hears of.


@pytest.mark.parametrize("kind", ["handler", "start", "background"])
async def test_every_crash_of_a_loop_is_in_the_log_with_who_and_why(
    kind: str, autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    async def fail() -> None:
        raise ValueError("boom")

    async def fail_beside(actor: Subject) -> None:
        actor.context.start_soon(fail)

    poison = Do(work=fail_beside) if kind == "background" else Crash()
    subject = child("a", cast=Broken if kind == "start" else Subject, budget=Intensity(restarts_max=5))
    with caplog.at_level(logging.WARNING, "opscore.actors"):
        async with open_system(root(subject)) as system:
            ref = the(system, "/a")
            for _ in range(6):
                ref.tell(poison)
                await trio.sleep(1)
            assert not ref.alive
    told = [record for record in caplog.records if record.levelno >= logging.ERROR and "/a" in record.getMessage()]
    explained = [record for record in told if record.exc_info and isinstance(record.exc_info[1], ValueError)]
    assert len(explained) == 6
    assert len(told) > len(explained), "that it is given up is told as well"


async def test_a_loop_of_starts_that_ends_the_system_is_in_the_log(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    class NeverStarts(Subject):
        async def on_start(self) -> None:
            raise ValueError("boom")

    spec = root(child("a", cast=NeverStarts), intensity=Intensity(restarts_max=3))
    with caplog.at_level(logging.WARNING, "opscore.actors"), pytest.raises(StartFailed, match="/a"):
        async with open_system(spec):
            pytest.fail("entered without its children")
    told = [record for record in caplog.records if record.exc_info and "/a" in record.getMessage()]
    assert len(told) == 4


# Cancellation that a handler swallows.


async def swallow_with_except(actor: Subject) -> None:
    for _ in range(50):
        try:
            await trio.sleep(FOR_EVER_S)
        except:  # noqa: E722 (what people write)
            actor.diary.append("swallowed")


async def swallow_with_base_exception(actor: Subject) -> None:
    for _ in range(50):
        try:
            await trio.sleep(FOR_EVER_S)
        except BaseException:  # noqa: BLE001 (what people write)
            actor.diary.append("swallowed")


async def swallow_and_go_on(actor: Subject) -> None:
    """Goes on for twenty seconds beyond its deadline of five."""
    try:
        await trio.sleep(FOR_EVER_S)
    except BaseException:  # noqa: BLE001 (what people write)
        actor.diary.append("swallowed")
        with trio.CancelScope(shield=True):
            await trio.sleep(20)


async def swallow_beside(actor: Subject) -> None:
    actor.context.start_soon(swallow_with_except, actor)


SWALLOWS = (swallow_with_except, swallow_with_base_exception, swallow_and_go_on, swallow_beside)


@pytest.mark.parametrize("swallow", SWALLOWS, ids=lambda swallow: swallow.__name__)
async def test_who_swallows_cancellation_stops_at_its_deadline_or_is_named_and_everybody_else_stops(
    swallow: Callable[[Subject], Awaitable[None]], autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    diary: list[str] = []
    async with open_system(root(*(child(name, diary) for name in "abc"))) as system:
        stubborn = the(system, "/b")
        stubborn.tell(Do(work=swallow))
        stubborn.tell(Note(number=1))
        await trio.testing.wait_all_tasks_blocked()
        diary.clear()
        start = trio.current_time()
    deadlines: dict[object, float] = {swallow_and_go_on: 25.0, swallow_beside: 0.0}
    assert trio.current_time() - start == pytest.approx(deadlines.get(swallow, 5.0))
    assert "swallowed" in diary
    # Past the deadline of the system itself, ten seconds, nobody waits for their turn.
    stopped = [line for line in diary if line != "swallowed"]
    expected = ["stop /c 1", "stop /b 1", "stop /a 1"]
    assert sorted(stopped) == sorted(expected) if swallow is swallow_and_go_on else stopped == expected
    named = [record for record in caplog.records if record.name == "opscore.actors" and "/b" in record.getMessage()]
    assert bool([record for record in named if "still runs" in record.getMessage()]) is (swallow is swallow_and_go_on)
    assert not stubborn.alive


@pytest.mark.parametrize("swallow", SWALLOWS, ids=lambda swallow: swallow.__name__)
async def test_who_swallows_cancellation_does_not_hold_up_a_group_restart_for_ever(
    swallow: Callable[[Subject], Awaitable[None]], autojump_clock: MockClock
) -> None:
    async with open_system(root(child("a"), child("b"), strategy=Strategy.ONE_FOR_ALL)) as system:
        the(system, "/b").tell(Do(work=swallow))
        await trio.testing.wait_all_tasks_blocked()
        await crash(the(system, "/a"))
        await trio.sleep(30)
        assert [await the(system, path).ask(Recall()) for path in ("/a", "/b")] == [2, 2]


async def crash(ref: Ref[Subject]) -> None:
    with pytest.raises(ActorFailed):
        await ref.ask(Crash())
