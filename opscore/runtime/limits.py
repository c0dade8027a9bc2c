"""Every limit of the runtime, by name.

A host passes its own `Limits`; a refusal names the limit that was hit.
"""

import math
from collections.abc import Mapping
from typing import Any, Final

import attrs

NESTING_MAX: Final = 100
"""JSON that nests deeper is not even read, because Python's reader and writer recurse."""

QUIET_S_MIN: Final = 0.5
_LEAST: Final[Mapping[str, float]] = {"items_at_once": 1, "replays_max": 1, "schedule_late_s": 1}
"""The least value of limits that may not be 0, because 0 would stop everything that they bound."""
_IN_ROWS: Final = frozenset({"lease_s", "timeout_s"})
"""Limits that have to be finite, because times in rows are computed from them, and JSON has no infinity."""


@attrs.frozen(kw_only=True)
class DispatchLimit:
    """How many attempts of one capability, or of one workflow, may be open or begin; None means no limit.

    Raises:
        ValueError: a number is not a whole number from 1 on, or the interval is not above 0 and finite.
    """

    at_once: int | None = None
    """Attempts that are open at the same time."""
    per_interval: int | None = None
    """Attempts that begin within any `interval_s` seconds."""
    interval_s: float = 60.0
    """The length of the intervals that `per_interval` is about, in seconds; they may begin at any moment."""

    def __attrs_post_init__(self) -> None:
        for name in ("at_once", "per_interval"):
            value = getattr(self, name)
            if value is not None and (type(value) is not int or value < 1):
                raise ValueError(f"{name}: expected a whole number from 1 on, or None for no limit, found {value!r}")
        if not _is_number(self.interval_s) or not 0 < self.interval_s < math.inf:
            raise ValueError(f"interval_s: expected seconds above 0, found {self.interval_s!r}")


@attrs.frozen(kw_only=True)
class Limits:
    """What one node admits, keeps and waits for. Names end in their unit: `_s` is seconds, `_bytes_max` bytes.

    Raises:
        ValueError: a value is below 0 or of the wrong type; `lease_s` or `timeout_s` is infinite; `items_at_once`,
            `replays_max` or `schedule_late_s` is below 1.
    """

    id_bytes_max: int = 128
    """Length of the ids that callers choose, in UTF-8: of workflows, their tasks, agents, schedules and signals."""
    capabilities_max: int = 1_000
    """Capabilities of one agent; each is an index entry."""
    value_bytes_max: int = 256 * 1024
    """Size of a payload or a result, as JSON."""
    progress_bytes_max: int = 4 * 1024
    """Size of the progress in a heartbeat, as JSON; it is written again with every heartbeat."""
    nesting_max: int = NESTING_MAX
    """How deep lists and objects may nest in a payload, a result or a workflow document."""
    tasks_max: int = 1_000
    """Tasks of one workflow."""
    document_values_max: int = 50_000
    """Values in a workflow document: every string, number, list and object counts as one."""
    items_max: int = 10_000
    """Items of the list that a task goes through."""
    items_at_once: int = 100
    """How many items are in progress at once, if the task does not say."""
    expression_characters_max: int = 32_768
    """Characters of all expressions in a workflow document; parsing takes a few microseconds per character."""
    runs_depth_max: int = 16
    """How deep runs may nest, each waiting for the next."""
    runs_below_max: int = 10_000
    """Unfinished runs that a triggered run may have below it, directly or through others; a task that would begin one
    more fails."""
    labels_max: int = 20
    """Labels of one run; each is an index entry."""
    label_name_bytes_max: int = 64
    """Length of a label's name, in UTF-8."""
    label_value_bytes_max: int = 256
    """Length of a label's value, in UTF-8."""
    business_key_bytes_max: int = 256
    """Length of a business key, in UTF-8."""
    signals_max: int = 1_000
    """Signals of one run, waiting or taken."""
    replays_max: int = 100
    """Dead letters whose runs one call retries."""
    sessions_open_max: int = 100_000
    """Unfinished sessions; beyond it, triggers are refused until one ends."""
    schedules_max: int = 10_000
    """Schedules that exist at once; beyond it, none is created until one is deleted."""
    schedule_late_s: float = 60.0
    """How late a due time may start its run without counting as missed."""
    schedule_missed_max: int = 100
    """How many missed due times of one schedule, the newest ones, start runs if it asks for all of them."""
    lease_s: float = 900.0
    """How long an agent may be silent before its attempt is lost, if the workflow does not say."""
    timeout_s: float = 3_600.0
    """How long an attempt may take, if the workflow does not say."""
    unknown_outcome_lease_s: float = 60.0
    """The time to which a lease is cut when the outcome of a push is unknown."""
    claim_wait_s_max: float = 60.0
    """How long a claim waits at most, whatever it asks for."""
    claim_grace_s: float = 10.0
    """How long a leased task waits for a claimer that went away to come back."""
    dispatch_attempts_max: int = 10
    """Attempts in a row that may end undelivered or lost; the last of them spends a retry."""
    line_window: int = 1_000
    """How many waiting tasks of one line, such as that of a capability, the dispatcher reads at a time. It keeps at
    most twice as many in memory, and those that wait before a closed gate."""
    capability_limits: Mapping[str, DispatchLimit] = attrs.field(factory=dict)
    """By capability. Agents that may still be busy with an attempt that was taken back count as well."""
    workflow_limits: Mapping[str, DispatchLimit] = attrs.field(factory=dict)
    """By the id of the workflow."""
    clock_ahead_s_max: float = 30.0
    """How far in the future an agent's timestamp may lie; one beyond is clamped."""
    passivate_s: float = 30.0
    """How long the actor of an agent or a run without an open attempt stays in memory while it gets no messages."""
    passivate_beyond: int = 10_000
    """Number of runs' actors beyond which that of a run without an open attempt leaves memory at once."""
    close_grace_s: float = 5.0
    """How long deliveries and local functions that are under way may take to end when the node closes."""
    idempotency_keep_s: float = 7 * 86_400.0
    """How long past its session's end an idempotency key gets the same answer; the session is kept as long."""
    sessions_keep_s: float = 30 * 86_400.0
    """How long a finished session is kept; 0 means for ever."""
    sessions_ended_max: int = 1_000_000
    """How many finished sessions are kept, the newest ones; 0 means no limit."""
    records_keep_s: float = 30 * 86_400.0
    """How long a journal record is kept; 0 means for ever."""
    records_max: int = 10_000_000
    """How many journal records are kept, the newest ones; 0 means no limit."""
    signature_keep_s: float = 600.0
    """How long the signature of a webhook is remembered, so that a replay has no effect."""
    agent_ttl_s: float = 0.0
    """An agent that is silent for longer is given no work; 0 turns this off."""

    @property
    def quiet_s(self) -> float:
        """How long an actor that is still needed rests before it checks again; above 0 even if `passivate_s` is 0."""
        return max(self.passivate_s, QUIET_S_MIN)

    def __attrs_post_init__(self) -> None:
        for field in attrs.fields(type(self)):
            least, finite = _LEAST.get(field.name, 0), field.name in _IN_ROWS
            wanted = _wrong(getattr(self, field.name), field.default, least=least, finite=finite)
            if wanted is not None:
                raise ValueError(f"{field.name}: expected {wanted}, found {getattr(self, field.name)!r}")


def _wrong(value: Any, default: Any, *, least: float, finite: bool) -> str | None:
    """Return what was expected of a limit's value, or None if the value is right."""
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
        # An integer too large for a float.
        return False
