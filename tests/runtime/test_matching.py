"""The dispatcher's book: which waiting task goes to which idle agent, and that neither side is ever lost."""

import itertools
import math
import sys
from collections.abc import Callable
from typing import Any

import attrs
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from opscore.runtime.matching import AGING_S, Match, MatchBook, ready_task
from opscore.runtime.messages import AgentAvailable, OfferEnded, OfferOutcome
from opscore.runtime.models import QueueDepths, ReadyTask
from tests.runtime.runs import run_of

NOW = 10_000.0


def task(task_id: str = "t", capability: str | None = "a", **fields: Any) -> ReadyTask:
    standard = {"session_id": "ses", "agent_id": None, "preferred_agent_id": None, "priority": 0, "ready_at": NOW}
    return ReadyTask(task_id=task_id, capability=capability, **{**standard, **fields})


def agent(agent_id: str = "x", *capabilities: str, as_of: int = 1, fresh_until: float = math.inf) -> AgentAvailable:
    return AgentAvailable(
        agent_id=agent_id, capabilities=capabilities or ("a",), version=as_of, as_of=as_of, fresh_until=fresh_until
    )


def ended(match: Match | None, outcome: OfferOutcome, version: int = 0) -> OfferEnded:
    assert match is not None
    return OfferEnded(task_id=match.task.task_id, agent_id=match.agent.agent_id, outcome=outcome, version=version)


def offered() -> tuple[MatchBook, OfferEnded]:
    """A book with one offer under way, and the message that will end it."""
    book = MatchBook()
    book.agent_available(agent())
    return book, ended(book.task_ready(task(), 1, NOW), OfferOutcome.TASK_GONE)


def ends_with(book: MatchBook, offer: OfferEnded, outcome: OfferOutcome, version: int = 0) -> list[Match]:
    return book.offer_ended(attrs.evolve(offer, outcome=outcome, version=version), NOW)


def order(book: MatchBook, capability: str = "a") -> list[str]:
    """The tasks in the order in which one agent after the other gets them."""
    matches = (book.agent_available(agent(f"agent {number}", capability)) for number in itertools.count())
    return [match.task.task_id for match in itertools.takewhile(bool, matches) if match is not None]


def waiting(*tasks: ReadyTask) -> MatchBook:
    book = MatchBook()
    for one in tasks:
        assert book.task_ready(one, 1, NOW) is None
    return book


# --- who gets what ------------------------------------------------------------------------------------------


def test_a_task_waits_until_an_agent_with_its_capability_is_idle() -> None:
    book = waiting(task(capability="b"))
    assert book.agent_available(agent("x", "a")) is None
    assert book.agent_available(agent("y", "b", "c")) == Match(task=task(capability="b"), agent=agent("y", "b", "c"))
    assert book.depths() == QueueDepths(ready_tasks=0, idle_agents=1, offers=1)


def test_an_agent_under_offer_is_offered_nothing_else() -> None:
    book, _ = offered()
    assert book.task_ready(task("other"), 1, NOW) is None


def test_a_task_that_names_its_agent_goes_to_no_other() -> None:
    book = waiting(task(capability=None, agent_id="x"))
    assert book.agent_available(agent("y")) is None
    match = book.agent_available(agent("x", "anything"))
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
    match = book.agent_available(agent("x", "a", "b"))
    assert match is not None
    assert match.task.task_id == "old"


def test_no_task_starves_behind_higher_priorities_that_keep_coming() -> None:
    book, now = MatchBook(), 0.0
    book.task_ready(task("patient", priority=0, ready_at=0.0), 1, now)
    for number in range(1_000):
        now += 60.0
        book.task_ready(task(f"urgent {number}", priority=9, ready_at=now), 1, now)
        match = book.agent_available(agent())
        assert match is not None
        if match.task.task_id == "patient":
            break
        book.offer_ended(ended(match, OfferOutcome.TAKEN, 1), now)
    assert now <= 9 * AGING_S + 60.0


def test_the_sessions_agent_is_preferred_when_it_is_idle_and_able() -> None:
    book = MatchBook()
    for name in ("first", "second", "preferred"):
        book.agent_available(agent(name))
    match = book.task_ready(task(preferred_agent_id="preferred"), 1, NOW)
    assert match is not None
    assert match.agent.agent_id == "preferred"


def test_another_agent_takes_the_task_when_the_preferred_one_is_busy_or_lacks_the_capability() -> None:
    book = MatchBook()
    book.agent_available(agent("preferred", "b"))
    book.agent_available(agent("other", "a"))
    match = book.task_ready(task(preferred_agent_id="preferred"), 1, NOW)
    assert match is not None
    assert match.agent.agent_id == "other"


def test_an_agent_that_was_silent_for_too_long_is_passed_over() -> None:
    book = MatchBook()
    book.agent_available(agent("stale", fresh_until=NOW))
    book.agent_available(agent("fresh", fresh_until=NOW + 1))
    match = book.task_ready(task(preferred_agent_id="stale"), 1, NOW)
    assert match is not None
    assert match.agent.agent_id == "fresh"
    assert book.depths().idle_agents == 0


def test_an_agent_that_became_stale_during_an_offer_is_given_no_more_work() -> None:
    book = MatchBook()
    book.agent_available(agent(fresh_until=NOW + 1))
    offer = ended(book.task_ready(task(), 1, NOW), OfferOutcome.POSTPONED)
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
    book.task_ready(task("other"), 1, NOW)
    (match,) = ends_with(book, offer, OfferOutcome.TASK_GONE)
    assert match.task.task_id == "other"


def test_when_the_agent_has_changed_its_task_goes_to_another() -> None:
    book, offer = offered()
    book.agent_available(agent("y"))
    (match,) = ends_with(book, offer, OfferOutcome.AGENT_CHANGED)
    assert (match.task, match.agent.agent_id) == (task(), "y")


def test_a_postponed_offer_is_made_again() -> None:
    book, offer = offered()
    assert ends_with(book, offer, OfferOutcome.POSTPONED) == [Match(task=task(), agent=agent())]


def test_after_an_unknown_end_both_sides_come_back_with_what_they_say_themselves() -> None:
    book, offer = offered()
    book.agent_available(agent(as_of=2))
    book.task_ready(task(), 2, NOW)
    assert ends_with(book, offer, OfferOutcome.UNKNOWN) == [Match(task=task(), agent=agent(as_of=2))]


def test_hints_older_than_the_commit_that_gave_the_task_away_are_ignored() -> None:
    book, offer = offered()
    book.agent_available(agent(as_of=5))
    book.task_ready(task(), 5, NOW)
    assert ends_with(book, offer, OfferOutcome.TAKEN, 5) == []
    assert book.depths() == QueueDepths(ready_tasks=0, idle_agents=0, offers=0)


def test_hints_newer_than_the_commit_that_gave_the_task_away_count() -> None:
    book, offer = offered()
    book.agent_available(agent(as_of=6))
    book.task_ready(task(), 7, NOW)
    assert ends_with(book, offer, OfferOutcome.TAKEN, 5) == [Match(task=task(), agent=agent(as_of=6))]


def test_an_agent_that_became_unavailable_during_an_offer_stays_so() -> None:
    book, offer = offered()
    book.agent_unavailable("x")
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


def calls_made(action: Callable[[], object]) -> int:
    """How many functions, Python's and C's, an action calls."""
    count = 0

    def note(_frame: object, event: str, _argument: object) -> None:
        nonlocal count
        count += event in ("call", "c_call")

    before = sys.getprofile()
    sys.setprofile(note)
    try:
        action()
    finally:
        sys.setprofile(before)
    return count


def test_a_match_costs_the_same_among_ten_agents_and_among_ten_thousand() -> None:
    def cost(agents: int) -> int:
        book = MatchBook()
        for number in range(agents):
            book.agent_available(agent(f"agent {number}"))
        return calls_made(lambda: book.task_ready(task(preferred_agent_id="absent"), 1, NOW))

    assert cost(10) == cost(10_000)


def test_a_match_costs_the_same_among_ten_waiting_tasks_and_among_ten_thousand() -> None:
    def cost(tasks: int) -> int:
        book = waiting(*(task(f"task {number}", ready_at=NOW - number) for number in range(tasks)))
        return calls_made(lambda: book.agent_available(agent()))

    # The heap's own work, O(log n), happens inside one call.
    assert cost(10) == cost(10_000)


# --- any order of events, beside plain dicts ----------------------------------------------------------------

CAPABILITIES = ("a", "b", "c")
AGENTS = ("x", "y", "z")


class BookBesidePlainDicts(RuleBasedStateMachine):
    """Every event in every order: who waits, who is idle and what is offered are kept in plain dicts beside the book."""

    def __init__(self) -> None:
        super().__init__()
        self.book = MatchBook()
        self.tasks: dict[str, ReadyTask] = {}
        self.agents: dict[str, AgentAvailable] = {}
        self.offers: dict[str, Match] = {}
        self.heard_tasks: dict[str, tuple[ReadyTask, int] | None] = {}
        self.heard_agents: dict[str, AgentAvailable | None] = {}
        self.arrived: dict[str, int] = {}
        self.numbers = itertools.count(1)

    def may(self, agent: AgentAvailable, task: ReadyTask) -> bool:
        return task.capability in agent.capabilities if task.capability else task.agent_id == agent.agent_id

    def rank(self, task: ReadyTask) -> tuple[float, int]:
        return task.ready_at - task.priority * AGING_S, self.arrived[task.task_id]

    def take(self, match: Match) -> None:
        """An offer must pair a task that waits with an agent that is idle and may run it."""
        assert self.tasks.pop(match.task.task_id) == match.task
        assert self.agents.pop(match.agent.agent_id) == match.agent
        assert self.may(match.agent, match.task)
        self.offers[match.task.task_id] = match

    def task_waits(self, task: ReadyTask, match: Match | None) -> None:
        self.tasks[task.task_id] = task
        self.arrived[task.task_id] = next(self.numbers)
        if match is not None:
            preferred = self.agents.get(str(task.preferred_agent_id))
            assert match.task == task
            assert preferred is None or not self.may(preferred, task) or match.agent == preferred
            self.take(match)

    def agent_is_idle(self, agent: AgentAvailable, match: Match | None) -> None:
        self.agents[agent.agent_id] = agent
        if match is not None:
            fitting = [task for task in self.tasks.values() if self.may(agent, task)]
            assert match.agent == agent
            assert match.task == min(fitting, key=self.rank), "priority, then age"
            self.take(match)

    @rule(
        capability=st.sampled_from((*CAPABILITIES, None)),
        named=st.sampled_from(AGENTS),
        priority=st.integers(0, 9),
        age_s=st.integers(0, 5_000),
    )
    def a_new_task(self, capability: str | None, named: str, priority: int, age_s: int) -> None:
        number = next(self.numbers)
        new = ReadyTask(
            task_id=f"task {number}",
            session_id="ses",
            capability=capability,
            agent_id=None if capability else named,
            preferred_agent_id=named if capability else None,
            priority=priority,
            ready_at=NOW - age_s,
        )
        self.task_waits(new, self.book.task_ready(new, number, NOW))

    @rule(agent_id=st.sampled_from(AGENTS), capabilities=st.sets(st.sampled_from(CAPABILITIES), min_size=1))
    def an_agent_says_it_is_idle(self, agent_id: str, capabilities: set[str]) -> None:
        said = agent(agent_id, *sorted(capabilities), as_of=next(self.numbers))
        match = self.book.agent_available(said)
        if any(offer.agent.agent_id == agent_id for offer in self.offers.values()):
            assert match is None
            self.heard_agents[agent_id] = said
        else:
            self.agent_is_idle(said, match)

    @rule(agent_id=st.sampled_from(AGENTS))
    def an_agent_says_it_is_busy(self, agent_id: str) -> None:
        self.book.agent_unavailable(agent_id)
        self.agents.pop(agent_id, None)
        if any(offer.agent.agent_id == agent_id for offer in self.offers.values()):
            self.heard_agents[agent_id] = None

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def a_waiting_task_is_withdrawn(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.tasks)))
        self.book.task_withdrawn(task_id)
        del self.tasks[task_id]

    @precondition(lambda self: self.tasks)
    @rule(data=st.data())
    def a_waiting_task_is_announced_again(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.tasks)))
        assert self.book.task_ready(self.tasks[task_id], next(self.numbers), NOW) is None

    @precondition(lambda self: self.offers)
    @rule(data=st.data(), withdrawn=st.booleans())
    def a_task_under_offer_is_heard_of(self, data: st.DataObject, withdrawn: bool) -> None:
        match = self.offers[data.draw(st.sampled_from(sorted(self.offers)))]
        number = next(self.numbers)
        if withdrawn:
            self.book.task_withdrawn(match.task.task_id)
            self.heard_tasks[match.task.task_id] = None
        else:
            again = attrs.evolve(match.task, ready_at=NOW - number)
            assert self.book.task_ready(again, number, NOW) is None
            self.heard_tasks[match.task.task_id] = (again, number)

    @precondition(lambda self: self.offers)
    @rule(data=st.data(), outcome=st.sampled_from(OfferOutcome), back=st.integers(0, 5))
    def an_offer_ends(self, data: st.DataObject, outcome: OfferOutcome, back: int) -> None:
        match = self.offers.pop(data.draw(st.sampled_from(sorted(self.offers))))
        version = next(self.numbers) - back
        found = self.book.offer_ended(ended(match, outcome, version), NOW)
        agent_stays = outcome in (OfferOutcome.TASK_GONE, OfferOutcome.POSTPONED)
        task_stays = outcome in (OfferOutcome.AGENT_CHANGED, OfferOutcome.POSTPONED)
        agent_now = self.heard_agents.pop(match.agent.agent_id, match.agent if agent_stays else None)
        task_now, said_at = self.heard_tasks.pop(match.task.task_id, None if not task_stays else (match.task, 0)) or (
            None,
            0,
        )
        if outcome is OfferOutcome.TAKEN:
            agent_now = None if agent_now is not None and agent_now.as_of <= version else agent_now
            task_now = None if said_at <= version else task_now
        if agent_now is not None:
            first = next((one for one in found if one.agent == agent_now and one.task != task_now), None)
            found = [one for one in found if one is not first]
            self.agent_is_idle(agent_now, first)
        if task_now is not None:
            self.task_waits(task_now, found.pop() if found else None)
        assert found == []

    @invariant()
    def nothing_waits_for_what_is_there(self) -> None:
        for task in self.tasks.values():
            assert not [agent for agent in self.agents.values() if self.may(agent, task)]

    @invariant()
    def the_depths_are_right(self) -> None:
        expected = QueueDepths(ready_tasks=len(self.tasks), idle_agents=len(self.agents), offers=len(self.offers))
        assert self.book.depths() == expected


TestAnyOrderOfEventsBesidePlainDicts = BookBesidePlainDicts.TestCase
TestAnyOrderOfEventsBesidePlainDicts.settings = settings(max_examples=100, stateful_step_count=40, deadline=None)
