"""The server that is soaked: `opscore serve` itself, with a probe, and with short times where it has no setting.

`python -m tests.soak.server DATA OPTION...` serves as `opscore serve --data DATA OPTION...` does. For each line that it
reads from its standard input it writes one to its standard output: a census of what is in its memory, as JSON.
"""

import functools
import json
import os
import sys
import threading
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from typing import Any, Final

import attrs
import trio

from opscore.gateway import service
from opscore.gateway.commands import cli
from opscore.gateway.settings.config import Settings
from opscore.runtime.limits import Limits
from opscore.runtime.node import Node
from opscore.runtime.upkeep import housekeeping
from tests.soak import leaks
from tests.soak.probe import census, figures, sweep

PASSIVATE_S: Final = 1.0
"""How long an idle actor stays, so that what it leaves behind is seen within a sample or two."""
KEYS_KEEP_S: Final = 10.0
"""How long an idempotency key is kept; with the usual seven days no run with a key would be removed."""
CHORES_EVERY_S: Final = 3.0
"""How often retention removes old rows."""
LEAK_VARIABLE: Final = "SOAK_LEAK"
"""The environment variable that names the planted leak."""


def shortened(limits: Limits) -> Limits:
    """Return the limits with short times for those that the command line can't set."""
    return attrs.evolve(limits, passivate_s=PASSIVATE_S, idempotency_keep_s=KEYS_KEEP_S)


def main(arguments: list[str]) -> None:
    """Serve, and answer requests for a census; end as `opscore serve` does."""
    housekeeping.EVERY_S = CHORES_EVERY_S  # type: ignore[misc]
    node_limits, open_node = service.node_limits, service.open_serving_node
    service.node_limits = lambda settings: shortened(node_limits(settings))
    service.open_serving_node = functools.partial(_probed, open_node)
    leaks.plant(os.environ.pop(LEAK_VARIABLE, ""))
    data, *options = arguments
    cli.main(["serve", "--data", data, *options])


@asynccontextmanager
async def _probed(open_node: Any, settings: Settings) -> AsyncIterator[Node]:
    opened: AbstractAsyncContextManager[Node] = open_node(settings)
    async with opened as node:
        token = trio.lowlevel.current_trio_token()
        threading.Thread(target=_answer, args=(node, token), name="probe", daemon=True).start()
        yield node


def _answer(node: Node, token: trio.lowlevel.TrioToken) -> None:
    # The answers have their own descriptor, so that nothing else on standard output mixes with them.
    with os.fdopen(os.dup(1), "w", encoding="utf-8") as answers:
        for line in sys.stdin:
            whole = line.strip() == "whole"
            if whole:
                trio.from_thread.run_sync(sweep, node, trio_token=token)
            found = census(whole=whole)
            told = trio.from_thread.run_sync(figures, node, trio_token=token)
            found["gauges"] = {**found["gauges"], **told}
            answers.write(json.dumps(found) + "\n")
            answers.flush()


if __name__ == "__main__":
    main(sys.argv[1:])
