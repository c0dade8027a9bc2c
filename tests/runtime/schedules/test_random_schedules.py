"""Any cron expression, in any zone, on a node that comes and goes: what the clock says is what starts."""

import math
import tempfile
from pathlib import Path
from zoneinfo import ZoneInfo

import trio
from hypothesis import given, settings
from hypothesis import strategies as st
from trio.testing import MockClock

from opscore.runtime.limits import Limits
from opscore.runtime.models import Missed
from tests.runtime.calendar_stage import EMPTY, due_times, jump
from tests.runtime.clock_watching import EXPRESSIONS, HOUR_S, Simple, around_a_change, by_hand
from tests.runtime.world import World

LIMITS = Limits(schedule_missed_max=10_000)

IN_MEMORY = next((path for path in ("/dev/shm",) if Path(path).is_dir()), None)  # noqa: S108 (a directory of its own)
"""Where a sync takes no time, if there is such a place: these are thousands of commits."""

SPANS = st.lists(
    st.tuples(st.floats(0, HOUR_S), st.floats(0, 3 * HOUR_S), st.booleans(), st.integers(0, 9)), max_size=3
)
"""How long the node runs and is away in turns, whether it dies of that, and how far it gets with its last step."""


@settings(deadline=None, max_examples=40)
@given(expression=EXPRESSIONS, place=around_a_change(), spans=SPANS)
def test_every_due_time_starts_one_run_on_a_node_that_comes_and_goes(
    expression: Simple, place: tuple[ZoneInfo, int], spans: list[tuple[float, float, bool, int]]
) -> None:
    zone, since = place

    async def main() -> None:
        with tempfile.TemporaryDirectory(dir=IN_MEMORY) as directory:
            world = World(Path(directory), limits=LIMITS)
            jump(world, since - world.clock.now())
            async with world.node() as node:
                await node.save_definition(EMPTY)
                made = await node.create_schedule(
                    "w", schedule_id="s", cron=expression.text, time_zone=zone.key, missed=Missed.ALL
                )
            for runs_s, away_s, dies, steps in spans:
                async with world.node():
                    await trio.sleep(runs_s)
                    for _ in range(steps):
                        await trio.lowlevel.checkpoint()
                    if dies:
                        world.sever()
                jump(world, away_s)
            async with world.node():
                # Nothing is due at half a minute.
                await trio.sleep(HOUR_S + 30 - world.clock.now() % 60)
                until = math.floor(world.clock.now())
            found = due_times(world)
            assert found == sorted(set(found))
            assert found == list(by_hand(expression, zone, math.floor(made.created_at), until))

    trio.run(main, clock=MockClock(autojump_threshold=0))
