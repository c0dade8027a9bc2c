"""The settings of Python's garbage collector, in a process that belongs to opscore."""

import gc
from typing import Final

COLLECT_AFTER: Final = (100_000, 20, 100)
"""The thresholds of `gc.set_threshold`: the number of new objects, and how often older ones are visited."""


def collect_seldom() -> None:
    """Exclude imported objects from garbage collection, and visit the rest less often.

    A node keeps its objects for long and makes almost no reference cycles. With its usual thresholds Python would spend
    a tenth of the processor's time on looking for cycles, and half of it with ten thousand agents at work.
    """
    gc.collect()
    gc.freeze()
    gc.set_threshold(*COLLECT_AFTER)
