"""The report of `opscore simulate`: figures, how long runs take, and what goes wrong."""

import math
from collections.abc import Iterator, Sequence
from typing import Any, Final

import attrs
from rich.console import Console
from rich.table import Table

from opscore.runtime.simulation.campaign import Ending, Figures, Weakness, Wrong, python
from opscore.runtime.simulation.scenario import Scenario

BINS: Final = 12
BAR: Final = 40
TIMELINE_LINES: Final = 60
PERCENTILES: Final = (50, 95, 99)
REASONS_SHOWN: Final = 5
FAULTS_SHOWN: Final = 6
WIDE: Final = 20.0
"""The ratio of the longest to the shortest run from which the chart's steps are factors instead of differences."""
VIRTUAL_TIME: Final = (
    "Times are virtual: the clock of a simulated world jumps over every wait, so that an hour takes\n"
    "milliseconds. They are what runs would take with agents as slow as these, on any machine."
)


@attrs.frozen(kw_only=True)
class Smallest:
    """The smallest scenario found in which something goes wrong, and what happens in it."""

    scenario: Scenario
    wrong: Wrong
    timeline: Sequence[str]
    done: bool
    """Whether it can't be made any smaller."""


@attrs.frozen(kw_only=True)
class Report:
    """Everything that is known, at the end or when somebody interrupts."""

    name: str
    first_seed: int
    planned: int
    """How many worlds were to be played."""
    within_s: float | None
    figures: Figures
    weaknesses: Sequence[Weakness]
    looked: bool
    """Whether each fault was tried alone."""
    smallest: Sequence[Smallest]
    took_s: float
    interrupted: bool


def document(report: Report) -> dict[str, Any]:
    """The whole report as JSON values."""
    figures = report.figures
    return {
        "workflow": report.name,
        "interrupted": report.interrupted,
        "worlds": {"planned": report.planned, "played": figures.worlds, "first_seed": report.first_seed},
        "took_seconds": round(report.took_s, 3),
        "virtual_seconds": round(figures.virtual_s, 3),
        "completion_rate": figures.completion_rate,
        "runs": {ending.name.lower(): figures.endings[ending] for ending in Ending},
        "within_seconds": report.within_s,
        "late": figures.late,
        "run_seconds": {
            **{f"p{percent}": figures.percentile(percent) for percent in PERCENTILES},
            "longest": figures.percentile(100),
        },
        "attempts": figures.attempts,
        "retries": figures.retries,
        "failures": figures.failures,
        "lost": figures.lost,
        "reasons": dict(figures.reasons.most_common()),
        "handlers": dict(figures.handlers.most_common()),
        "faults": dict(figures.faults.most_common()),
        "broken_promises": [{"seed": seed, "what": what} for seed, what in figures.broken],
        "not_survived": [
            {"fault": each.fault, "seed": each.scenario.seed, "why": each.wrong.why} for each in report.weaknesses
        ],
        "smallest": [
            {
                "why": each.wrong.why,
                "python": python(each.scenario, each.wrong, report.within_s),
                "timeline": list(each.timeline),
            }
            for each in report.smallest
        ],
    }


def shown(report: Report) -> str:
    """A page for the terminal."""
    console = Console(width=110, record=False, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(_overview(report))
    overview = "\n".join(line.rstrip() for line in captured.get().splitlines())
    parts = [_headline(report), overview, VIRTUAL_TIME, *_chart(report.figures)]
    parts += [*_reasons(report), *_weaknesses(report)]
    parts += [part for each in report.smallest for part in _smallest(each, report.within_s)]
    return "\n\n".join(parts)


def _headline(report: Report) -> str:
    figures = report.figures
    last = report.first_seed + max(figures.worlds, 1) - 1
    seeds = f"seed {last}" if report.first_seed == last else f"seeds {report.first_seed} to {last}"
    cut = f" of {report.planned}, interrupted" if report.interrupted else ""
    worlds = "1 world" if figures.worlds == 1 else f"{figures.worlds:,} worlds"
    return (
        f"{report.name}: {worlds}{cut} ({seeds}), {figures.virtual_s / 3600:,.1f} hours of virtual time "
        f"in {report.took_s:,.1f} s"
    )


def _overview(report: Report) -> Table:
    figures = report.figures
    grid = Table.grid(padding=(0, 2))
    others = [f"{count:,} {ending}" for ending, count in figures.endings.items() if ending is not Ending.COMPLETED]
    rate = "none was played" if figures.completion_rate is None else _share(figures.completed, figures.runs)
    grid.add_row("runs", ", ".join([f"{figures.completed:,} of {figures.runs:,} completed ({rate})", *others]))
    if report.within_s is not None:
        grid.add_row("in time", f"{figures.late:,} took longer than {report.within_s:,.10g} s")
    if figures.seconds:
        told = [f"p{percent} {seconds(figures.percentile(percent))}" for percent in PERCENTILES]
        grid.add_row("run time", ", ".join([*told, f"longest {seconds(figures.percentile(100))}"]))
    ended = f"{figures.retries:,} failed and were retried, {figures.failures:,} failed for good"
    grid.add_row(
        "attempts", f"{figures.attempts:,}; {ended}, {figures.lost:,} were lost on the way or with their agent"
    )
    common = ", ".join(f"{name} {count:,}" for name, count in figures.faults.most_common(FAULTS_SHOWN))
    more = ", …" if len(figures.faults) > FAULTS_SHOWN else ""
    grid.add_row("faults", f"{figures.faults.total():,} happened" + (f": {common}{more}" if common else ""))
    broken = f"broken in {len(figures.broken):,} worlds" if figures.broken else "kept in every world"
    grid.add_row("promises", f"opscore's own: {broken}")
    return grid


def _share(part: int, whole: int) -> str:
    """A percentage that is 100 % only if the part is the whole."""
    percent = math.floor(1_000 * part / whole) / 10
    return f"{percent:g} %"


def seconds(value: float | None) -> str:
    """A duration as a person reads it, in seconds."""
    if value is None:
        return "?"
    return f"{value:,.0f} s" if value >= 100 else f"{value:.3g} s"  # noqa: PLR2004 (tenths of so many say nothing)


def _chart(figures: Figures) -> Iterator[str]:
    """Draw how many runs took how long."""
    if len(figures.seconds) < 2:  # noqa: PLR2004 (one run is no distribution)
        return
    edges = _edges(figures.seconds[0], figures.seconds[-1])
    counts = [0] * (len(edges) - 1)
    place = 0
    for value in figures.seconds:
        while place < len(counts) - 1 and value > edges[place + 1]:
            place += 1
        counts[place] += 1
    longest = max(counts)
    lines = [
        f"{seconds(low):>10} – {seconds(high):<9} {'█' * math.ceil(BAR * count / longest):<{BAR}} {count:,}"
        for low, high, count in zip(edges, edges[1:], counts, strict=False)
    ]
    yield "How long runs take that complete, in virtual seconds:\n\n" + "\n".join(lines)


def _edges(low: float, high: float) -> list[float]:
    """Where the bars of a chart begin and end: in equal steps, or in equal factors if the range is wide."""
    low = max(low, 0.001)
    if high <= low:
        return [low, low]
    if high / low > WIDE:
        return [low * (high / low) ** (place / BINS) for place in range(BINS)] + [high]
    return [low + (high - low) * place / BINS for place in range(BINS)] + [high]


def _reasons(report: Report) -> Iterator[str]:
    reasons = report.figures.reasons.most_common(REASONS_SHOWN)
    if reasons:
        lines = "\n".join(f"{count:>6,} × {reason}" for reason, count in reasons)
        yield f"Why runs did not complete:\n\n{lines}"
    handlers = report.figures.handlers.most_common(REASONS_SHOWN)
    if handlers:
        lines = "\n".join(f"{count:>6,} × {reason}" for reason, count in handlers)
        yield f"Compensations and failure handlers that failed themselves:\n\n{lines}"
    if report.figures.broken:
        lines = "\n".join(f"  seed {seed}: {what}" for seed, what in report.figures.broken[:REASONS_SHOWN])
        yield f"Promises that opscore broke, whatever the workflow says; please report them:\n\n{lines}"


def _weaknesses(report: Report) -> Iterator[str]:
    found = report.weaknesses
    if any(each.fault is None for each in found):
        yield f"It goes wrong even without faults: {found[0].wrong.why} (seed {found[0].scenario.seed})"
    elif found:
        lines = "\n".join(f"  {each.fault}: {each.wrong.why} (seed {each.scenario.seed})" for each in found)
        yield f"Faults that it does not survive, each alone:\n\n{lines}"
    elif report.looked:
        yield "No single fault was enough in the worlds that were tried: the smallest scenario shows which are needed."


def _smallest(found: Smallest, within_s: float | None) -> Iterator[str]:
    how = "The smallest scenario found" if found.done else "The smallest scenario found before the interruption"
    yield f"{how} in which {found.wrong.why}\n\n{python(found.scenario, found.wrong, within_s).rstrip()}"
    yield "What happens in it:\n\n" + "\n".join(line.rstrip() for line in found.timeline)
