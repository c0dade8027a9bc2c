# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
import time

import pytest
import trio
from trio.testing import MockClock

from opscore.actors.clock import Clock, SystemClock, VirtualClock


async def test_virtual_time_is_the_epoch_plus_what_passed_since_creation(autojump_clock: MockClock) -> None:
    await trio.sleep(5)
    clock: Clock = VirtualClock(epoch_s=1_000.0, seed=1)
    assert clock.now() == pytest.approx(1_000.0)
    await trio.sleep(90)
    assert clock.now() == pytest.approx(1_090.0)


async def test_the_wall_clock_is_set_and_trios_goes_on(autojump_clock: MockClock) -> None:
    clock, began = VirtualClock(epoch_s=1_000.0), trio.current_time()
    clock.shift(-3_600.0)
    await trio.sleep(5)
    assert clock.now() == pytest.approx(-2_595.0)
    assert trio.current_time() - began == pytest.approx(5.0)


async def test_one_seed_gives_one_sequence() -> None:
    first, second, other = VirtualClock(seed=3), VirtualClock(seed=3), VirtualClock(seed=4)
    drawn = first.random.random()
    assert second.random.random() == drawn
    assert other.random.random() != drawn


def test_the_system_clock_tells_the_machines_time() -> None:
    before = time.time()
    clock: Clock = SystemClock()
    assert before <= clock.now() <= time.time()


def test_a_seeded_system_clock_draws_repeatably() -> None:
    assert SystemClock(seed=5).random.random() == SystemClock(seed=5).random.random()
