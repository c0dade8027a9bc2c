"""Takes samples of a soaked server: from the operating system, its memory, its store and its clients."""

import time
from typing import Final

from opscore.runtime.errors import StoreError
from opscore.runtime.journal.opening import open_reader
from opscore.runtime.upkeep.survey import surveyed
from tests.soak.bounds import IGNORED
from tests.soak.notes import Notes
from tests.soak.process import Soaked
from tests.soak.trend import Sample, quantile

MAP_BYTES: Final = 512 * 2**20
TIMED: Final = ("a trigger", "a run")


class Looker:
    """Takes samples.

    Args:
        server: the server to sample.
        notes: what its clients have seen.
    """

    def __init__(self, server: Soaked, notes: Notes) -> None:
        self._server = server
        self._notes = notes
        self._looked_at = time.monotonic()

    def sample(self, at: float) -> Sample | None:
        """Take a sample of everything; None if the server is gone meanwhile."""
        outside, census = self._server.outside(), self._server.census()
        if not outside or not census:
            return None
        since, self._looked_at = self._looked_at, time.monotonic()
        figures = {**outside, **_flat(census), **self._stored()}
        for what in TIMED:
            seconds = self._notes.latencies(what, since=since)
            if seconds:
                figures[f"{what} p50"], figures[f"{what} p99"] = quantile(seconds, 0.5), quantile(seconds, 0.99)
        shown = {name: value for name, value in figures.items() if name not in IGNORED}
        return Sample(at=at, runs=float(self._notes.counted()["runs"]), figures=shown)

    def rest(self) -> dict[str, float]:
        """Return the figures of the server at rest, without garbage."""
        return {**self._server.outside(), **_flat(self._server.census(whole=True))}

    def _stored(self) -> dict[str, float]:
        try:
            with open_reader(self._server.data, map_bytes=MAP_BYTES) as reader:
                survey = surveyed(reader, time.time())
        except StoreError:
            return {}
        rows = {f"rows: {name}": float(found.rows) for name, found in survey.measure.tables.items()}
        return {
            **rows,
            "store used": float(survey.measure.used_bytes),
            "unfinished runs": float(survey.sessions_unfinished),
        }


def _flat(census: dict[str, dict[str, float]]) -> dict[str, float]:
    named = {f"instances: {name}": count for name, count in census.get("types", {}).items()}
    held = {f"held: {name}": count for name, count in census.get("held", {}).items()}
    return {**census.get("gauges", {}), **named, **held}
