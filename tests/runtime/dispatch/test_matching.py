"""The dispatcher's book: which waiting task goes to which idle agent, what an offer leaves behind, what it costs."""

import gc
import itertools
import sys
from collections.abc import Callable
from types import FrameType
from typing import Any

import attrs
import pytest

from opscore.runtime.dispatch.matching import Match, MatchBook
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.messages.to_dispatcher import OfferEnded, OfferOutcome
from opscore.runtime.waiting import AGING_S, CAPABILITY, LinePage, QueueDepths, ReadyTask, ready_task
from tests.runtime.offers import NOW, agent, ended, is_busy, is_idle, task, waits
from tests.runtime.small_runs import run_of


def offered() -> tuple[MatchBook, OfferEnded]:
    """A book with one offer under way, and the message that will end it."""
    book = MatchBook(Limits())
    is_idle(book, agent())
    return book, ended(waits(book, task(), 1, NOW), OfferOutcome.TASK_GONE)


def ends_with(book: MatchBook, offer: OfferEnded, outcome: OfferOutcome, version: int = 0) -> list[Match]:
    return book.offer_ended(attrs.evolve(offer, outcome=outcome, version=version), NOW)


def order(book: MatchBook, capability: str = "a") -> list[str]:
    """The tasks in the order in which one agent after the other gets them."""
    matches = (is_idle(book, agent(f"agent {number}", capability)) for number in itertools.count())
    return [match.task.task_id for match in itertools.takewhile(bool, matches) if match is not None]


def waiting(*tasks: ReadyTask) -> MatchBook:
    book = MatchBook(Limits())
    for one in tasks:
        assert waits(book, one, 1, NOW) is None
    return book


def test_a_task_that_was_offered_in_vain_keeps_its_place_in_line() -> None:
    book = waiting(task("first", ready_at=NOW - 2), task("second", ready_at=NOW - 1))
    vain = ended(is_idle(book, agent("x", as_of=1)), OfferOutcome.AGENT_CHANGED)
    is_idle(book, agent("x", as_of=2))
    assert [match.task.task_id for match in book.offer_ended(vain, NOW)] == ["first"]


def test_a_task_whose_grant_was_not_heard_of_waits_anew_in_its_new_place() -> None:
    book = waiting(task("granted", ready_at=NOW - 3), task("patient", ready_at=NOW - 2))
    assert waits(book, task("granted", ready_at=NOW - 1), 2, NOW) is None
    assert order(book) == ["patient", "granted"]


# --- who gets what ------------------------------------------------------------------------------------------


def test_a_task_waits_until_an_agent_with_its_capability_is_idle() -> None:
    book = waiting(task(capability="b"))
    assert is_idle(book, agent("x", "a")) is None
    assert is_idle(book, agent("y", "b", "c")) == Match(task=task(capability="b"), agent=agent("y", "b", "c"))
    assert book.depths() == QueueDepths(ready_tasks=0, idle_agents=1, offers=1)


def test_an_agent_under_offer_is_offered_nothing_else() -> None:
    book, _ = offered()
    assert waits(book, task("other"), 1, NOW) is None


def test_a_task_that_names_its_agent_goes_to_no_other() -> None:
    book = waiting(task(capability=None, agent_id="x"))
    assert is_idle(book, agent("y")) is None
    match = is_idle(book, agent("x", "anything"))
    assert match is not None
    assert match.agent.agent_id == "x"


def test_a_higher_priority_goes_first() -> None:
    book = waiting(*(task(f"p{priority}", priority=priority) for priority in (3, 9, 0, 5)))
    assert order(book) == ["p9", "p5", "p3", "p0"]


def test_within_a_priority_the_oldest_goes_first() -> None:
    book = waiting(*(task(f"at {ready_at}", ready_at=float(ready_at)) for ready_at in (30, 10, 20)))
    assert order(book) == ["at 10", "at 20", "at 30"]


def test_tasks_as_old_as_one_another_go_in_the_order_in_which_they_came() -> None:
    assert order(waiting(task("b"), task("a"), task("c"))) == ["b", "a", "c"]


def test_an_agent_with_several_capabilities_takes_what_is_due_first_among_them() -> None:
    book = waiting(task("young", "a", ready_at=20.0), task("old", "b", ready_at=10.0))
    match = is_idle(book, agent("x", "a", "b"))
    assert match is not None
    assert match.task.task_id == "old"


def test_no_task_starves_behind_higher_priorities_that_keep_coming() -> None:
    book, now = MatchBook(Limits()), 0.0
    waits(book, task("patient", priority=0, ready_at=0.0), 1, now)
    for number in range(1_000):
        now += 60.0
        waits(book, task(f"urgent {number}", priority=9, ready_at=now), 1, now)
        match = is_idle(book, agent())
        assert match is not None
        if match.task.task_id == "patient":
            break
        book.offer_ended(ended(match, OfferOutcome.TAKEN, 1), now)
    assert now <= 9 * AGING_S + 60.0


def test_the_sessions_agent_is_preferred_when_it_is_idle_and_able() -> None:
    book = MatchBook(Limits())
    for name in ("first", "second", "preferred"):
        is_idle(book, agent(name))
    match = waits(book, task(preferred_agent_id="preferred"), 1, NOW)
    assert match is not None
    assert match.agent.agent_id == "preferred"


def test_another_agent_takes_the_task_when_the_preferred_one_is_busy_or_lacks_the_capability() -> None:
    book = MatchBook(Limits())
    is_idle(book, agent("preferred", "b"))
    is_idle(book, agent("other", "a"))
    match = waits(book, task(preferred_agent_id="preferred"), 1, NOW)
    assert match is not None
    assert match.agent.agent_id == "other"


def test_an_agent_that_was_silent_for_too_long_is_passed_over() -> None:
    book = MatchBook(Limits())
    is_idle(book, agent("stale", fresh_until=NOW))
    is_idle(book, agent("fresh", fresh_until=NOW + 1))
    match = waits(book, task(preferred_agent_id="stale"), 1, NOW)
    assert match is not None
    assert match.agent.agent_id == "fresh"
    assert book.depths().idle_agents == 0


def test_an_agent_that_became_stale_during_an_offer_is_given_no_more_work() -> None:
    book = MatchBook(Limits())
    is_idle(book, agent(fresh_until=NOW + 1))
    offer = ended(waits(book, task(), 1, NOW), OfferOutcome.TASK_GONE)
    waits(book, task("other"), 1, NOW)
    assert book.offer_ended(offer, NOW + 2) == []
    assert book.depths() == QueueDepths(ready_tasks=1, idle_agents=0, offers=0)


@pytest.mark.parametrize(
    ("fields", "named", "preferred"),
    [
        ({"agentCapability": "c"}, None, "the session's"),
        ({"agentId": "named"}, "named", None),
        ({}, "the session's", None),
    ],
    ids=["capability", "agent", "neither"],
)
def test_who_may_run_a_task_follows_from_its_definition(
    fields: dict[str, str], named: str | None, preferred: str | None
) -> None:
    run = run_of({"taskId": "a", "agentCapability": None, "priority": 7, **fields})
    session = attrs.evolve(run.session, agent_id="the session's")
    found = ready_task(session, run.definition.tasks[0], run.tasks[0])
    assert (found.capability, found.agent_id, found.preferred_agent_id) == (
        fields.get("agentCapability"), named, preferred,
    )  # fmt: skip
    assert (found.priority, found.ready_at) == (7, run.tasks[0].ready_at)


# --- what an offer leaves behind ----------------------------------------------------------------------------


def test_a_taken_task_and_its_agent_leave_the_book() -> None:
    book, offer = offered()
    assert ends_with(book, offer, OfferOutcome.TAKEN, 5) == []
    assert book.depths() == QueueDepths(ready_tasks=0, idle_agents=0, offers=0)


def test_when_the_task_is_gone_its_agent_gets_another() -> None:
    book, offer = offered()
    waits(book, task("other"), 1, NOW)
    (match,) = ends_with(book, offer, OfferOutcome.TASK_GONE)
    assert match.task.task_id == "other"


def test_when_the_agent_has_changed_its_task_goes_to_another() -> None:
    book, offer = offered()
    is_idle(book, agent("y"))
    (match,) = ends_with(book, offer, OfferOutcome.AGENT_CHANGED)
    assert (match.task, match.agent.agent_id) == (task(), "y")


def test_a_postponed_offer_is_made_again() -> None:
    book, offer = offered()
    assert ends_with(book, offer, OfferOutcome.POSTPONED) == [Match(task=task(), agent=agent())]


def test_after_an_unknown_end_both_sides_come_back_with_what_they_say_themselves() -> None:
    book, offer = offered()
    is_idle(book, agent(as_of=2))
    waits(book, task(), 2, NOW)
    assert ends_with(book, offer, OfferOutcome.UNKNOWN) == [Match(task=task(), agent=agent(as_of=2))]


def test_hints_older_than_the_commit_that_gave_the_task_away_are_ignored() -> None:
    book, offer = offered()
    is_idle(book, agent(as_of=5))
    waits(book, task(), 5, NOW)
    assert ends_with(book, offer, OfferOutcome.TAKEN, 5) == []
    assert book.depths() == QueueDepths(ready_tasks=0, idle_agents=0, offers=0)


def test_hints_newer_than_the_commit_that_gave_the_task_away_count() -> None:
    book, offer = offered()
    is_idle(book, agent(as_of=6))
    waits(book, task(), 7, NOW)
    assert ends_with(book, offer, OfferOutcome.TAKEN, 5) == [Match(task=task(), agent=agent(as_of=6))]


def test_an_agent_that_became_unavailable_during_an_offer_stays_so() -> None:
    book, offer = offered()
    is_busy(book, "x")
    ends_with(book, offer, OfferOutcome.POSTPONED)
    assert book.depths() == QueueDepths(ready_tasks=1, idle_agents=0, offers=0)


def test_a_task_withdrawn_during_an_offer_is_not_offered_again() -> None:
    book, offer = offered()
    book.task_withdrawn("t")
    assert ends_with(book, offer, OfferOutcome.POSTPONED) == []
    assert book.depths() == QueueDepths(ready_tasks=0, idle_agents=1, offers=0)


def test_the_end_of_an_offer_that_the_book_never_made_changes_nothing() -> None:
    book, offer = offered()
    assert ends_with(book, attrs.evolve(offer, task_id="unknown"), OfferOutcome.POSTPONED) == []
    assert ends_with(book, attrs.evolve(offer, agent_id="unknown"), OfferOutcome.POSTPONED) == []
    assert book.depths() == QueueDepths(ready_tasks=0, idle_agents=0, offers=1)


# --- cost ---------------------------------------------------------------------------------------------------


def steps_made(action: Callable[[], object]) -> int:
    """How many instructions of Python an action takes: a cost that no other load on the machine changes."""
    count = 0

    def note(frame: FrameType, event: str, _argument: object) -> Any:
        nonlocal count
        frame.f_trace_opcodes = True
        count += event == "opcode"
        return note

    before = sys.gettrace()
    # A collection in between would run the finalizers of what other tests left, and count their steps.
    gc.disable()
    # Python 3.12 counts instructions only where tracing begins in a frame that asks for them.
    sys._getframe().f_trace_opcodes = True  # noqa: SLF001
    sys.settrace(note)
    try:
        action()
    finally:
        sys.settrace(before)
        gc.enable()
    return count


def test_a_match_costs_the_same_among_ten_agents_and_among_ten_thousand() -> None:
    def cost(agents: int) -> int:
        book = MatchBook(Limits())
        for number in range(agents):
            is_idle(book, agent(f"agent {number}"))
        return steps_made(lambda: waits(book, task(preferred_agent_id="absent"), 1, NOW))

    assert cost(10) == cost(10_000)


def test_a_match_costs_the_same_among_ten_waiting_tasks_and_among_ten_thousand() -> None:
    def cost(tasks: int) -> int:
        book = waiting(*(task(f"task {number}", ready_at=NOW - number) for number in range(tasks)))
        return steps_made(lambda: is_idle(book, agent()))

    # The heap's own work, O(log n), happens inside one instruction.
    assert cost(3_000) == cost(30_000)
    assert cost(10) <= cost(3_000) <= cost(10) + 20, "the next of a long line are asked for"


def test_a_task_whose_slot_another_has_goes_to_the_agent_that_it_prefers_once_that_is_idle() -> None:
    book = MatchBook(Limits())
    is_idle(book, agent("x"))
    offer = ended(waits(book, task(preferred_agent_id="y")), OfferOutcome.SLOT_TAKEN)
    is_idle(book, agent("y"))
    (match,) = book.offer_ended(offer, NOW)
    assert match.agent.agent_id == "y"


def test_an_agent_that_comes_free_is_given_the_first_of_all_that_it_may_do_also_where_a_gate_opens_with_it() -> None:
    book = MatchBook(Limits(capability_limits={"a": DispatchLimit(at_once=1)}))
    is_idle(book, agent("x", "a", "b"))
    taken = ended(waits(book, task("out", "a")), OfferOutcome.TAKEN, 5)
    assert book.offer_ended(taken, NOW) == []
    assert waits(book, task("held back", "a")) is None
    assert waits(book, task("urgent", "b", priority=9)) is None
    match = is_idle(book, agent("x", "a", "b", as_of=6))
    assert match is not None
    assert match.task.task_id == "urgent"


def test_a_task_before_a_gate_goes_to_the_idle_agent_it_prefers_and_not_to_the_one_that_opened_it() -> None:
    book = MatchBook(Limits(capability_limits={"a": DispatchLimit(at_once=1)}))
    is_idle(book, agent("x", "a", "b"))
    assert book.offer_ended(ended(waits(book, task("out", "a")), OfferOutcome.TAKEN, 5), NOW) == []
    assert is_idle(book, agent("y", "a")) is None
    assert waits(book, task("held back", "a", preferred_agent_id="y")) is None
    assert waits(book, task("next", "b")) is None
    matches = book.agent_available(agent("x", "a", "b", as_of=6), NOW)
    assert [(match.task.task_id, match.agent.agent_id) for match in matches] == [("held back", "y"), ("next", "x")]


def test_a_task_before_a_gate_goes_to_the_one_that_opened_it_where_the_one_it_prefers_is_stale() -> None:
    book = MatchBook(Limits(capability_limits={"a": DispatchLimit(at_once=1)}))
    is_idle(book, agent("x"))
    assert book.offer_ended(ended(waits(book, task("out")), OfferOutcome.TAKEN, 5), NOW) == []
    assert is_idle(book, agent("y", fresh_until=NOW + 1)) is None
    assert waits(book, task("held back", preferred_agent_id="y")) is None
    matches = book.agent_available(agent("x", as_of=6, fresh_until=NOW + 9), NOW + 2)
    assert [(match.task.task_id, match.agent.agent_id) for match in matches] == [("held back", "x")]


def test_an_agent_one_of_whose_lines_is_being_read_is_given_nothing_of_another_until_its_first_is_known() -> None:
    book, line = MatchBook(Limits(line_window=1)), (CAPABILITY, "a")
    first = task("first", "a", ready_at=NOW - 2)
    assert book.take_page(LinePage(requirement=line, tasks=(first,), reached=(first.rank, "first")), NOW) == []
    assert is_idle(book, agent("y", "a")) is not None
    assert list(book.take_wanted()) == [(line, (first.rank, "first"))]
    assert is_idle(book, agent("x", "a", "b")) is None
    assert waits(book, task("of another line", "b")) is None
    assert waits(book, task("of its own line", None, agent_id="x")) is None
    second = task("second", "a", ready_at=NOW - 1)
    (match,) = book.take_page(LinePage(requirement=line, tasks=(second,), reached=None), NOW)
    assert (match.agent.agent_id, match.task.task_id) == ("x", "second")
    assert order(book, "b") == ["of another line"]
