"""The sizes at which processes of `size.py` measure dispatch, and how the figures are drawn."""

import importlib.util
import json
import math
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from bench.page import Figure
from bench.tasks.protocol import ROOT

TIMEOUT_S: Final = 900.0
SALT: Final = "opscore"
"""Seed of the ids in a drawing, so that the same figures give the same file."""


@attrs.frozen(kw_only=True)
class Size:
    """A number of agents and of waiting tasks."""

    agents: int
    tasks: int

    @property
    def name(self) -> str:
        return f"{self.agents:,} agents, {self.tasks:,} tasks"


SMALLEST: Final = Size(agents=100, tasks=1_000)
LARGEST: Final = Size(agents=10_000, tasks=100_000)
TASKS_MIN: Final = 100
"""With a tenth as many agents, each of the ten capabilities has one."""
SIZES: Final = (SMALLEST, Size(agents=1_000, tasks=10_000), LARGEST)

FIGURES: Final[Mapping[str, Figure]] = {
    "in_line": Figure(title="book: CPU of a task put in line", unit="µs", scale=1_000_000, form="{:,.1f}"),
    "decision": Figure(
        title="book: CPU of a decision, a task matched and its offer closed", unit="µs", scale=1_000_000, form="{:,.1f}"
    ),
    "trigger_cpu": Figure(title="runtime: CPU a trigger", unit="ms", scale=1_000, form="{:,.2f}"),
    "trigger_rate": Figure(title="runtime: triggers, 1,000 at once", unit="1/s"),
    "task_cpu": Figure(title="runtime: CPU a task", unit="ms", scale=1_000, form="{:,.2f}"),
    "task_rate": Figure(title="runtime: tasks, 100 agents between two", unit="1/s"),
    "done": Figure(title="runtime: tasks done in the time", unit=""),
    "anonymous": Figure(title="runtime: memory, anonymous", unit="MB", scale=1e-6),
    "resident": Figure(title="runtime: memory, resident", unit="MB", scale=1e-6),
}
LINES: Final = {"decision": "MatchBook alone: a decision", "task_cpu": "the whole runtime: a task"}
"""What is drawn."""
BAR_CELLS: Final = 60

Figures = dict[str, float]


def measured(what: str, size: Size, seconds: float, folder: Path) -> Figures:
    """Measure in a fresh process, in a fresh directory inside the folder.

    Args:
        what: "book" or "runtime".
    """
    with tempfile.TemporaryDirectory(dir=folder, prefix="opscore-size-") as directory:
        arguments = (what, str(size.agents), str(size.tasks), str(seconds), directory)
        command = [sys.executable, "-m", "bench.tasks.size", *arguments]
        answer = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, timeout=TIMEOUT_S)
    if answer.returncode != 0:
        raise RuntimeError(f"{what} with {size.name} failed:\n{answer.stderr}")
    figures: Figures = json.loads(answer.stdout.splitlines()[-1])
    return figures


Curves = dict[str, list[tuple[int, float]]]
"""Points of tasks and microseconds, by the title of the line that is drawn."""


def curves(sizes: Sequence[Size], medians: Mapping[str, Mapping[str, float]]) -> Curves:
    found: Curves = {}
    for figure, title in LINES.items():
        points = [
            (size.tasks, medians[size.name][figure] * 1e6) for size in sizes if figure in medians.get(size.name, {})
        ]
        if points:
            found[title] = points
    return found


def missing() -> str | None:
    """Return the package that drawing needs, if it is not installed."""
    return None if importlib.util.find_spec("matplotlib") else "matplotlib"


def drawn(lines: Curves, path: Path) -> None:
    """Draw cost against size into an SVG."""
    import matplotlib as mpl
    from matplotlib.figure import Figure as Drawing

    with mpl.rc_context({"svg.hashsalt": SALT, "svg.fonttype": "none"}):
        drawing = Drawing(figsize=(7, 4), layout="constrained")
        axes: Any = drawing.add_subplot(xscale="log", yscale="log")
        for title, points in lines.items():
            axes.plot(*zip(*points, strict=True), marker="o", label=title)
            for tasks, cost in points:
                axes.annotate(f"{cost:,.0f} µs", (tasks, cost), xytext=(0, 7), textcoords="offset points", ha="center")
        axes.set_xlabel("tasks that wait, with a tenth as many agents")
        axes.set_ylabel("µs")
        axes.set_ylim(1, 10 ** (math.ceil(math.log10(max(cost for line in lines.values() for _, cost in line))) + 0.5))
        axes.grid(visible=True, which="major", alpha=0.3)
        axes.legend(loc="center left")
        drawing.savefig(path, format="svg", metadata={"Date": None})


def as_text(lines: Curves) -> Iterator[str]:
    """Draw the same for a terminal: for each line, a bar per size whose length is the cost."""
    for title, points in lines.items():
        yield f"{title}, µs; by tasks that wait"
        largest = max(cost for _, cost in points)
        for tasks, cost in points:
            yield f"{tasks:>9,} {'█' * max(1, round(BAR_CELLS * cost / largest))} {cost:,.1f}"
