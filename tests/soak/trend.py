"""Whether a series of samples grows, or gets worse: pure, and robust against the odd sample."""

import math
import statistics
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import attrs

WARM_UP: Final = 1 / 3
"""How much of a series is left out at its start: what is kept for a while fills up then."""
POINTS_MAX: Final = 200
"""Samples that a slope is taken from; of more, every so many."""
SAMPLES_MIN: Final = 6
"""Fewer say nothing."""


@attrs.frozen(kw_only=True)
class Bound:
    """How much something may grow within the time that is looked at.

    It grows without bound where the whole of its line, from the first sample that counts to the last, rises by more
    than every one of these together allows.
    """

    floor: float
    """As much is noise."""
    share: float = 0.0
    """Of what there is in the middle of the time: as much may come of one burst."""
    per_run: float = 0.0
    """For each run that was done meanwhile: what every run leaves behind is far more."""

    def allowed(self, middle: float, runs: float) -> float:
        """How much may be added."""
        return self.floor + self.share * abs(middle) + self.per_run * runs


@attrs.frozen(kw_only=True)
class Sample:
    """One look: seconds since the beginning, runs done by then, and figures by name."""

    at: float
    runs: float
    figures: Mapping[str, float]


@attrs.frozen(kw_only=True)
class Trend:
    """What became of one figure after the warm-up."""

    name: str
    first: float
    """Where its line begins."""
    last: float
    """Where its line ends."""
    runs: float
    allowed: float

    @property
    def grown(self) -> float:
        """By how much its line rises."""
        return self.last - self.first

    @property
    def is_too_much(self) -> bool:
        """Whether that is more than its bound allows."""
        return self.grown > self.allowed

    def __str__(self) -> str:
        per_run = f", {self.grown / self.runs:.3f} for each run" if self.runs else ""
        return f"{self.name}: from {self.first:,.1f} to {self.last:,.1f}{per_run}; {self.allowed:,.1f} more are allowed"


def after_warm_up(samples: Sequence[Sample]) -> Sequence[Sample]:
    """Those that count."""
    return samples[math.ceil(len(samples) * WARM_UP) :]


def trends(samples: Sequence[Sample], bound_of: Callable[[str], Bound]) -> list[Trend]:
    """The trend of every figure; of too few samples none.

    A figure that a sample does not have was 0 then, as a type is of which there is no instance.
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
    """Where the line through the samples begins and ends, by Theil and Sen: the median of all slopes.

    Up to 29 % of the samples may be anything and the line stays where it is (Sen, 1968).
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
    """The value that so large a share of these is not above; of none, 0."""
    return sorted(values)[max(0, math.ceil(share * len(values)) - 1)] if values else 0.0
