"""What all pages of results share: how a figure is read, whether a bar is passed, where it was measured."""

import argparse
import json
import os
import platform
import statistics
import subprocess
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

import attrs

MARKS: Final = {True: "pass", False: "FAIL", None: "–"}


@attrs.frozen(kw_only=True)
class Figure:
    """What a number means."""

    title: str
    unit: str
    scale: float = 1
    """The factor that converts a number to the unit."""
    form: str = "{:,.0f}"

    def shown(self, value: float) -> str:
        return self.form.format(value * self.scale)

    def cell(self, values: Sequence[float] | None) -> str:
        """Return the median and the range of the rounds."""
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


@attrs.frozen(kw_only=True)
class Page(ABC):
    """The report of a run: printed, written as Markdown, and as JSON with the raw figures."""

    HEADER: ClassVar[str]

    raw: dict[str, dict[str, list[float]]]
    """The figures by contender and name, one number per round."""
    rounds: int
    load_at_start: float = attrs.field(factory=lambda: os.getloadavg()[0])

    @abstractmethod
    def conditions(self) -> Iterator[str]: ...

    @abstractmethod
    def table(self) -> Iterator[str]: ...

    @abstractmethod
    def bars(self) -> Iterator[str]: ...

    @abstractmethod
    def surroundings(self) -> Iterator[str]: ...

    @abstractmethod
    def verdicts(self) -> Iterator[Verdict]: ...

    def medians(self) -> dict[str, dict[str, float]]:
        return {
            name: {figure: statistics.median(values) for figure, values in figures.items() if values}
            for name, figures in self.raw.items()
        }

    def lines(self) -> Iterator[str]:
        for part in (self.conditions(), self.table(), self.bars(), self.surroundings()):
            yield ""
            yield from part

    def markdown(self) -> str:
        return "\n".join((self.HEADER.rstrip("\n"), *self.lines())) + "\n"

    def document(self) -> dict[str, Any]:
        return {
            "rounds": self.rounds,
            "surroundings": tuple(self.surroundings()),
            "raw": self.raw,
            "bars": [attrs.asdict(verdict) for verdict in self.verdicts()],
        }

    def publish(self, output: Path | None, raw: Path | None) -> None:
        """Print the report, and write it to the files that were named."""
        print(*self.lines(), sep="\n")
        if output is not None:
            output.write_text(self.markdown(), encoding="utf-8")
        if raw is not None:
            raw.write_text(json.dumps(self.document(), indent=1, ensure_ascii=False) + "\n", encoding="utf-8")


def add_outputs(parser: argparse.ArgumentParser) -> None:
    """The arguments that `Page.publish` takes."""
    parser.add_argument("--output", type=Path, metavar="FILE", help="write the results as a page of markdown")
    parser.add_argument("--json", type=Path, metavar="FILE", help="write the raw figures")
