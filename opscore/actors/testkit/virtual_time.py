"""Virtual time, which passes only when every task waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio
from trio.testing import MockClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ResultT = TypeVar("ResultT")


def run(async_fn: Callable[..., Awaitable[ResultT]], *args: object) -> ResultT:
    """Run an async function under virtual time: whenever every task waits, time jumps to the next deadline.

    With `clock=VirtualClock(seed=...)`, the wall time of `open_system` follows and the jitter of backoffs repeats.

    Args:
        async_fn: The function to run, as for `trio.run`.
        *args: Its arguments.
    """
    return trio.run(async_fn, *args, clock=MockClock(autojump_threshold=0.0))
