"""What is limited in any order of events, beside plain dicts: never one too many, never one too few, in their order."""

import itertools

import attrs
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, precondition, rule

from opscore.runtime.dispatch.matching import Match, MatchBook
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.messages.agent_available import AgentAvailable
from opscore.runtime.messages.to_dispatcher import AgentUnavailable, OfferOutcome
from opscore.runtime.waiting import AGING_S, Held, LinePage, Place, ReadyTask, Requirement
from tests.runtime.offers import NOW, agent, ended

CAPABILITIES = ("a", "b")
WORKFLOWS = ("v", "w")
KEYS = (None, "k", "l")
AGENTS = ("x", "y", "z", "u")
KINDS = st.tuples(
    st.sampled_from((*CAPABILITIES, *CAPABILITIES, None)),
    st.sampled_from(WORKFLOWS),
    st.sampled_from(KEYS),
    st.sampled_from((0, 0, 5)),
)
INTERVAL_S = 10.0
LIMITS = st.builds(
    DispatchLimit,
    at_once=st.sampled_from((2, 1, None)),
    per_interval=st.sampled_from((None, None, 1, 3)),
    interval_s=st.just(INTERVAL_S),
)


class GatesBesidePlainDicts(RuleBasedStateMachine):
    """Who waits, who is idle, what is out and what has begun are kept in plain dicts beside the book."""

    def __init__(self) -> None:
        super().__init__()
        self.now = NOW
        self.waiting: dict[str, ReadyTask] = {}
        self.idle: dict[str, AgentAvailable] = {}
        self.offers: dict[str, Match] = {}
        self.out: dict[str, Match] = {}
        self.begun: list[tuple[float, ReadyTask]] = []
        self.due: dict[str, float] = {}
        self.readings: list[tuple[Requirement, LinePage]] = []
        """What is being read of lines, as the rows were when that was asked for."""
        self.numbers = itertools.count(1)

    @initialize(
        capabilities=st.dictionaries(st.sampled_from(CAPABILITIES), LIMITS),
        workflows=st.dictionaries(st.sampled_from(WORKFLOWS), LIMITS),
        window=st.sampled_from((1_000, 1, 2)),
    )
    def begin(self, capabilities: dict[str, DispatchLimit], workflows: dict[str, DispatchLimit], window: int) -> None:
        self.limits = Limits(capability_limits=capabilities, workflow_limits=workflows, line_window=window)
        self.book = MatchBook(self.limits)

    # --- what may be ----------------------------------------------------------------------------------------

    def bounds(self, task: ReadyTask) -> list[tuple[str, str | None, DispatchLimit]]:
        """The limits of a task: of which field, of which value."""
        found: list[tuple[str, str | None, DispatchLimit]] = []
        if task.capability is not None and task.capability in self.limits.capability_limits:
            found.append(("capability", task.capability, self.limits.capability_limits[task.capability]))
        if task.workflow_id in self.limits.workflow_limits:
            found.append(("workflow_id", task.workflow_id, self.limits.workflow_limits[task.workflow_id]))
        if task.concurrency_key is not None:
            found.append(("concurrency_key", task.concurrency_key, DispatchLimit(at_once=1)))
        return found

    def fits(self, task: ReadyTask, more: int = 1) -> bool:
        for field, value, limit in self.bounds(task):
            out = [each.task for each in (*self.offers.values(), *self.out.values())]
            if limit.at_once is not None and sum(getattr(one, field) == value for one in out) + more > limit.at_once:
                return False
            begun = [one for at, one in self.begun if at + limit.interval_s > self.now]
            lately = [
                one for one in (*begun, *(each.task for each in self.offers.values())) if getattr(one, field) == value
            ]
            if limit.per_interval is not None and len(lately) + more > limit.per_interval:
                return False
        return True

    def may(self, agent: AgentAvailable, task: ReadyTask) -> bool:
        return task.capability in agent.capabilities if task.capability else task.agent_id == agent.agent_id

    def preferred_of(self, task: ReadyTask) -> AgentAvailable | None:
        """The idle agent that a task prefers."""
        agent = self.idle.get(str(task.preferred_agent_id))
        return agent if agent is not None and self.may(agent, task) else None

    def lines_of(self, agent: AgentAvailable) -> set[Requirement]:
        return {("agent", agent.agent_id), *(("capability", name) for name in agent.capabilities)}

    def rank(self, task: ReadyTask) -> float:
        return task.ready_at - task.priority * AGING_S

    def take(self, matches: list[Match], *, all_read: bool = False) -> None:
        for match in matches:
            assert self.waiting.pop(match.task.task_id) == match.task
            if all_read:
                assert self.preferred_of(match.task) in (None, match.agent), "who is idle and preferred is passed over"
            assert self.idle.pop(match.agent.agent_id) == match.agent
            assert self.may(match.agent, match.task)
            assert self.fits(match.task), "one too many"
            self.offers[match.task.task_id] = match
        self.due |= self.book.take_times()
        self.readings += [(line, self.page(line, after)) for line, after in self.book.take_wanted()]

    def page(self, line: Requirement, after: Place | None) -> LinePage:
        """The next of a line by the rows, in which also what is under offer waits."""
        rows = sorted(
            ((task.rank, task.task_id), task)
            for task in (*self.waiting.values(), *(match.task for match in self.offers.values()))
            if task.requirement == line and (after is None or (task.rank, task.task_id) > after)
        )
        shown = rows[: self.limits.line_window]
        whole = len(shown) < self.limits.line_window
        return LinePage(
            requirement=line, tasks=tuple(task for _, task in shown), reached=None if whole else shown[-1][0]
        )

    @precondition(lambda self: self.readings)
    @rule(data=st.data())
    def what_was_read_of_a_line_is_there(self, data: st.DataObject) -> None:
        _, page = self.readings.pop(data.draw(st.integers(0, len(self.readings) - 1)))
        self.take(self.book.take_page(page, self.now))

    def read_all(self) -> None:
        while self.readings:
            self.take(self.book.take_page(self.readings.pop(0)[1], self.now))

    # --- what happens ---------------------------------------------------------------------------------------

    @rule(kinds=st.lists(KINDS, min_size=1, max_size=6))
    def tasks_wait(self, kinds: list[tuple[str | None, str, str | None, int]]) -> None:
        for kind in kinds:
            new = self.made(kind)
            self.waiting[new.task_id] = new
            self.take(self.book.task_ready(new, next(self.numbers), self.now))

    def made(self, kind: tuple[str | None, str, str | None, int]) -> ReadyTask:
        capability, workflow, key, priority = kind
        number = next(self.numbers)
        return ReadyTask(
            task_id=f"task {number}",
            session_id="ses",
            capability=capability,
            agent_id=None if capability else AGENTS[0],
            preferred_agent_id=dict(enumerate(AGENTS)).get(number % 7) if capability else None,
            priority=priority,
            ready_at=self.now - number % 7,
            workflow_id=workflow,
            concurrency_key=key,
        )

    @rule(kind=KINDS)
    def a_run_begins(self, kind: tuple[str | None, str, str | None, int]) -> None:
        self.begins(kind)

    def begins(self, kind: tuple[str | None, str, str | None, int]) -> Match | None:
        """The first task of a run is given to an agent that is free, or gets in line once it is committed."""
        new = self.made(kind)
        free = [each for each in self.idle.values() if self.may(each, new)]
        match = self.book.find_agent(new, self.now)
        assert match is not None or self.readings or not (free and self.fits(new)), "who is free is found"
        self.waiting[new.task_id] = new
        self.take([match] if match else self.book.task_ready(new, next(self.numbers), self.now))
        return match

    @rule(data=st.data(), first=KINDS, second=KINDS, limited=st.booleans())
    def an_attempt_ends_and_its_agent_goes_on(
        self,
        data: st.DataObject,
        first: tuple[str | None, str, str | None, int],
        second: tuple[str | None, str, str | None, int],
        limited: bool,
    ) -> None:
        """Only with what is limited by nothing, and comes before all else that it may do."""
        match = self.begins((first[0], first[1], None, first[3]))
        if match is not None:
            del self.offers[match.task.task_id]
            self.has_out(match)
        known = [each for each in self.out.values() if not each.slots]
        if not known:
            return
        before = data.draw(st.sampled_from(known))
        new = self.made(second if limited else (second[0], second[1], None, second[3]))
        said = attrs.evolve(before.agent, as_of=next(self.numbers))
        may = self.may(said, new) and not self.bounds(new)
        others = [self.rank(task) for task in self.waiting.values() if self.may(said, task) and self.fits(task)]
        goes_first = all(other > self.rank(new) for other in others)
        if self.book.may_go_on(said, new):
            assert may
            assert goes_first
            self.out[said.agent_id] = Match(task=new, agent=said)
            self.begun.append((self.now, new))
        else:
            assert not may or self.readings or not goes_first or self.preferred_of(new) is not None
            self.waiting[new.task_id] = new
            self.take(self.book.task_ready(new, next(self.numbers), self.now))

    def has_out(self, match: Match) -> None:
        """An offer was taken."""
        self.out[match.agent.agent_id] = match
        self.begun.append((self.now, match.task))
        self.take(self.book.offer_ended(ended(match, OfferOutcome.TAKEN, next(self.numbers)), self.now))

    @precondition(lambda self: self.waiting)
    @rule(data=st.data())
    def a_waiting_task_is_withdrawn(self, data: st.DataObject) -> None:
        task_id = data.draw(st.sampled_from(sorted(self.waiting)))
        self.book.task_withdrawn(task_id)
        del self.waiting[task_id]
        self.take([])

    @precondition(lambda self: self.free())
    @rule(data=st.data(), capabilities=st.sets(st.sampled_from(CAPABILITIES), min_size=1))
    def an_agent_is_idle(self, data: st.DataObject, capabilities: set[str]) -> None:
        self.read_all()
        if not self.free():
            return
        said = agent(data.draw(st.sampled_from(self.free())), *sorted(capabilities), as_of=next(self.numbers))
        self.idle[said.agent_id] = said
        fitting = [task for task in self.waiting.values() if self.may(said, task) and self.fits(task)]
        found = self.book.agent_available(said, self.now)
        if fitting and found:
            assert [self.rank(match.task) for match in found] == [min(map(self.rank, fitting))], "priority, then age"
        self.take(found, all_read=True)
        assert found or self.readings or not fitting, "it waits for nothing but for who is first"

    def free(self) -> list[str]:
        busy = {match.agent.agent_id for match in (*self.offers.values(), *self.out.values())}
        return [name for name in AGENTS if name not in busy]

    @precondition(lambda self: self.offers)
    @rule(data=st.data(), outcome=st.sampled_from((*[OfferOutcome.TAKEN] * 3, *OfferOutcome)))
    def an_offer_ends(self, data: st.DataObject, outcome: OfferOutcome) -> None:
        if outcome is OfferOutcome.UNKNOWN:
            outcome = OfferOutcome.TASK_GONE
        match = self.offers.pop(data.draw(st.sampled_from(sorted(self.offers))))
        number = next(self.numbers)
        if outcome is OfferOutcome.TAKEN:
            self.out[match.agent.agent_id] = match
            self.begun.append((self.now, match.task))
        if outcome is not OfferOutcome.TAKEN and outcome is not OfferOutcome.TASK_GONE:
            self.waiting[match.task.task_id] = match.task
        if outcome in (OfferOutcome.TASK_GONE, OfferOutcome.POSTPONED, OfferOutcome.SLOT_TAKEN):
            self.idle[match.agent.agent_id] = match.agent
        self.take(self.book.offer_ended(ended(match, outcome, number), self.now))

    @precondition(lambda self: self.out)
    @rule(data=st.data(), goes_on=st.booleans())
    def an_attempt_is_over(self, data: st.DataObject, goes_on: bool) -> None:
        match = self.out.pop(data.draw(st.sampled_from(sorted(self.out))))
        as_of, agent_id = next(self.numbers), match.agent.agent_id
        self.read_all()
        if goes_on:
            said = attrs.evolve(match.agent, as_of=as_of)
            self.idle[agent_id] = said
            fitting = [task for task in self.waiting.values() if self.may(said, task) and self.fits(task)]
            best = [min(map(self.rank, fitting))] if fitting else []
            firsts = [task for task in fitting if [self.rank(task)] == best]
            # Whom it prefers may have been idle all along, before the gate that this agent opens.
            for_others = any(self.preferred_of(task) not in (None, said) for task in firsts)
            found = self.book.agent_available(said, self.now)
            given = [self.rank(match.task) for match in found if for_others or match.agent == said][:1]
            self.take(found, all_read=True)
            assert given == best or (self.readings and not given), "of all that it may do"
        else:
            gone = AgentUnavailable(agent_id=agent_id, as_of=as_of, leased=False)
            self.take(self.book.agent_unavailable(gone, self.now))

    @precondition(lambda self: self.out)
    @rule(data=st.data())
    def an_old_word_of_an_agent_changes_nothing(self, data: st.DataObject) -> None:
        agent_id = data.draw(st.sampled_from(sorted(self.out)))
        assert self.book.agent_unavailable(AgentUnavailable(agent_id=agent_id, as_of=0, leased=False), self.now) == []

    @rule(seconds=st.sampled_from((1.0, INTERVAL_S / 2, INTERVAL_S)))
    def time_passes(self, seconds: float) -> None:
        until = self.now + seconds
        while self.due and (gate := min(self.due, key=self.due.__getitem__)) and self.due[gate] <= until:
            self.now = max(self.now, self.due.pop(gate))
            self.take(self.book.gate_due(gate, self.now))
        self.now = until

    @rule()
    def the_dispatcher_starts_anew(self) -> None:
        """Its book is made again from the rows: offers under way are heard of no more, and were not taken."""
        self.book, self.due, self.readings = MatchBook(self.limits), {}, []
        for match in self.offers.values():
            self.waiting[match.task.task_id] = match.task
            self.idle[match.agent.agent_id] = match.agent
        self.offers = {}
        held = [Held(agent_id=name, slots=match.slots, version=1) for name, match in self.out.items() if match.slots]
        assert self.book.slots_held(held, self.now) == []
        for kind, field, named in (
            ("capability", "capability", self.limits.capability_limits),
            ("workflow", "workflow_id", self.limits.workflow_limits),
        ):
            for name, limit in named.items():
                if limit.per_interval is not None:
                    times = [at for at, task in self.begun if getattr(task, field) == name]
                    self.book.begun(f"{kind}/{name}", times, self.now)
        for line in sorted({task.requirement for task in self.waiting.values()}):
            assert self.book.take_page(self.page(line, None), self.now) == []
        self.take([])
        for said in list(self.idle.values()):
            self.take(self.book.agent_available(said, self.now))

    # --- what holds -----------------------------------------------------------------------------------------

    @invariant()
    def nothing_is_out_beyond_its_limits(self) -> None:
        for match in (*self.offers.values(), *self.out.values()):
            assert self.fits(match.task, more=0)
        slots = [slot for match in (*self.offers.values(), *self.out.values()) for slot in match.slots]
        assert len(slots) == len(set(slots)), "a slot is taken by one"

    @invariant()
    def nothing_waits_for_what_is_there(self) -> None:
        being_read = {line for line, _ in self.readings}
        for task in self.waiting.values():
            free = [
                each for each in self.idle.values() if self.may(each, task) and not self.lines_of(each) & being_read
            ]
            assert not free or not self.fits(task), f"{task.task_id} waits, and could go"

    @invariant()
    def the_depths_are_right(self) -> None:
        depths = self.book.depths() if hasattr(self, "book") else None
        if depths is not None:
            found = (depths.ready_tasks, depths.idle_agents, depths.offers)
            assert found == (min(found[0], len(self.waiting)), len(self.idle), len(self.offers))
            long = self.readings or self.limits.line_window < len(self.waiting)
            assert found[0] == len(self.waiting) or long, "short lines are whole"


TestAnyOrderOfEventsBesidePlainDicts = GatesBesidePlainDicts.TestCase
TestAnyOrderOfEventsBesidePlainDicts.settings = settings(max_examples=300, stateful_step_count=40, deadline=None)
