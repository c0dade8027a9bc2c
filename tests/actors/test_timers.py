# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
import logging
import math

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.timers import Timers


async def test_calls_are_made_in_the_order_of_their_deadlines(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    timers, calls = Timers(), list[tuple[str, float]]()
    nursery.start_soon(timers.run)
    start = trio.current_time()

    def note(name: str) -> None:
        calls.append((name, round(trio.current_time() - start, 6)))

    timers.call_later(3.0, lambda: note("late"))
    timers.call_later(1.0, lambda: note("early"))
    await trio.sleep(0.5)
    timers.call_later(0.25, lambda: note("earlier than what was waited for"))
    await trio.sleep(5)
    assert calls == [("earlier than what was waited for", 0.75), ("early", 1.0), ("late", 3.0)]
    nursery.cancel_scope.cancel()


async def test_a_cancelled_timer_is_never_called(autojump_clock: MockClock, nursery: trio.Nursery) -> None:
    timers, calls = Timers(), list[str]()
    nursery.start_soon(timers.run)
    timers.call_later(1.0, lambda: calls.append("kept"))
    timers.call_later(1.0, lambda: calls.append("cancelled")).cancel()
    await trio.sleep(2)
    assert calls == ["kept"]
    nursery.cancel_scope.cancel()


async def test_a_callback_that_raises_is_logged_and_takes_no_other_deadline_with_it(
    autojump_clock: MockClock, nursery: trio.Nursery, caplog: pytest.LogCaptureFixture
) -> None:
    timers, calls = Timers(), list[str]()
    nursery.start_soon(timers.run)

    def fault() -> None:
        raise ValueError("faulty callback")

    timers.call_later(1.0, fault)
    timers.call_later(1.0, lambda: calls.append("after"))
    with caplog.at_level(logging.ERROR, "opscore.actors"):
        await trio.sleep(2)
    assert calls == ["after"]
    assert "faulty callback" in caplog.text
    nursery.cancel_scope.cancel()


async def test_an_infinite_delay_is_never_due_and_one_that_is_no_number_spoils_no_other_deadline(
    autojump_clock: MockClock, nursery: trio.Nursery
) -> None:
    timers, calls = Timers(), list[str]()
    nursery.start_soon(timers.run)
    timers.call_later(math.inf, lambda: calls.append("never"))
    with pytest.raises(ValueError, match="a number of seconds, not nan"):
        timers.call_later(math.nan, lambda: calls.append("nobody knows when"))
    timers.call_later(1.0, lambda: calls.append("after a second"))
    await trio.sleep(2)
    assert calls == ["after a second"]
    nursery.cancel_scope.cancel()


async def test_cancelled_timers_do_not_pile_up() -> None:
    timers = Timers()
    for _ in range(50_000):
        timers.call_later(3_600.0, lambda: None).cancel()
    assert len(timers) < 5_000
