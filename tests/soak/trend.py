"""Decides whether a series of samples grows or gets worse, with pure functions that are robust against outliers."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

WARM_UP: Final = 1 / 3
"""The share of a series that is left out at its start, when everything that is kept for a while fills up."""
POINTS_MAX: Final = 200
"""The most samples from which a slope is computed; longer series are thinned out evenly."""
SAMPLES_MIN: Final = 6
"""The fewest samples that give a trend."""


@attrs.frozen(kw_only=True)
class Bound:
    """How much a figure may grow over the series.

    A figure grows too much if its line rises by more, from the first sample that counts to the last, than the sum of
    these allowances.
    """

    floor: float
    """An allowance for noise."""
    share: float = 0.0
    """An allowance for bursts, as a share of the figure in the middle of the series."""
    per_run: float = 0.0
    """An allowance for each run of the series; a real leak leaves far more for each run."""

    def allowed(self, middle: float, runs: float) -> float:
        """Return by how much the figure may grow."""
        return self.floor + self.share * abs(middle) + self.per_run * runs


@attrs.frozen(kw_only=True)
class Sample:
    """One sample: seconds since the beginning, the number of runs done by then, and figures by name."""

    at: float
    runs: float
    figures: Mapping[str, float]


@attrs.frozen(kw_only=True)
class Trend:
    """The trend of one figure after the warm-up."""

    name: str
    first: float
    """Where its line begins."""
    last: float
    """Where its line ends."""
    runs: float
    allowed: float

    @property
    def grown(self) -> float:
        """By how much the line rises."""
        return self.last - self.first

    @property
    def is_too_much(self) -> bool:
        """Whether that is more than its bound allows."""
        return self.grown > self.allowed

    def __str__(self) -> str:
        per_run = f", {self.grown / self.runs:.3f} for each run" if self.runs else ""
        return f"{self.name}: from {self.first:,.1f} to {self.last:,.1f}{per_run}; {self.allowed:,.1f} more are allowed"


def after_warm_up(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Return the samples that count."""
    return samples[math.ceil(len(samples) * WARM_UP) :]


def trends(samples: Sequence[Sample], bound_of: Callable[[str], Bound]) -> list[Trend]:
    """Return the trend of every figure, or none if there are too few samples.

    A figure that is missing from a sample counts as 0, as for a type without instances.
    """
    counted = after_warm_up(samples)
    if len(counted) < SAMPLES_MIN:
        return []
    names = sorted({name for sample in counted for name in sample.figures})
    runs = counted[-1].runs - counted[0].runs
    found = []
    for name in names:
        values = [sample.figures.get(name, 0.0) for sample in counted]
        first, last = line([sample.at for sample in counted], values)
        allowed = bound_of(name).allowed(statistics.median(values), runs)
        found.append(Trend(name=name, first=first, last=last, runs=runs, allowed=allowed))
    return found


def line(times: Sequence[float], values: Sequence[float]) -> tuple[float, float]:
    """Return where the line through the samples begins and ends, by the Theil-Sen estimator: the median of all slopes.

    Up to 29 % of the samples may be arbitrary without affecting the line (Sen, 1968).
    """
    step = math.ceil(len(times) / POINTS_MAX)
    points = list(zip(times[::step], values[::step], strict=True))
    slopes = [
        (later - earlier) / (after - before)
        for number, (before, earlier) in enumerate(points)
        for after, later in points[number + 1 :]
        if after > before
    ]
    slope = statistics.median(slopes) if slopes else 0.0
    offset = statistics.median(value - slope * time for time, value in points)
    return offset + slope * times[0], offset + slope * times[-1]


def quantile(values: Sequence[float], share: float) -> float:
    """Return the value that this share of the values does not exceed; 0 if there are none."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0
