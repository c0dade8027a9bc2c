# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
import pytest
import trio
from trio.testing import MockClock

from opscore.actors import ActorStopped, Restart, SupervisorSpec, Terminated, open_system
from opscore.actors.testkit import Probe, ProbeFailed
from tests.actors.cast import AskOn, Leave, Note, Recall, play, the

TREE = SupervisorSpec(name="root", children=(play("a", restart=Restart.TRANSIENT),))


async def test_a_probe_reads_what_actors_tell_it_in_order(autojump_clock: MockClock) -> None:
    async with open_system(TREE) as system:
        probe = Probe(system)
        for text in "ab":
            probe.ref.tell(Note(text=text))
        assert await probe.expect(Note) == Note(text="a")
        assert await probe.expect(Note) == Note(text="b")


async def test_a_probe_waits_for_a_message_as_long_as_it_is_told(autojump_clock: MockClock) -> None:
    async with open_system(TREE) as system, trio.open_nursery() as nursery:
        probe = Probe(system)

        async def tell_later() -> None:
            await trio.sleep(5)
            probe.ref.tell(Note(text="late"))

        nursery.start_soon(tell_later)
        with pytest.raises(ProbeFailed, match="expected Note within 3 s, and nothing came"):
            await probe.expect(Note)
        assert await probe.expect(Note, within_s=3.0) == Note(text="late")


async def test_a_message_of_another_type_fails_the_test_and_is_named(autojump_clock: MockClock) -> None:
    async with open_system(TREE) as system:
        probe = Probe(system)
        probe.ref.tell(Note(text="a"))
        with pytest.raises(ProbeFailed, match=r"expected Recall, and Note\(text='a'\) came"):
            await probe.expect(Recall)


async def test_fishing_leaves_other_messages_out_and_names_them_when_it_catches_nothing(
    autojump_clock: MockClock,
) -> None:
    async with open_system(TREE) as system:
        probe = Probe(system)
        probe.ref.tell(Note(text="a"))
        probe.ref.tell(Recall())
        assert await probe.fish_for(Recall) == Recall()
        probe.ref.tell(Note(text="b"))
        start = trio.current_time()
        with pytest.raises(ProbeFailed, match=r"fished for Recall for 2 s, and got Note\(text='b'\)"):
            await probe.fish_for(Recall, within_s=2.0)
        assert trio.current_time() - start == pytest.approx(2.0)


async def test_expecting_nothing_waits_and_fails_on_anything(autojump_clock: MockClock) -> None:
    async with open_system(TREE) as system:
        probe = Probe(system)
        start = trio.current_time()
        await probe.expect_nothing(for_s=60.0)
        assert trio.current_time() - start == pytest.approx(60.0)
        probe.ref.tell(Note(text="a"))
        with pytest.raises(ProbeFailed, match="expected nothing"):
            await probe.expect_nothing()


async def test_an_actor_that_asks_a_probe_gets_what_the_test_replies(autojump_clock: MockClock) -> None:
    async with open_system(TREE) as system, trio.open_nursery() as nursery:
        probe, answers = Probe(system), list[str]()

        async def ask() -> None:
            answers.append(await the(system, "/a").ask(AskOn(path=(probe.ref,))))

        nursery.start_soon(ask)
        await probe.expect(AskOn)
        probe.reply("from the probe")
        await trio.sleep(1)
        assert answers == ["from the probe"]
        with pytest.raises(ProbeFailed, match="waits for no reply"):
            probe.reply("again")


async def test_a_probe_can_answer_with_an_error(autojump_clock: MockClock) -> None:
    async with open_system(TREE) as system, trio.open_nursery() as nursery:
        probe = Probe(system)

        async def ask() -> None:
            with pytest.raises(LookupError):
                await probe.ref.ask(Recall())

        nursery.start_soon(ask)
        await probe.expect(Recall)
        probe.fail(LookupError("nobody"))


async def test_a_told_message_waits_for_no_reply(autojump_clock: MockClock) -> None:
    async with open_system(TREE) as system:
        probe = Probe(system)
        probe.ref.tell(Note(text="a"))
        await probe.expect(Note)
        with pytest.raises(ProbeFailed, match="waits for no reply"):
            probe.fail(ActorStopped("/a"))


async def test_a_probe_watches(autojump_clock: MockClock) -> None:
    async with open_system(TREE) as system:
        probe, ref = Probe(system), the(system, "/a")
        probe.watch(ref)
        await probe.expect_nothing()
        await ref.ask(Leave())
        assert await probe.expect(Terminated) == Terminated(actor="/a")
