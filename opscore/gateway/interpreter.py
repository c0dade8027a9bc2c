"""Processes of this interpreter that a command begins, which import what it imported itself."""

import os
import sys
from collections.abc import Mapping
from pathlib import Path


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
