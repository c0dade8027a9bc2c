"""The row with measurements of the node itself."""

import attrs


@attrs.frozen(kw_only=True)
class Vitals:
    """Measurements of a running node's commits, stored once a minute; durations are those of its newest commits."""

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
