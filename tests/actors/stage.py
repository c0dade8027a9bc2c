"""Performs a scenario on the real system, in virtual time, and brings back the diary."""

from __future__ import annotations

import contextlib
import logging
from typing import Any

import attrs
import trio
from trio.testing import MockClock

from opscore.actors.actor import Actor, handles
from opscore.actors.errors import ActorError, ActorStopped, StartFailed, SystemFailed
from opscore.actors.message import Message
from opscore.actors.ref import Ref
from opscore.actors.spec import ChildSpec, SupervisorSpec
from opscore.actors.system import System, open_system
from tests.actors.scenario import AnySpec, Diary, Event, Flaw, Life, Line, Scenario, What


class Boom(Exception):
    """Says who failed."""


@attrs.frozen(kw_only=True)
class Cue(Message["Extra", None]):
    """A message of a scenario: crash, leave or work."""

    what: What
    lasts_s: float


class Extra(Actor["Extra"]):
    """Does what its life says."""

    def __init__(self, stage: Stage, name: str, number: int) -> None:
        self.stage = stage
        self.name = name
        self.number = number
        self.life: Life = stage.scenario.life(name, number)

    async def on_start(self) -> None:
        self.stage.refs[self.name] = self.context.ref
        self.stage.write("start", self.name, self.context.incarnation)
        await pause(self.life.start_s)
        if self.life.flaw is Flaw.ON_START:
            raise Boom(f"{self.name} {self.number} did not start")
        self.context.start_soon(self.fuse)

    async def on_stop(self) -> None:
        self.stage.write("stop", self.name, self.context.incarnation)
        await pause(self.life.stop_s)

    async def fuse(self) -> None:
        lit = self.stage.fuses[self.name] = trio.Event()
        try:
            await lit.wait()
        finally:
            if self.stage.fuses.get(self.name) is lit:
                del self.stage.fuses[self.name]
        raise Boom(f"{self.name} {self.context.incarnation} blew up")

    @handles(Cue)
    async def cue(self, message: Cue) -> None:
        await pause(message.lasts_s)
        if message.what is What.CRASH:
            raise Boom(f"{self.name} {self.context.incarnation} crashed")
        if message.what is What.LEAVE:
            self.context.stop()


async def pause(seconds: float) -> None:
    if seconds > 0:
        await trio.sleep(seconds)


class Stage:
    """What the actors and the timeline share."""

    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.lines: list[Line] = []
        self.made: dict[str, int] = {}
        self.refs: dict[str, Ref[Extra]] = {}
        self.fuses: dict[str, trio.Event] = {}
        self.paths: dict[str, str] = {}
        """Of each static child, the path of its supervisor."""
        self.system: System | None = None
        self.over = trio.Event()
        self.around = trio.CancelScope()

    def write(self, what: str, who: str, incarnation: int = 0) -> None:
        self.lines.append(Line(at=trio.current_time(), what=what, who=who, incarnation=incarnation))

    def staged(self, spec: AnySpec, path: str) -> AnySpec:
        """Give a tree the factories that make its actors, and watch who is given up."""
        if isinstance(spec, SupervisorSpec):
            root = spec is self.scenario.root
            below = "/" if root else f"{path.rstrip('/')}/{spec.name}"
            self.paths[spec.name] = path
            children = tuple(self.staged(child, below) for child in spec.children)
            return attrs.evolve(spec, children=children)
        return self.staged_child(spec, path)

    def staged_child(self, spec: ChildSpec[Any], path: str) -> ChildSpec[Extra]:
        self.paths[spec.name] = path

        def make() -> Extra:
            number = self.made[spec.name] = self.made.get(spec.name, 0) + 1
            if self.scenario.life(spec.name, number).flaw is Flaw.FACTORY:
                self.write("cannot make", spec.name, number)
                raise Boom(f"{spec.name} {number} did not start")
            return Extra(self, spec.name, number)

        def given_up(name: str, _: BaseException) -> None:
            self.write("given up", name)

        return attrs.evolve(spec, factory=make, on_given_up=given_up)

    async def perform(self) -> Diary:
        async with trio.open_nursery() as nursery:
            nursery.start_soon(self.timeline, nursery)
            end = await self.tree()
            nursery.cancel_scope.cancel()
        return Diary(lines=tuple(self.lines), end=end, ended_at=trio.current_time())

    async def tree(self) -> str:
        root = self.staged(self.scenario.root, "/")
        assert isinstance(root, SupervisorSpec)
        end = "ended"
        try:
            with self.around:
                async with trio.open_nursery() as nursery, open_system(root) as system:
                    self.system = system
                    nursery.start_soon(self.watch, system)
                    await self.over.wait()
                    nursery.cancel_scope.cancel()
        except* ActorError as group:
            end = end_in_words(group)
        return end

    async def watch(self, system: System) -> None:
        await system.wait_stopped()
        self.over.set()

    async def timeline(self, nursery: trio.Nursery) -> None:
        for event in self.scenario.events:
            await trio.sleep_until(event.at)
            if event.what is What.QUIT:
                self.over.set()
                if self.system is None:
                    self.around.cancel()
            elif event.what is What.START_CHILD:
                self.start_child(event)
            for name in event.names:
                self.happen(event, name, nursery)

    def start_child(self, event: Event) -> None:
        assert event.spec is not None
        with contextlib.suppress(ActorStopped, LookupError):
            if self.system is None:
                return
            path = "/" if event.under == self.scenario.root.name else f"/{event.under}"
            supervisor = self.system.supervisor(path)
            if supervisor.child(event.spec.name) is None:
                self.made[event.spec.name] = 0
                self.refs[event.spec.name] = supervisor.start_child(self.staged_child(event.spec, path))

    def happen(self, event: Event, name: str, nursery: trio.Nursery) -> None:
        if event.what is What.BOMB:
            if name in self.fuses:
                self.fuses[name].set()
        elif event.what is What.STOP_CHILD:
            if self.system is not None and name in self.paths:
                nursery.start_soon(self.stop_child, self.system, self.paths[name], name)
        elif name in self.refs:
            self.refs[name].tell(Cue(what=event.what, lasts_s=event.lasts_s))

    async def stop_child(self, system: System, path: str, name: str) -> None:
        with contextlib.suppress(ActorStopped, LookupError):
            await system.supervisor(path).stop_child(name)


def end_in_words(group: BaseExceptionGroup[ActorError]) -> str:
    """Tell how a system failed by the innermost error."""
    error: BaseException = group
    words = ""
    while True:
        if isinstance(error, BaseExceptionGroup):
            (error,) = error.exceptions
            continue
        words = words or ("never came up" if isinstance(error, StartFailed) else "failed")
        if isinstance(error, SystemFailed | StartFailed):
            error = error.cause
        elif isinstance(error, ActorStopped):
            return f"{words}: {error.actor.rsplit('/', 1)[-1]} stopped"
        else:
            return f"{words}: {error}"


def perform(scenario: Scenario) -> Diary:
    """Perform a scenario from beginning to end, in no real time, and say nothing of all that fails in it."""
    logger = logging.getLogger("opscore.actors")
    before, logger.disabled = logger.disabled, True
    try:
        return trio.run(Stage(scenario).perform, clock=MockClock(autojump_threshold=0))
    finally:
        logger.disabled = before
