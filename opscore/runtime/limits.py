"""Every limit of the runtime, by name.

A host passes its own `Limits`; each refusal names the limit that it hit.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import attrs

NESTING_MAX: Final = 100
"""Deeper JSON is not even read: Python's reader and writer recurse."""

QUIET_S_MIN: Final = 0.5
_LEAST: Final[Mapping[str, float]] = {"items_at_once": 1, "replays_max": 1, "schedule_late_s": 1}
"""What may not be 0, because that would be no limit but an end of everything that it bounds."""
_IN_ROWS: Final = frozenset({"lease_s", "timeout_s"})
"""What becomes times in rows, which are JSON: that knows no infinity, and such a row could not be read again."""


@attrs.frozen(kw_only=True)
class DispatchLimit:
    """What is given out at most of one capability, or of one workflow; nothing is no limit.

    Raises:
        ValueError: a number is below 1, or no whole one; the interval takes no time.
    """

    at_once: int | None = None
    """Attempts that are out at the same time."""
    per_interval: int | None = None
    """Attempts that begin within any `interval_s` seconds."""
    interval_s: float = 60.0

    def __attrs_post_init__(self) -> None:
        for name in ("at_once", "per_interval"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name}: expected a whole number from 1 on, or None for no limit, found {value!r}")
        if not _is_number(self.interval_s) or not 0 < self.interval_s < math.inf:
            raise ValueError(f"interval_s: expected seconds above 0, found {self.interval_s!r}")


@attrs.frozen(kw_only=True)
class Limits:
    """What one node admits, keeps and waits for.

    Raises:
        ValueError: a value is below 0, or of another kind than its field, or without end where rows keep it;
            `items_at_once`, `replays_max` or `schedule_late_s` is below 1.
    """

    id_bytes_max: int = 128
    capabilities_max: int = 1_000
    """Of one agent; each is a line in an index."""
    value_bytes_max: int = 256 * 1024
    """A payload or a result, as JSON."""
    progress_bytes_max: int = 4 * 1024
    """What a heartbeat says of how far its task is, as JSON: it is written again with every heartbeat."""
    nesting_max: int = NESTING_MAX
    """How deep lists and objects may stand within one another, in a payload, a result or a workflow document."""
    tasks_max: int = 1_000
    document_values_max: int = 50_000
    """Values in a workflow document: every string, number, list and object counts one."""
    items_max: int = 10_000
    """Items of the list that a task goes through."""
    items_at_once: int = 100
    """How many of them are done at once, where the task does not say."""
    expression_characters_max: int = 32_768
    """Of all the expressions in a workflow document: reading them takes a few microseconds a character."""
    runs_depth_max: int = 16
    """How many runs may stand above one another, each waiting for the next."""
    runs_below_max: int = 10_000
    """Unfinished runs that one which was triggered may have begun, itself or through others; more of them fail."""
    labels_max: int = 20
    """Of one run; each is a line in an index."""
    label_name_bytes_max: int = 64
    label_value_bytes_max: int = 256
    business_key_bytes_max: int = 256
    signals_max: int = 1_000
    """Signals of one run, waiting or taken."""
    replays_max: int = 100
    """Dead letters whose runs one call tries again."""
    sessions_open_max: int = 100_000
    """Unfinished sessions; the next trigger is refused until one ends."""
    schedules_max: int = 10_000
    schedule_late_s: float = 60.0
    """How late a due time of a schedule may start its run and not count as missed."""
    schedule_missed_max: int = 100
    """How many missed due times of one schedule start runs, when it asks for all of them; the newest count."""
    lease_s: float = 900.0
    timeout_s: float = 3_600.0
    unknown_outcome_lease_s: float = 60.0
    """What is left of a lease when a push broke after it was sent."""
    claim_wait_s_max: float = 60.0
    claim_grace_s: float = 10.0
    """How long a leased task waits for the claimer that went away meanwhile."""
    dispatch_attempts_max: int = 10
    """Attempts in a row that end undelivered or lost before the task spends a retry."""
    line_window: int = 1_000
    """Waiting tasks of one line, such as those of a capability, that the dispatcher reads at a time; it keeps twice as
    many in mind at most, and those that wait before a closed gate."""
    capability_limits: Mapping[str, DispatchLimit] = attrs.field(factory=dict)
    """By capability; agents that are busy with what was taken back from them count as well."""
    workflow_limits: Mapping[str, DispatchLimit] = attrs.field(factory=dict)
    """By the id of the workflow."""
    clock_ahead_s_max: float = 30.0
    """How far in the future an agent's timestamp may lie; beyond, it is clamped."""
    passivate_s: float = 30.0
    """How long the actor of an agent or a run with no attempt open stays in memory while nothing is said to it."""
    passivate_beyond: int = 10_000
    """Actors of runs; while there are more, that of a run with no attempt open does not stay at all."""
    close_grace_s: float = 5.0
    """How long deliveries and local functions that are under way may take to end when the node closes."""
    idempotency_keep_s: float = 7 * 86_400.0
    """How long past its session's end a key gets the same answer; the session is kept as long."""
    sessions_keep_s: float = 30 * 86_400.0
    """How long a finished session is kept; 0 keeps it for good."""
    sessions_ended_max: int = 1_000_000
    """Finished sessions beyond which the oldest go; 0 is no limit."""
    records_keep_s: float = 30 * 86_400.0
    """How long a journal record is kept; 0 keeps it for good."""
    records_max: int = 10_000_000
    """Journal records beyond which the oldest go; 0 is no limit."""
    signature_keep_s: float = 600.0
    agent_ttl_s: float = 0.0
    """An agent silent for longer is given no work; 0 turns this off."""

    @property
    def quiet_s(self) -> float:
        """How long an actor that is needed yet rests until it looks again; not at once where `passivate_s` is 0."""
        return max(self.passivate_s, QUIET_S_MIN)

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(type(self)):
            least, finite = _LEAST.get(field.name, 0), field.name in _IN_ROWS
            wanted = _wrong(getattr(self, field.name), field.default, least=least, finite=finite)
            if wanted is not None:
                raise ValueError(f"{field.name}: expected {wanted}, found {getattr(self, field.name)!r}")


def _wrong(value: Any, default: Any, *, least: float, finite: bool) -> str | None:
    """What a limit should be, where it is not."""
    if isinstance(default, int):
        return None if type(value) is int and value >= least else f"a whole number from {least} on"
    if isinstance(default, float):
        fits = _is_number(value) and value >= least and not (finite and math.isinf(value))
        return None if fits else f"a {'finite ' if finite else ''}number from {least} on"
    are_limits = isinstance(value, Mapping) and all(isinstance(each, DispatchLimit) for each in value.values())
    return None if are_limits else "a DispatchLimit for each name"


def _is_number(value: Any) -> bool:
    try:
        return type(value) in (int, float) and not math.isnan(value)
    except OverflowError:
        # A whole number that no time is counted in.
        return False
