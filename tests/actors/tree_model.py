"""A supervisor and what it does over time, told again as a list of steps that one takes after the other.

Each supervisor has a plan: what it is about to do, step by step. The head of the plan is what it does now. With no plan
it is idle, and decides about the next exit. Everything that takes time stands on the agenda of the world.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, TypeAlias

from opscore.actors.spec import ChildSpec, Restart, Strategy, SupervisorSpec
from opscore.actors.supervision import Action
from tests.actors.cell_model import ActorModel, Cell
from tests.actors.scenario import Diary, Event, Line, Scenario, What
from tests.actors.supervision_model import Ending, Ledger, Verdict, judge

Step: TypeAlias = tuple[str, Any]
"""("stop", cells) · ("wait", seconds) · ("waiting", None) · ("start", cell) · ("starting", cell) · ("up", None) ·
("end", None)"""


class World:
    """Virtual time, an agenda and a diary."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.now = 0.0
        self.agenda: list[tuple[float, int, bool, Callable[[], None]]] = []
        self.count = 0
        self.lines: list[Line] = []
        self.made: dict[str, int] = {}
        self.tied = False
        """Whether two things that know nothing of each other fell on one instant: their order is open."""
        self.silent: list[str] = []
        """What happened of which the contract says nothing."""
        self.root = Supervisor(self, scenario.root, None)

    def later(self, delay_s: float, action: Callable[[], None]) -> None:
        self.count += 1
        self.agenda.append((self.now + delay_s, self.count, delay_s > 0, action))

    def write(self, what: str, who: str, incarnation: int = 0) -> None:
        self.lines.append(Line(at=self.now, what=what, who=who, incarnation=incarnation))

    def run(self) -> Diary:
        for event in self.scenario.events:
            self.later(event.at, self.happening(event))
        self.root.start()
        while self.root.phase != "down":
            first = min(self.agenda, key=lambda entry: entry[:2])
            self.agenda.remove(first)
            self.now = first[0]
            self.tied |= any(entry[0] == first[0] and entry[2] and first[2] for entry in self.agenda)
            first[3]()
        return Diary(lines=tuple(self.lines), end=self.root.end_in_words(), ended_at=self.now)

    def happening(self, event: Event) -> Callable[[], None]:
        return lambda: self.happen(event)

    def happen(self, event: Event) -> None:
        if event.what is What.QUIT:
            self.root.request_stop()
        elif event.what is What.START_CHILD:
            supervisor = self.find(event.under)
            assert event.spec is not None
            if isinstance(supervisor, Supervisor) and self.root.opened:
                supervisor.start_child(event.spec)
        for name in event.names:
            cell = self.find(name)
            if event.what is What.BOMB:
                for actor in [each for each in self.root.all_running() if each.spec.name == name]:
                    actor.blow_up()
            elif event.what is What.STOP_CHILD and cell is not None and self.root.opened:
                cell.parent_supervisor().dismiss(cell)
            elif isinstance(cell, ActorModel):
                cell.hear(event)

    def find(self, name: str) -> Cell | None:
        """The cell of a name, unless it is gone or on its way out by itself."""
        return next((cell for cell in self.root.all_cells() if cell.spec.name == name), None)


class Supervisor(Cell):
    """A supervisor with a plan. Phases: down, starting, up."""

    def __init__(self, world: World, spec: SupervisorSpec, parent: Supervisor | None) -> None:
        super().__init__(world, spec, parent)
        self.children: list[Cell] = []
        self.leavers: list[Cell] = []
        self.plan: list[Step] = []
        self.newcomers: list[Cell] = []
        """Dynamic children that came while there was a plan: they start after it."""
        self.pending: list[Cell] = []
        """Children whose end waits for a decision."""
        self.ledger = Ledger()
        self.ending = False
        self.opened = False
        self.places = 0

    def all_cells(self) -> Iterator[Cell]:
        yield self
        for child in self.children:
            yield from child.all_cells() if isinstance(child, Supervisor) else (child,)
        for leaver in self.leavers:
            if isinstance(leaver, Supervisor):
                yield from (cell for cell in leaver.all_cells() if cell is not leaver)

    def all_running(self) -> Iterator[ActorModel]:
        """Every actor below that runs, those on their way out included."""
        for cell in [*self.children, *self.leavers]:
            if isinstance(cell, Supervisor):
                yield from cell.all_running()
            elif isinstance(cell, ActorModel) and cell.running():
                yield cell

    def add(self, spec: Any) -> Cell:
        cell = Supervisor(self.world, spec, self) if isinstance(spec, SupervisorSpec) else None
        child = cell or ActorModel(self.world, spec, self)
        self.places += 1
        child.place = self.places
        self.children.append(child)
        return child

    # Coming up -------------------------------------------------------------------------------------------------

    def start(self) -> None:
        """Bring up the static children; those that are gone for good come back as new ones."""
        self.turn += 1
        self.incarnation += 1
        self.phase, self.ending, self.opened, self.cause, self.up_at = "starting", False, False, None, None
        self.ledger, self.pending, self.newcomers = Ledger(), [], []
        old = {child.spec.name: child for child in self.children if not child.dynamic}
        self.children = []
        for spec in self.spec.children:
            if spec.name in old:
                self.children.append(old[spec.name])
            else:
                self.add(spec)
        for place, child in enumerate(self.children):
            child.place = place
        self.places = len(self.children)
        self.plan = [*(("start", child) for child in self.children), ("up", None)]
        self.advance()

    def advance(self) -> None:
        """Take steps until one takes time; with none left, decide what is still to be decided."""
        while self.plan:
            if not self.step(*self.plan[0]):
                return
        if self.newcomers and self.pending:
            self.world.silent.append("whether newcomers start first, or what is to be decided comes first")
        while self.newcomers and not self.ending:
            self.newcomers.pop(0).start()
        while self.pending and not self.plan and not self.ending:
            self.decide(self.pending.pop(0))

    def step(self, what: str, about: Any) -> bool:
        """Take the step at the head of the plan; returns whether it is done with."""
        if what == "stop":
            for cell in about:
                cell.request_stop()
            if any(cell.running() for cell in about):
                return False
            self.plan.pop(0)
        elif what == "wait":
            self.plan[0] = ("waiting", None)
            self.timer(about, self.waited)
        elif what == "start":
            self.plan[0] = ("starting", about)
            about.start()
            return False
        elif what == "up":
            self.plan.pop(0)
            self.phase, self.opened, self.up_at = "up", True, self.world.now
            if self.parent is not None:
                self.parent.child_up(self)
        elif what == "end":
            self.plan[0] = ("ending", None)
            self.timer(0.0, self.over)
        else:
            return False
        return True

    def waited(self) -> None:
        assert self.plan[0] == ("waiting", None)
        self.plan.pop(0)
        self.advance()

    def child_up(self, cell: Cell) -> None:
        if self.plan and self.plan[0] == ("starting", cell):
            self.plan.pop(0)
            self.advance()

    def start_child(self, spec: ChildSpec[Any]) -> None:
        if (self.ending or not self.opened) and self is not self.world.root:
            self.world.silent.append("whether a supervisor that is down, stopping or coming up takes new children")
        if self.ending or not self.opened or any(child.spec.name == spec.name for child in self.children):
            return
        if self.plan and spec.name in self.world.made:
            self.world.silent.append("where in a group restart a newcomer starts that has the name of a former member")
        cell = self.add(spec)
        assert isinstance(cell, ActorModel)
        cell.dynamic = cell.known = True
        self.world.made[spec.name] = 0
        if self.plan:
            self.newcomers.append(cell)
        else:
            cell.start()

    # Going down ------------------------------------------------------------------------------------------------

    def request_stop(self) -> None:
        if self.phase != "down":
            self.finish(None)

    def finish(self, cause: str | None) -> None:
        """Stop everything right to left, then end; independent dynamic children stop together."""
        if self.ending:
            return
        self.turn += 1
        self.ending, self.cause, self.pending, self.newcomers = True, cause, [], []
        cells = sorted([*self.children, *self.leavers], key=lambda cell: cell.place, reverse=True)
        if any(leaver.running() for leaver in self.leavers):
            self.world.silent.append("whether the others wait, when all stop, for one that is on its way out")
        together = [cell for cell in cells if cell.dynamic and self.spec.strategy is Strategy.ONE_FOR_ONE]
        self.plan = [("stop", together), *(("stop", [cell]) for cell in cells if cell not in together), ("end", None)]
        for cell in cells:
            if not cell.running():
                cell.turn += 1
        self.advance()

    def over(self) -> None:
        self.plan = []
        self.ended()

    def dismiss(self, cell: Cell) -> None:
        """Stop a child for good: its name is free at once."""
        if self.ending and cell.running():
            self.world.silent.append("whether a child that is to be stopped first is stopped out of its turn")
        cell.dismissed = True
        self.withdraw(cell)
        cell.turn += 0 if cell.running() else 1
        cell.request_stop()
        if not cell.running() and self.plan and self.plan[0] == ("starting", cell):
            self.plan.pop(0)
            self.advance()

    def child_leaves(self, cell: Cell) -> None:
        """It said that it stops: its name is free at once, unless its end matters to the supervisor."""
        if not cell.spec.significant:
            self.withdraw(cell)
        elif self.mentions(cell):
            self.world.silent.append("what a group restart does with a significant member that leaves meanwhile")

    def withdraw(self, cell: Cell) -> None:
        """It is no child any more, though it may take time to end: nobody plans with it."""
        rest = (
            self.plan[1:]
            if self.ending
            else [step for step in self.plan[1:] if step not in (("start", cell), ("stop", [cell]))]
        )
        self.plan = [*self.plan[:1], *rest]
        self.pending = [each for each in self.pending if each is not cell]
        self.newcomers = [each for each in self.newcomers if each is not cell]
        self.gone(cell)
        if cell.running():
            self.leavers.append(cell)

    def gone(self, cell: Cell) -> None:
        if cell in self.children:
            self.children.remove(cell)
            self.ledger.forget(cell.spec.name)

    # Exits -----------------------------------------------------------------------------------------------------

    def child_ended(self, cell: Cell) -> None:
        self.release(cell)
        awaited = bool(self.plan) and self.plan[0] == ("starting", cell)
        if self.ending:
            self.advance()
        elif cell.dismissed:
            if awaited:
                self.plan.pop(0)
            self.advance()
        elif self.mentions(cell):
            if cell.spec.restart is Restart.TEMPORARY and ("start", cell) not in self.plan:
                self.gone(cell)
            self.advance()
        elif self.plan and not awaited:
            self.pending.append(cell)
        else:
            self.decide(cell)

    def mentions(self, cell: Cell) -> bool:
        """Whether the plan has yet to stop or start a child."""
        return any(step == ("start", cell) or (step[0] == "stop" and cell in step[1]) for step in self.plan)

    def release(self, cell: Cell) -> None:
        """Let the successor of one that left come up."""
        if cell in self.leavers:
            self.leavers.remove(cell)
            for child in [] if self.ending else self.children:
                if child.spec.name == cell.spec.name and child.phase == "queued":
                    child.start()

    def decide(self, cell: Cell) -> None:
        ran_s = 0.0 if cell.up_at is None else cell.ended_at - cell.up_at
        others = sum(each.spec.significant for each in [*self.children, *self.leavers] if each is not cell)
        siblings = tuple(child.spec.name for child in self.children)
        ending = Ending(child=cell.spec, failed=cell.cause is not None, ran_s=ran_s)
        verdict = judge(self.spec, self.ledger, siblings, others, ending, self.world.now)
        if verdict.action is Action.RESTART:
            self.restart(cell, verdict)
            return
        cause = cell.cause or f"{cell.spec.name} stopped"
        if verdict.action is Action.GIVE_UP:
            self.world.write("given up", cell.spec.name)
        if verdict.action is Action.SHUT_DOWN:
            self.gone(cell)
            self.finish(None)
        elif verdict.action is Action.ESCALATE:
            self.finish(cause)
        else:
            self.gone(cell)
            if self.plan and self.plan[0] == ("starting", cell):
                self.plan.pop(0)
            self.advance()

    def restart(self, cell: Cell, verdict: Verdict) -> None:
        awaited = bool(self.plan) and self.plan[0] == ("starting", cell)
        if self.spec.strategy is Strategy.ONE_FOR_ONE:
            if awaited:
                self.plan[:1] = [("wait", verdict.delay_s), ("start", cell)]
                self.advance()
            else:
                cell.turn += 1
                cell.timer(verdict.delay_s, cell.start)
            return
        still_to_start = [*(about for what, about in self.plan if what == "start"), *self.newcomers]
        self.newcomers = [each for each in self.newcomers if each.spec.name not in verdict.names]
        rest = [step for step in self.plan if step[0] == "up"]
        members = [child for child in self.children if child.spec.name in verdict.names]
        to_stop = [member for member in reversed(members) if member.running()]
        stay = [child for child in members if child.spec.restart is not Restart.TEMPORARY]
        to_start = [child for child in self.children if child in stay or child in still_to_start]
        to_start = [child for child in to_start if child not in self.newcomers]
        self.pending = [each for each in self.pending if each not in members]
        for member in members:
            if member not in stay and member in still_to_start:
                self.world.silent.append("whether a temporary child that was still to come up comes up")
            if member.phase == "queued":
                member.request_stop()
            if member not in to_start and member not in to_stop:
                self.gone(member)
        self.turn += 1
        self.plan = [("stop", [member]) for member in to_stop]
        self.plan += [("wait", verdict.delay_s), *(("start", child) for child in to_start), *rest]
        self.advance()

    def end_in_words(self) -> str:
        if self.cause is None:
            return "ended"
        return f"{'failed' if self.opened else 'never came up'}: {self.cause}"
