"""Python's garbage collector, in a process that is opscore's own."""

import gc
from typing import Final

COLLECT_AFTER: Final = (100_000, 20, 100)
"""It begins after so many new objects, and looks at older ones each so many times."""


def collect_seldom() -> None:
    """Leave what was imported out of garbage collection, and have the rest looked at less often.

    A node keeps what it has for long and makes next to nothing that refers to itself: at its usual pace Python would
    spend a tenth of the processor's time on looking for that, and half of it with ten thousand agents at work.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
