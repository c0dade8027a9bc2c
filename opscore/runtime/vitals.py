"""The row of how the node itself fares."""

import attrs


@attrs.frozen(kw_only=True)
class Vitals:
    """How the commits of a running node fare, as it notes once a minute; durations are of its newest commits."""

    name: str = "node"
    at: float
    started_at: float
    batches: int
    submissions: int
    refused: int
    in_line: int
    commit_s_median: float | None
    commit_s_p99: float | None
    commit_s_max: float | None
