"""Child processes with this interpreter, which find modules where the command itself found them."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

AGAIN: Final = "OPSCORE_BEGUN_AGAIN"
"""The variable that is set in a process which another one has started to run its command again."""


def running(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module with `python -m`."""
    return [sys.executable, "-m", module, *arguments]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """An environment in which modules are searched where this process searches them, and nowhere else.

    `python -m` searches the current directory first: a `json.py` that somebody put there would run in place of
    Python's own.

    Args:
        base: the other variables.
    """
    path = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
    return {**base, "PYTHONSAFEPATH": "1", "PYTHONPATH": path}


def begun_again() -> int | None:
    """Run the command again, in a process with another id.

    Returns:
        its exit code; None if this is that process already.
    """
    if AGAIN in os.environ:
        return None
    with subprocess.Popen(running("opscore", *sys.argv[1:]), env=environment({**os.environ, AGAIN: "1"})) as child:
        code = child.wait()
    return code if code >= 0 else 128 - code
