"""One planted bug, and the worlds it is to be found in: `python -m tests.runtime.simulation.mutants.prey NAME N START`."""

import os
import signal
import sys
import time
from types import FrameType

from tests.runtime.simulation.mutants.hunt import HANG_S, IDLE_S, MUTANTS


def _say(worlds: int, invariant: str = "", what: str = "") -> None:
    print(worlds, invariant, " ".join(what.split()), sep="\t", flush=True)


def main() -> None:
    name, worlds, start = sys.argv[1], int(sys.argv[2]), int(sys.argv[3])
    MUTANTS[name].plant()
    from opscore.runtime.simulation import play
    from opscore.runtime.simulation.drawing.scenarios import drawn

    seed = start
    began = looked = time.process_time()

    def hangs(_: int, __: FrameType | None) -> None:
        nonlocal looked
        before, looked = looked, time.process_time()
        if looked - before > IDLE_S and looked - began < HANG_S:
            # It goes on, and only the machine is busy with other things.
            return
        # An exception could be caught by whatever runs at the moment.
        _say(seed - start + 1, "a_world_ends", f"it takes more than {HANG_S:g} s")
        os._exit(0)

    signal.signal(signal.SIGALRM, hangs)
    for seed in range(start, start + worlds):
        signal.setitimer(signal.ITIMER_REAL, HANG_S, HANG_S)
        began = looked = time.process_time()
        try:
            broken = play(drawn(seed)).broken
        except Exception as error:  # noqa: BLE001 (whatever a planted bug does to a world, that shows it)
            _say(seed - start + 1, "a_world_ends", repr(error))
            return
        if broken is not None:
            _say(seed - start + 1, broken.invariant, broken.what)
            return
    _say(worlds)


if __name__ == "__main__":
    main()
