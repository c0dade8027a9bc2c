"""The promises that are checked in every world: the runtime's own, and those that a user adds.

An invariant is a function that yields a sentence for each violation, and nothing if it holds. Reports show its name and
the first line of its docstring. One that raises, by an `assert` or by a bug, counts as broken: it is called from deep
inside the node, which would otherwise handle the exception as a failure of its own.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, Self, TypeAlias

import attrs

from opscore.runtime.models import Assignment
from opscore.runtime.simulation.promises import (
    agents,
    asking,
    below,
    bounds,
    calendars,
    dispatch,
    failures,
    histories,
    keeping,
    outside,
    preferences,
    sessions,
    signals,
    tasks,
    times,
)
from opscore.runtime.simulation.promises.outside import Reply
from opscore.runtime.simulation.rows import Commit, Rows

OnCommit: TypeAlias = Callable[[Commit, Rows], Iterable[str] | None]
OnReply: TypeAlias = Callable[[Reply, Rows], Iterable[str] | None]
OnHanded: TypeAlias = Callable[[Assignment, Rows], Iterable[str] | None]
OnScan: TypeAlias = Callable[[Rows], Iterable[str] | None]


class InvariantBroken(AssertionError):
    """The invariant named `invariant` does not hold; `what` says how."""

    def __init__(self, invariant: str, what: str) -> None:
        self.invariant = invariant
        self.what = what
        super().__init__(f"{invariant}: {what}")


@attrs.frozen(kw_only=True)
class Invariants:
    """The invariants of a world, by when they are checked."""

    on_commit: tuple[OnCommit, ...] = ()
    """Checked after every commit, with what it changed."""
    on_reply: tuple[OnReply, ...] = ()
    """Checked when a call has succeeded, before the caller gets the reply."""
    on_handed: tuple[OnHanded, ...] = ()
    """Checked when an agent is handed an attempt."""
    on_scan: tuple[OnScan, ...] = ()
    """Checked now and then, and at the end, over all rows."""
    at_end: tuple[OnScan, ...] = ()
    """Checked once, after faults have stopped and every run has had the time to end."""

    def __add__(self, other: Self) -> "Invariants":
        """Return the invariants of both."""
        return Invariants(
            on_commit=self.on_commit + other.on_commit,
            on_reply=self.on_reply + other.on_reply,
            on_handed=self.on_handed + other.on_handed,
            on_scan=self.on_scan + other.on_scan,
            at_end=self.at_end + other.at_end,
        )

    def named(self) -> dict[str, str]:
        """Return the first line of each invariant's docstring, by its name."""
        every = (*self.on_commit, *self.on_reply, *self.on_handed, *self.on_scan, *self.at_end)
        return {_name(each): next(iter((each.__doc__ or "").strip().splitlines()), "") for each in every}


def check(invariants: tuple[Callable[..., Iterable[str] | None], ...], *arguments: Any) -> None:
    """Check that all of these invariants hold.

    Raises:
        InvariantBroken: for the first that does not hold. If that raised, the exception is the cause.
    """
    for invariant in invariants:
        try:
            what = next(iter(invariant(*arguments) or ()), None)
        except Exception as error:
            raise InvariantBroken(_name(invariant), _said(error)) from error
        if what is not None:
            raise InvariantBroken(_name(invariant), what)


def _said(error: Exception) -> str:
    """Return the message for an invariant that raised."""
    return str(error) if isinstance(error, AssertionError) and str(error) else f"it raised {error!r}"


def _name(invariant: object) -> str:
    return getattr(invariant, "__name__", None) or repr(invariant)


STANDARD: Final = Invariants(
    on_commit=(
        tasks.tasks_move_by_the_table,
        tasks.attempts_count_dispatches,
        tasks.attempts_end_once,
        tasks.retries_follow_the_policy,
        tasks.losses_are_bounded,
        tasks.tasks_begin_anew,
        tasks.completed_tasks_have_no_error,
        tasks.admission_is_bounded,
        tasks.records_tell_every_change,
        tasks.decisions_come_before_commits,
        tasks.keys_keep_their_sessions,
        histories.records_lead_back,
        histories.records_tell_every_step,
        times.tasks_close_when_they_have_to,
        times.tasks_wait_as_long_as_they_may,
        times.nothing_begins_once_its_time_is_over,
        times.what_is_cut_off_says_by_what,
        times.runs_have_their_time,
        times.agents_have_time_to_speak,
        times.attempts_have_their_time_whatever_the_clock_shows,
        times.what_was_said_meanwhile_is_heard,
        times.agents_may_be_silent_anew,
        times.unknown_deliveries_are_waited_for_shortly,
        sessions.sessions_move_by_the_table,
        sessions.order_follows_the_graph,
        sessions.handlers_begin_when_they_are_called_for,
        sessions.sessions_end_whole,
        failures.runs_fail_by_what_failed,
        failures.dead_letters_are_what_failed,
        failures.dead_letters_stay_until_somebody_acts,
        sessions.lists_are_gone_through_in_bounds,
        sessions.lists_fail_by_the_first_failure,
        sessions.runs_below_have_their_input,
        below.runs_stand_as_deep_as_they_say,
        below.runs_below_are_bounded,
        below.who_may_begin_a_run_does,
        below.what_no_other_run_helps_is_not_tried_again,
        sessions.failing_sessions_start_nothing,
        sessions.cancelling_calls_everything_back,
        sessions.cancelled_runs_keep_their_reason,
        sessions.unfinished_sessions_are_listed,
        signals.signals_are_numbered_as_they_come,
        signals.signals_are_taken_once_and_in_order,
        signals.signals_find_who_waits,
        signals.who_waited_first_is_told_first,
        dispatch.one_lease_an_agent,
        dispatch.leases_and_attempts_match,
        dispatch.work_goes_to_the_idle_and_able,
        dispatch.work_comes_from_sessions_that_run,
        dispatch.leases_have_their_times,
        dispatch.life_renews_the_lease,
        dispatch.attempts_end_when_their_time_is_over,
        dispatch.silence_is_as_long_as_a_lease,
        dispatch.functions_may_outlast_their_leases,
        dispatch.who_shows_life_has_its_attempt,
        dispatch.progress_is_kept,
        agents.the_unreached_are_suspected,
        agents.suspicions_grow,
        agents.agents_are_left_alone_as_they_wish,
        agents.suspicion_ends_with_a_report,
        agents.reports_order_themselves,
        agents.nothing_is_older_than_what_cannot_have_been,
        agents.nothing_is_reported_from_the_future,
        agents.only_older_reports_are_stale,
        agents.registering_keeps_the_cordon,
        agents.registering_forgets_the_order_of_reports,
        dispatch.waiting_tasks_have_their_place,
        dispatch.the_first_in_line_goes_first,
        preferences.the_sessions_agent_goes_first,
        bounds.slots_go_with_leases,
        bounds.slots_stay_with_their_attempt,
        bounds.no_more_is_out_than_may,
        bounds.no_more_begins_than_may,
        outside.results_are_of_their_attempts,
        calendars.a_due_time_starts_one_run,
        calendars.schedules_start_what_they_say,
        calendars.what_starts_its_run_has_no_error,
        calendars.missed_times_follow_the_policy,
        calendars.missed_times_are_told,
        calendars.what_passes_in_a_pause_is_over,
        asking.schedules_say_the_same_for_good,
        keeping.what_goes_has_served_its_time,
        keeping.what_goes_goes_as_a_whole,
        keeping.records_go_from_the_oldest_on,
        keeping.what_goes_of_the_journal_is_told,
        keeping.what_is_needed_is_kept,
        outside.claims_are_not_taken_back,
        outside.unknown_calls_are_not_repeated,
    ),
    on_reply=(
        outside.accepted_is_durable,
        outside.runs_are_found_by_what_they_were_given,
        outside.a_key_starts_one_session,
        outside.steering_is_durable,
        outside.steered_runs_go_on,
        outside.signals_are_durable,
        outside.acknowledged_ends_are_durable,
        failures.discards_are_durable,
        outside.heartbeats_renew,
        outside.registered_is_durable,
        outside.claims_are_handed_once,
        outside.claims_get_what_nobody_is_at,
        calendars.schedules_are_durable,
        asking.keys_stand_for_what_was_asked,
        asking.runs_are_listed_by_what_they_have,
        asking.drains_wait_for_the_lease,
        asking.sweeps_try_what_was_asked_for,
        asking.schedules_are_what_was_asked_for,
    ),
    on_handed=(
        outside.handed_is_committed,
        outside.handed_is_open,
        outside.who_is_handed_an_attempt_has_time_for_it,
        outside.life_ends_the_handing_over,
        outside.calls_are_handed_once,
    ),
    on_scan=(
        dispatch.waiting_work_finds_idle_agents,
        dispatch.attempts_are_taken_up,
        dispatch.what_is_due_happens,
        agents.nobody_is_suspected_for_long,
        sessions.runs_and_what_waits_for_them_agree,
        sessions.nothing_is_out_once_the_time_is_over,
        calendars.what_is_due_starts,
        keeping.what_has_served_its_time_goes,
        outside.nothing_accepted_is_lost,
    ),
    at_end=(outside.everything_ends, asking.every_trigger_is_answered),
)
"""The runtime's own promises."""
