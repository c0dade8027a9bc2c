"""A host that embeds a runtime keeps nothing of what it has done, however long it lives."""

import asyncio
import logging
from pathlib import Path

import pytest

from tests.soak.bounds import in_caches
from tests.soak.embedded import open_host
from tests.soak.probe import Census, census

ROUNDS = 3
NOISE = 12
"""How many instances and entries of collections may vary from one moment to the next."""


def grown(before: Census, after: Census) -> dict[str, float]:
    """Return what there is more of, without the contents of bounded caches."""
    return {
        name: count - before[part].get(name, 0.0)
        for part in ("types", "held")
        for name, count in after[part].items()
        if count - before[part].get(name, 0.0) > NOISE + in_caches(f": {name}")
    }


def test_nothing_is_kept_of_rounds_of_everything_that_a_host_does(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    # The log is kept until the test is over, and with each error the frames of the function that raised it.
    caplog.set_level(logging.CRITICAL, logger="opscore")

    async def main() -> dict[str, float]:
        async with open_host(tmp_path / "data") as host:
            await host.round()
            await host.rest()
            before = census(whole=True)
            # After these rounds a leak of one object per run exceeds the noise.
            for _ in range(ROUNDS):
                await host.round()
            await host.rest()
            return grown(before, census(whole=True))

    assert asyncio.run(main()) == {}
