"""An actor below a modelled supervisor: what it does with its life, its mailbox and a request to stop."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from opscore.actors.spec import ChildSpec, Restart
from tests.actors.scenario import Event, Flaw, Life, What

if TYPE_CHECKING:
    from tests.actors.tree_model import Supervisor, World


class Cell(ABC):
    """A child of a supervisor, from its first start to its being gone."""

    def __init__(self, world: World, spec: Any, parent: Supervisor | None) -> None:
        self.world = world
        self.spec = spec
        self.parent = parent
        self.incarnation = 0
        self.phase = "down"
        self.up_at: float | None = None
        self.cause: str | None = None
        self.ended_at = 0.0
        self.dismissed = False
        self.dynamic = False
        self.place = 0
        self.turn = 0
        """Counts what happens to the cell: a timer that was set in an earlier turn means nothing any more."""

    def parent_supervisor(self) -> Supervisor:
        assert self.parent is not None
        return self.parent

    def timer(self, delay_s: float, action: Callable[[], None]) -> None:
        turn = self.turn
        self.world.later(delay_s, lambda: action() if self.turn == turn else None)

    def running(self) -> bool:
        return self.phase not in {"down", "queued"}

    def ended(self) -> None:
        self.turn += 1
        self.phase, self.ended_at = "down", self.world.now
        if self.parent is not None:
            self.parent.child_ended(self)

    @abstractmethod
    def start(self) -> None:
        """Begin the next incarnation."""

    @abstractmethod
    def request_stop(self) -> None:
        """Ask the incarnation to end."""


class ActorModel(Cell):
    """An actor that does what its life says. Phases: down, queued, starting, up, busy, stopping."""

    def __init__(self, world: World, spec: ChildSpec[Any], parent: Supervisor) -> None:
        super().__init__(world, spec, parent)
        self.mailbox: list[Event] = []
        self.known = False
        """Whether anybody outside has its address."""
        self.asked_to_stop = False
        self.life = Life()

    def start(self) -> None:
        self.turn += 1
        self.asked_to_stop, self.up_at, self.cause = False, None, None
        if any(leaver.spec.name == self.spec.name for leaver in self.parent_supervisor().leavers):
            self.phase = "queued"
            return
        self.incarnation += 1
        name = self.spec.name
        number = self.world.made[name] = self.world.made.get(name, 0) + 1
        self.life = self.world.scenario.life(name, number)
        self.phase = "starting"
        if self.life.flaw is Flaw.FACTORY:
            self.world.write("cannot make", name, number)
            self.timer(0.0, self.failed_to_start)
            return
        self.known = True
        self.world.write("start", name, self.incarnation)
        self.timer(self.life.start_s, self.failed_to_start if self.life.flaw is Flaw.ON_START else self.came_up)

    def failed_to_start(self) -> None:
        self.cause = f"{self.spec.name} {self.world.made[self.spec.name]} did not start"
        self.ended()

    def came_up(self) -> None:
        self.turn += 1
        self.phase, self.up_at = "up", self.world.now
        if self.asked_to_stop:
            # It does that before its supervisor hears that it came up.
            self.fall(None)
            self.parent_supervisor().child_up(self)
            return
        self.parent_supervisor().child_up(self)
        if self.phase == "up":
            self.read()
        else:
            # Stopped in the instant it came up: nobody knows whether it takes a message first.
            self.world.tied |= bool(self.mailbox)

    def read(self) -> None:
        if self.phase == "up" and self.mailbox:
            message = self.mailbox.pop(0)
            self.turn += 1
            self.phase = "busy"
            self.timer(message.lasts_s, lambda: self.handled(message))

    def handled(self, message: Event) -> None:
        self.turn += 1
        self.phase = "up"
        if message.what is What.CRASH:
            self.fall(f"{self.spec.name} {self.incarnation} crashed")
        elif message.what is What.LEAVE:
            if self.spec.restart is not Restart.PERMANENT:
                self.mailbox.clear()
                self.parent_supervisor().child_leaves(self)
            self.fall(None)
        elif self.asked_to_stop:
            self.fall(None)
        else:
            self.read()

    def fall(self, cause: str | None) -> None:
        """Begin `on_stop`."""
        self.turn += 1
        self.phase, self.cause = "stopping", cause
        self.world.write("stop", self.spec.name, self.incarnation)
        self.timer(min(self.life.stop_s, self.spec.shutdown_s), self.ended)

    def request_stop(self) -> None:
        if self.phase == "queued":
            self.turn += 1
            self.phase = "down"
        elif self.phase == "up":
            self.fall(None)
        elif self.phase in {"starting", "busy"} and not self.asked_to_stop:
            self.asked_to_stop = True
            self.timer(self.spec.shutdown_s, self.cancelled)

    def cancelled(self) -> None:
        if self.phase == "busy":
            self.fall(None)
        else:
            self.ended()

    def blow_up(self) -> None:
        if self.phase in {"up", "busy"}:
            self.fall(f"{self.spec.name} {self.incarnation} blew up")

    def hear(self, message: Event) -> None:
        if self.known:
            self.mailbox.append(message)
            self.read()
