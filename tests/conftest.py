"""What every process that runs tests needs."""

import os
import signal
from collections.abc import Iterator
from types import FrameType

import pytest


def pytest_xdist_auto_num_workers() -> int:
    """Return the number of processes: one more than cores, because some tests wait for servers and for real time."""
    return (os.cpu_count() or 1) + 1


@pytest.fixture(scope="session", autouse=True)
def signals_that_arrive() -> Iterator[None]:
    """Handle SIGINT and SIGHUP even if whoever started the tests ignores them.

    A script's background jobs ignore SIGINT, and `nohup` ignores SIGHUP. Both are inherited, and a test that sends such
    a signal to itself or to a child would then wait for ever. A handler is not inherited, so the children of this
    process have the default, while a hangup still does not end this process.
    """
    inherited = {number: signal.getsignal(number) for number in (signal.SIGINT, signal.SIGHUP)}
    if inherited[signal.SIGINT] is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)
    if inherited[signal.SIGHUP] is signal.SIG_IGN:
        signal.signal(signal.SIGHUP, _stay)
    yield
    for number, handler in inherited.items():
        signal.signal(number, handler)


def _stay(_number: int, _frame: FrameType | None) -> None:
    """Go on after a hangup."""
