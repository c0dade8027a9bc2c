"""What every page of results shares: how a figure is read, whether a bar is passed, where it was measured."""

import os
import platform
import statistics
import subprocess
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Final

import attrs

MARKS: Final = {True: "pass", False: "FAIL", None: "–"}


@attrs.frozen(kw_only=True)
class Figure:
    """What a number means."""

    title: str
    unit: str
    scale: float = 1
    """What a number is multiplied with to have the unit."""
    form: str = "{:,.0f}"

    def shown(self, value: float) -> str:
        return self.form.format(value * self.scale)

    def cell(self, values: Sequence[float] | None) -> str:
        """The median, and how far the rounds lie apart."""
        if not values:
            return "–"
        median = self.shown(statistics.median(values))
        return median if len(values) == 1 else f"{median} ({self.shown(min(values))}–{self.shown(max(values))})"


@attrs.frozen(kw_only=True)
class Verdict:
    bar: str
    measured: str
    passed: bool | None
    """None if it was not measured."""


def bar_rows(verdicts: Iterable[Verdict]) -> Iterator[str]:
    for verdict in verdicts:
        yield f"| {verdict.bar} | {verdict.measured} | {MARKS[verdict.passed]} |"


def commit() -> str:
    def git(*arguments: str) -> str:
        command = ["git", *arguments]
        return subprocess.run(command, cwd=Path(__file__).parent, capture_output=True, text=True, check=True).stdout

    try:
        changed = git("status", "--porcelain", "--untracked-files=no", "../opscore").strip()
        return git("rev-parse", "--short=10", "HEAD").strip() + (" with changes" if changed else "")
    except (OSError, subprocess.CalledProcessError):
        return "unknown"


def machine() -> str:
    """The processor and its kind, to be followed by the cores that were used."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        processor = "an unknown processor"
    else:
        processor = next((line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unnamed")
    return f"{processor}, {platform.machine()}"


def loads(at_start: float) -> str:
    return f"Load average {at_start:.1f} at the start, {os.getloadavg()[0]:.1f} at the end"
