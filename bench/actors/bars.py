"""What opscore has to reach beside its peers; computed on the medians of one run."""

from collections.abc import Iterator, Mapping

import attrs

from bench.page import Verdict

Medians = Mapping[str, Mapping[str, float]]
"""The medians by peer and figure."""


@attrs.frozen(kw_only=True)
class Bar:
    """The minimum ratio to the figure of a peer."""

    figure: str
    times: float
    peer: str
    peer_figure: str | None = None
    """If it is not the same."""


@attrs.frozen(kw_only=True)
class Ceiling:
    """The maximum."""

    figure: str
    most: float
    unit: str


BARS = (
    Bar(figure="tell", times=1.2, peer="asyncio.Queue"),
    Bar(figure="send", times=1.2, peer="asyncio.Queue"),
    Bar(figure="tell", times=3, peer="pykka"),
    Bar(figure="ask", times=2, peer="pykka"),
    Bar(figure="ask", times=2, peer="trio"),
    Bar(figure="ask100", times=1.5, peer="asyncio.Queue", peer_figure="ask"),
    Bar(figure="ring100", times=3, peer="pykka"),
    Bar(figure="ring1000", times=3, peer="pykka"),
    Bar(figure="fan_in", times=3, peer="pykka"),
    Bar(figure="fan_in_send", times=3, peer="pykka", peer_figure="fan_in"),
)
CEILINGS = (
    Ceiling(figure="idle_rss_handled", most=4000, unit="bytes"),
    Ceiling(figure="idle_traced_handled", most=4000, unit="bytes"),
    Ceiling(figure="spawn", most=30, unit="µs"),
)


def verdicts(medians: Medians, slice_ms: float) -> Iterator[Verdict]:
    """Compare the medians with every bar; a figure that was not measured neither passes nor fails."""
    ours = medians.get("opscore", {})
    for bar in BARS:
        mine = ours.get(bar.figure)
        theirs = medians.get(bar.peer, {}).get(bar.peer_figure or bar.figure)
        whose = bar.peer if bar.peer_figure is None else f"{bar.peer}'s {bar.peer_figure}"
        ratio = None if mine is None or theirs is None else mine / theirs
        yield Verdict(
            bar=f"{bar.figure} ≥ {bar.times:g} × {whose}",
            measured="not measured" if ratio is None else f"{ratio:.2f} ×",
            passed=None if ratio is None else ratio >= bar.times,
        )
    fairness = (Ceiling(figure=f"fairness_{handler}us_p99", most=slice_ms, unit="ms") for handler in (5, 200))
    for ceiling in (*CEILINGS, *fairness):
        value = ours.get(ceiling.figure)
        yield Verdict(
            bar=f"{ceiling.figure} ≤ {ceiling.most:,g} {ceiling.unit}",
            measured="not measured" if value is None else f"{value:,.4g} {ceiling.unit}",
            passed=None if value is None else value <= ceiling.most,
        )
