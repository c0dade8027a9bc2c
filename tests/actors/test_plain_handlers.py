# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Handlers that are plain functions: a question to an idle actor is answered in its asker's task."""

from __future__ import annotations

import signal
from typing import Any, ClassVar

import attrs
import pytest
import trio
import trio.testing
from trio.testing import MockClock

from opscore.actors import (
    Actor,
    ActorFailed,
    ActorStopped,
    AskTimeout,
    ChildSpec,
    DeadLetterReason,
    MailboxSpec,
    Message,
    Ref,
    Reply,
    Restart,
    SupervisorSpec,
    System,
    handles,
    open_system,
)
from tests.actors.cast import AT_ONCE


class Refused(Exception):
    """A declared error."""


@attrs.frozen(kw_only=True)
class Count(Message["Plain", int]):
    pass


@attrs.frozen(kw_only=True)
class Act(Message["Plain", Any]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (Refused,)
    what: str


@attrs.frozen(kw_only=True)
class Settle(Message["Plain", None]):
    pass


class Plain(Actor["Plain"]):
    def __init__(self) -> None:
        self.count = 0
        self.tasks: set[trio.lowlevel.Task] = set()
        self.deferred: list[Reply[Any]] = []
        self.ready = False

    @handles(Count)
    def add(self, message: Count) -> int:
        self.count += 1
        self.tasks.add(trio.lowlevel.current_task())
        return self.count

    @handles(Act)
    def act(self, message: Act) -> Any:
        if message.what == "raise":
            raise ValueError("boom")
        if message.what == "refuse":
            raise Refused
        if message.what == "interrupt":
            raise KeyboardInterrupt
        if message.what == "be interrupted":
            signal.raise_signal(signal.SIGINT)
            self.count += 1
        if message.what == "defer":
            self.deferred.append(self.context.defer())
            return self.deferred[-1]
        if message.what == "stash and refuse" and not self.ready:
            self.context.stash()
            raise Refused
        if message.what == "stash" and not self.ready:
            return self.context.stash()
        if message.what == "stop":
            self.context.stop()
        if message.what == "tell":
            self.context.ref.tell(Count())
        return {"incarnation": self.context.incarnation, "tasks": self.tasks}.get(message.what, message.what)

    @handles(Settle)
    def settle(self, message: Settle) -> None:
        self.ready = True
        for reply in self.deferred:
            reply.set("later")
        self.context.unstash()


def start(system: System, restart: Restart = Restart.PERMANENT, redeliveries: int = 0) -> Ref[Plain]:
    mailbox = MailboxSpec(redeliveries=redeliveries)
    spec = ChildSpec(name="plain", factory=Plain, restart=restart, backoff=AT_ONCE, mailbox=mailbox)
    return system.supervisor("/").start_child(spec)


ROOT = SupervisorSpec(name="root")


async def test_an_idle_actor_answers_in_its_askers_task(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = start(system)
        await ref.ask(Act(what="warm up"))
        assert await ref.ask(Count()) == 1
        assert await ref.ask(Act(what="tasks")) == {trio.lowlevel.current_task()}
        (snapshot,) = system.snapshot()[1:]
        assert (snapshot.handled, snapshot.current, snapshot.depth) == (3, None, 0)


async def test_a_stream_of_questions_lets_the_rest_of_the_program_have_its_turn(autojump_clock: MockClock) -> None:
    turns = 0

    async def take_turns() -> None:
        nonlocal turns
        while True:
            turns += 1
            await trio.lowlevel.checkpoint()

    async with open_system(ROOT) as system, trio.open_nursery() as nursery:
        ref = start(system)
        await ref.ask(Count())
        nursery.start_soon(take_turns)
        for _ in range(330):
            await ref.ask(Count())
        assert turns >= 10
        nursery.cancel_scope.cancel()


async def test_many_that_ask_once_in_one_pass_of_the_loop_are_all_answered_in_their_own_tasks(
    autojump_clock: MockClock,
) -> None:
    class Asker(Actor[Plain]):
        @handles(Settle)
        async def ask_and_wait(self, message: Settle) -> None:
            await ref.ask(Count())
            await trio.sleep(1.0)

    async with open_system(ROOT) as system:
        ref = start(system)
        await ref.ask(Act(what="warm up"))
        for each in range(200):
            system.supervisor("/").start_child(ChildSpec(name=f"asker-{each}", factory=Asker)).tell(Settle())
        await trio.sleep(0.5)
        assert len(await ref.ask(Act(what="tasks"))) == 200


async def test_a_loop_of_questions_can_be_cancelled(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = start(system)
        await ref.ask(Count())
        with trio.CancelScope() as scope:
            scope.cancel()
            for _ in range(100):
                await ref.ask(Count())
        assert scope.cancelled_caught


async def test_questions_and_messages_keep_their_order(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = start(system)
        for number in range(0, 200, 2):
            ref.tell(Count())
            assert await ref.ask(Count()) == number + 2


async def test_an_error_answers_the_asker_and_the_actor_is_restarted(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = start(system)
        await ref.ask(Count())
        with pytest.raises(ActorFailed, match="boom"):
            await ref.ask(Act(what="raise"))
        assert await ref.ask(Act(what="incarnation")) == 2
        assert [letter.reason for letter in system.dead_letters.recent()] == [DeadLetterReason.FAILED]
        (snapshot,) = system.snapshot()[1:]
        assert (snapshot.failed, str(snapshot.last_error)) == (1, "boom")


async def test_a_declared_error_is_an_answer(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = start(system)
        await ref.ask(Count())
        with pytest.raises(Refused):
            await ref.ask(Act(what="refuse"))
        assert await ref.ask(Act(what="incarnation")) == 1


async def test_what_may_be_redelivered_is_handled_by_the_next_incarnation(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = start(system, redeliveries=2)
        await ref.ask(Count())
        with pytest.raises(ActorFailed, match="boom"):
            await ref.ask(Act(what="raise"))
        assert await ref.ask(Act(what="incarnation")) == 4


async def test_a_deferred_answer_comes_later_and_has_its_deadline(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = start(system)
        await ref.ask(Count())
        with pytest.raises(AskTimeout):
            await ref.ask(Act(what="defer"), timeout_s=2.0)
        answers: list[Any] = []

        async def ask() -> None:
            answers.append(await ref.ask(Act(what="defer")))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask)
            await trio.testing.wait_all_tasks_blocked()
            await ref.ask(Settle())
        assert answers == ["later"]


@pytest.mark.parametrize("what", ["stash", "stash and refuse"])
async def test_a_question_that_was_put_aside_is_answered_when_it_is_handled_again(
    what: str, autojump_clock: MockClock
) -> None:
    answers: list[Any] = []
    async with open_system(ROOT) as system, trio.open_nursery() as nursery:
        ref = start(system)
        await ref.ask(Count())

        async def ask() -> None:
            answers.append(await ref.ask(Act(what=what)))

        nursery.start_soon(ask)
        await trio.sleep(1)
        assert answers == []
        await ref.ask(Settle())
        await trio.sleep(1)
        assert answers == [what]
        assert system.snapshot()[1].handled == 3


async def test_an_actor_that_stops_itself_answers_first_and_is_gone(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = start(system, Restart.TRANSIENT)
        await ref.ask(Count())
        assert await ref.ask(Act(what="stop")) == "stop"
        with pytest.raises(ActorStopped):
            await ref.ask(Count())
        await trio.testing.wait_all_tasks_blocked()
        assert system.ref("/plain") is None


async def test_what_a_plain_handler_tells_its_own_actor_is_handled(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = start(system)
        await ref.ask(Count())
        await ref.ask(Act(what="tell"))
        assert await ref.ask(Count()) == 3


async def test_what_ends_the_program_comes_out_of_a_plain_handler(autojump_clock: MockClock) -> None:
    with pytest.raises(KeyboardInterrupt):  # noqa: PT012 (the block is the system's life)
        async with open_system(ROOT) as system:
            ref = start(system)
            await ref.ask(Count())
            await ref.ask(Act(what="interrupt"))


def test_a_plain_handler_comes_to_its_end_when_ctrl_c_comes_in_its_midst() -> None:
    seen: list[Any] = []

    async def main() -> None:
        async with open_system(ROOT) as system:
            ref = start(system)
            await ref.ask(Count())
            try:
                await ref.ask(Act(what="be interrupted"))
                await trio.sleep_forever()
            finally:
                with trio.CancelScope(shield=True):
                    seen.append(
                        (await ref.ask(Count()), await ref.ask(Act(what="incarnation")), system.dead_letters.total)
                    )

    with pytest.raises(KeyboardInterrupt):
        trio.run(main)
    assert seen == [(3, 1, 0)]
