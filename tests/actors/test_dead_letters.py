# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
import logging

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.clock import VirtualClock
from opscore.actors.dead_letters import DeadLetter, DeadLetterReason, DeadLetters

STOPPED = DeadLetterReason.STOPPED


async def test_dead_letters_carry_actor_message_reason_and_wall_time(autojump_clock: MockClock) -> None:
    letters = DeadLetters(VirtualClock(epoch_s=500.0))
    await trio.sleep(2)
    letters.record("/a", "hello", STOPPED)
    (letter,) = letters.recent()
    assert (letter.actor, letter.message, letter.reason) == ("/a", "hello", STOPPED)
    assert letter.at == pytest.approx(502.0)


async def test_only_the_newest_dead_letters_are_kept_but_all_are_counted() -> None:
    letters = DeadLetters(VirtualClock())
    for number in range(1_000):
        letters.record("/a", number, STOPPED)
    assert [letter.message for letter in letters.recent()] == list(range(744, 1_000))
    assert letters.total == 1_000


async def test_subscribers_hear_every_dead_letter_until_they_end_the_subscription() -> None:
    letters, heard = DeadLetters(VirtualClock()), list[DeadLetter]()
    unsubscribe = letters.subscribe(heard.append)
    letters.record("/a", 1, STOPPED)
    unsubscribe()
    unsubscribe()
    letters.record("/a", 2, STOPPED)
    assert [letter.message for letter in heard] == [1]


async def test_a_subscriber_that_raises_harms_nobody(caplog: pytest.LogCaptureFixture) -> None:
    letters, heard = DeadLetters(VirtualClock()), list[DeadLetter]()

    def fault(_: DeadLetter) -> None:
        raise ValueError("faulty subscriber")

    letters.subscribe(fault)
    letters.subscribe(heard.append)
    letters.record("/a", 1, STOPPED)
    assert len(heard) == 1
    assert "faulty subscriber" in caplog.text


async def test_logging_is_throttled_and_says_how_much_it_left_out(
    autojump_clock: MockClock, caplog: pytest.LogCaptureFixture
) -> None:
    letters = DeadLetters(VirtualClock())
    with caplog.at_level(logging.WARNING, "opscore.actors"):
        for number in range(100):
            letters.record("/a", number, STOPPED)
        assert len(caplog.records) == 10
        await trio.sleep(11)
        letters.record("/a", 100, STOPPED)
    assert [record.getMessage() for record in caplog.records[10:]] == [
        "90 more dead letters were not logged",
        "dead letter for /a: int (the actor is gone)",
    ]
