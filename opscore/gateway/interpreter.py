"""Processes of this interpreter that a command begins, which import what it imported itself."""

import os
import subprocess
import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Final

AGAIN: Final = "OPSCORE_BEGUN_AGAIN"
"""The variable that a command finds which another one has begun in its place."""


def running(module: str, *arguments: str) -> list[str]:
    """The command line that runs a module, as `python -m` does."""
    return [sys.executable, "-m", module, *arguments]


def environment(base: Mapping[str, str]) -> dict[str, str]:
    """An environment in which modules are looked for where this process looks, and nowhere else.

    `python -m` looks first into the directory where it is begun: a `json.py` that lies there, whoever put it there,
    would be run in place of Python's own.

    Args:
        base: what else is in it.
    """
    path = os.pathsep.join(each or str(Path.cwd()) for each in sys.path)
    return {**base, "PYTHONSAFEPATH": "1", "PYTHONPATH": path}


def begun_again() -> int | None:
    """Have the command done by a process of another number.

    Returns:
        its exit code; nothing where this is that process already.
    """
    if AGAIN in os.environ:
        return None
    with subprocess.Popen(running("opscore", *sys.argv[1:]), env=environment({**os.environ, AGAIN: "1"})) as child:
        code = child.wait()
    return code if code >= 0 else 128 - code
