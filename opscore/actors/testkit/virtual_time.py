"""Time that passes only when everything waits."""

from __future__ import annotations

from typing import TYPE_CHECKING, TypeVar

import trio
from trio.testing import MockClock

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

ResultT = TypeVar("ResultT")


def run(async_fn: Callable[..., Awaitable[ResultT]], *args: object) -> ResultT:
    """Run an async function under virtual time: whenever everything waits, time jumps to the next deadline.

    Give `open_system` a `VirtualClock(seed=...)` to have wall time follow, and the jitter of backoffs repeat.

    Args:
        async_fn: What to run, as in `trio.run`.
        *args: Its arguments.
    """
    return trio.run(async_fn, *args, clock=MockClock(autojump_threshold=0.0))
