"""The output of `opscore stats`, for people and for programs."""

from pathlib import Path
from typing import Any, Final

import attrs
import click
from rich.console import Console
from rich.table import Table

from opscore.gateway.settings.setting import about
from opscore.runtime.upkeep.survey import Survey

WIDTH: Final = 10_000
"""Characters in a line, more than the longest path has, so that only the terminal breaks a line."""


def document(survey: Survey, path: Path) -> dict[str, Any]:
    """All statistics as JSON values; times in Unix seconds, rates per second."""
    return {"path": str(path), **attrs.asdict(survey)}


def shown(survey: Survey, path: Path, now: float) -> str:
    """A page for the terminal."""
    # Names are not markup: "[/a]" would end a style, and ":smile:" would become a face.
    console = Console(width=WIDTH, record=False, highlight=False, markup=False, emoji=False)
    with console.capture() as captured:
        console.print(_overview(survey, path, now))
        console.print(_tables(survey))
    # Rich fills each line of a table with spaces, up to the table's width.
    return "\n".join(line.rstrip() for line in captured.get().rstrip().splitlines())


def _overview(survey: Survey, path: Path, now: float) -> Table:
    measure = survey.measure
    sizes = (
        f"{about(measure.used_bytes)} used, {about(measure.file_bytes)} in the file, {about(measure.map_bytes)} at most"
    )
    sessions = f"{survey.sessions_unfinished:,} unfinished, {survey.sessions_ended:,} ended"
    grid = Table.grid(padding=(0, 2))
    grid.add_column()
    grid.add_column()
    grid.add_row("store", f"{click.format_filename(path)}, format {survey.format}, commit {survey.sequence:,}")
    grid.add_row("size", sizes + (" (only the reserve is left)" if survey.only_reserve_left else ""))
    grid.add_row("sessions", sessions + _since(survey.oldest_ended_at, now))
    grid.add_row("journal", f"{measure.tables['journal'].rows:,} records" + _since(survey.oldest_record_at, now))
    grid.add_row("records", _rates(survey.record_rates))
    grid.add_row("ended", _rates(survey.ended_rates))
    grid.add_row("commits", _vitals(survey, now))
    grid.add_row("readers", f"{measure.readers}, this one among them")
    return grid


def _rates(rates: dict[int, float]) -> str:
    return ", ".join(f"{rate:,.2f}/s over {span // 60} min" for span, rate in rates.items())


def _vitals(survey: Survey, now: float) -> str:
    vitals = survey.vitals
    if vitals is None or vitals.commit_s_median is None:
        return "no server has noted any yet; one that commits does so once a minute"
    durations = {"median": vitals.commit_s_median, "p99": vitals.commit_s_p99, "longest": vitals.commit_s_max}
    told = ", ".join(f"{name} {1_000 * (seconds or 0.0):.2f} ms" for name, seconds in durations.items())
    counts = f"{vitals.submissions:,} in {vitals.batches:,} syncs, {vitals.refused:,} refused"
    return f"{told}; {counts} (noted {_age(vitals.at, now)} ago)"


def _tables(survey: Survey) -> Table:
    table = Table("table", box=None, pad_edge=False)
    for title in ("rows", "bytes"):
        table.add_column(title, justify="right")
    for name, found in sorted(survey.measure.tables.items(), key=lambda pair: -pair[1].bytes):
        if found.rows:
            table.add_row(name, f"{found.rows:,}", about(found.bytes))
    return table


def _since(time: float | None, now: float) -> str:
    return "" if time is None else f", the oldest {_age(time, now)} ago"


def _age(time: float, now: float) -> str:
    seconds = max(0.0, now - time)
    for length, name in ((86_400, "days"), (3_600, "hours"), (60, "minutes")):
        if seconds >= 2 * length:
            return f"{seconds / length:.0f} {name}"
    return f"{seconds:.0f} seconds"
