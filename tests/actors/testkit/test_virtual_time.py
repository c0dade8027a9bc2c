import time

import trio

from opscore.actors import SupervisorSpec, open_system
from opscore.actors.testkit import run
from tests.actors.cast import Work, play, the


def test_a_day_of_virtual_time_takes_no_time() -> None:
    async def main(hours: int) -> str:
        async with open_system(SupervisorSpec(name="root", children=(play("a"),))) as system:
            start = trio.current_time()
            answer = await the(system, "/a").ask(Work(seconds=hours * 3_600.0), timeout_s=100_000.0)
            assert trio.current_time() - start >= hours * 3_600.0
            return answer

    began = time.monotonic()
    assert run(main, 24) == "done"
    # Not a measurement: a real day would end the test run first.
    assert time.monotonic() - began < 3_600.0
