"""The actor that known traps are laid for, and the Instrument that counts what a scheduler does meanwhile."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from typing import Any

import attrs
import trio
from trio.testing import MockClock

from opscore.actors.actor import Actor, Terminated, handles
from opscore.actors.backoff import Backoff
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.message import Message
from opscore.actors.ref import Ref, Reply
from opscore.actors.spec import ChildSpec, Intensity, Restart
from opscore.actors.system import System

AT_ONCE = Backoff(initial_s=0.0, jitter=0.0)
FOR_EVER_S = 1e6


@attrs.frozen(kw_only=True)
class Crash(Message["Subject", None]):
    pass


@attrs.frozen(kw_only=True)
class Note(Message["Subject", None]):
    number: int


@attrs.frozen(kw_only=True)
class Recall(Message["Subject", int]):
    """Answers with the incarnation."""


@attrs.frozen(kw_only=True)
class Work(Message["Subject", None]):
    seconds: float


@attrs.frozen(kw_only=True)
class Defer(Message["Subject", None]):
    """Never answered."""


@attrs.frozen(kw_only=True)
class Do(Message["Subject", None]):
    """Runs a function with the actor."""

    work: Callable[[Subject], Awaitable[object]]


class Subject(Actor["Subject"]):
    """Writes down when it starts and stops, and which notes it took."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary

    async def on_start(self) -> None:
        self.diary.append(f"start {self.context.name} {self.context.incarnation}")

    async def on_stop(self) -> None:
        self.diary.append(f"stop {self.context.name} {self.context.incarnation}")

    @handles(Crash)
    async def crash(self, message: Crash) -> None:
        raise ValueError("boom")

    @handles(Note)
    async def note(self, message: Note) -> None:
        self.diary.append(f"note {message.number}")

    @handles(Recall)
    async def recall(self, message: Recall) -> int:
        return self.context.incarnation

    @handles(Work)
    async def work(self, message: Work) -> None:
        await trio.sleep(message.seconds)

    @handles(Defer)
    async def defer(self, message: Defer) -> Reply[None]:
        return self.context.defer()

    @handles(Do)
    async def do(self, message: Do) -> None:
        await message.work(self)

    @handles(Terminated)
    async def terminated(self, message: Terminated) -> None:
        self.diary.append(f"heard that {message.actor} is gone")


class SlowToStart(Subject):
    async def on_start(self) -> None:
        await super().on_start()
        await trio.sleep(5)


class SlowToStop(Subject):
    """Takes a hundred seconds."""

    async def on_stop(self) -> None:
        await super().on_stop()
        await trio.sleep(100)


class Broken(Subject):
    """Never starts but the first time."""

    async def on_start(self) -> None:
        await super().on_start()
        if self.context.incarnation > 1:
            raise ValueError("broken")


def child(
    name: str,
    diary: list[str] | None = None,
    *,
    cast: type[Subject] = Subject,
    restart: Restart = Restart.PERMANENT,
    backoff: Backoff = AT_ONCE,
    mailbox: MailboxSpec | None = None,
    budget: Intensity | None = None,
    shutdown_s: float = 5.0,
) -> ChildSpec[Subject]:
    """A child that is restarted at once unless told otherwise."""
    pages: list[str] = [] if diary is None else diary
    return ChildSpec(
        name=name,
        factory=lambda: cast(pages),
        restart=restart,
        backoff=backoff,
        mailbox=MailboxSpec() if mailbox is None else mailbox,
        budget=budget,
        shutdown_s=shutdown_s,
    )


def the(system: System, path: str) -> Ref[Subject]:
    """The live actor of a path."""
    ref: Ref[Any] | None = system.ref(path)
    assert ref is not None
    return ref


class Steps(trio.abc.Instrument):
    """Counts the steps of the scheduler. Beyond a limit it moves the clock on, so that who spins comes to an end."""

    def __init__(self, clock: MockClock, most: int, then_jump_s: float) -> None:
        self.count = 0
        self._clock = clock
        self._most = most
        self._then_jump_s = then_jump_s

    def before_task_step(self, task: trio.lowlevel.Task) -> None:
        self.count += 1
        if self.count > self._most:
            self._clock.jump(self._then_jump_s)
