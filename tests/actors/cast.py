"""The actors that the tests of this package play with, and what they say to each other."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar

import attrs
import pytest
import trio

from opscore.actors.actor import Actor, handles
from opscore.actors.backoff import Backoff
from opscore.actors.errors import ActorFailed
from opscore.actors.mailbox_spec import MailboxSpec
from opscore.actors.message import Message
from opscore.actors.ref import Ref, Reply
from opscore.actors.spec import ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from opscore.actors.system import System

AT_ONCE = Backoff(initial_s=0.0, jitter=0.0)
DEFAULT = Intensity()


class Refusal(Exception):
    """A declared error."""


@attrs.frozen(kw_only=True)
class Note(Message["Player", None]):
    text: str


@attrs.frozen(kw_only=True)
class Recall(Message["Player", tuple[str, ...]]):
    pass


@attrs.frozen(kw_only=True)
class Crash(Message["Player", None]):
    error: Exception = attrs.field(factory=lambda: ValueError("boom"))


@attrs.frozen(kw_only=True)
class Refuse(Message["Player", None]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (Refusal,)


@attrs.frozen(kw_only=True)
class Work(Message["Player", str]):
    seconds: float


@attrs.frozen(kw_only=True)
class Defer(Message["Player", str]):
    pass


@attrs.frozen(kw_only=True)
class Settle(Message["Player", None]):
    value: str


@attrs.frozen(kw_only=True)
class AskOn(Message["Player", str]):
    """Asks along a path of actors; the last one answers with its name."""

    path: tuple[Ref[Player], ...]
    timeout_s: float = 30.0


@attrs.frozen(kw_only=True)
class Leave(Message["Player", bool]):
    if_quiet: bool = False


@attrs.frozen(kw_only=True)
class Do(Message["Player", Any]):
    """Runs a function on the actor, for what has no message of its own."""

    action: Callable[[Player], Any]


@attrs.frozen(kw_only=True)
class Unheard(Message["Player", None]):
    """Nobody handles this."""


class Player(Actor["Player"]):
    """Writes down what happens to it in a diary that outlives it."""

    def __init__(self, diary: list[str]) -> None:
        self.diary = diary
        self.notes: list[str] = []
        self.deferred: list[Reply[Any]] = []

    async def on_start(self) -> None:
        self.diary.append(f"start {self.context.name} {self.context.incarnation}")

    async def on_stop(self) -> None:
        self.diary.append(f"stop {self.context.name} {self.context.incarnation}")

    @handles(Note)
    async def note(self, message: Note) -> None:
        self.notes.append(message.text)
        self.diary.append(message.text)

    @handles(Recall)
    async def recall(self, message: Recall) -> tuple[str, ...]:
        return tuple(self.notes)

    @handles(Crash)
    async def crash(self, message: Crash) -> None:
        raise message.error

    @handles(Refuse)
    async def refuse(self, message: Refuse) -> None:
        raise Refusal(self.context.name)

    @handles(Work)
    async def work(self, message: Work) -> str:
        await trio.sleep(message.seconds)
        return "done"

    @handles(Defer)
    async def defer(self, message: Defer) -> Reply[str]:
        reply: Reply[str] = self.context.defer()
        self.deferred.append(reply)
        return reply

    @handles(Settle)
    async def settle(self, message: Settle) -> None:
        for reply in self.deferred:
            reply.set(message.value)

    @handles(AskOn)
    async def ask_on(self, message: AskOn) -> str:
        if not message.path:
            return self.context.name
        onward = AskOn(path=message.path[1:], timeout_s=message.timeout_s)
        return await message.path[0].ask(onward, timeout_s=message.timeout_s)

    @handles(Leave)
    async def leave(self, message: Leave) -> bool:
        if message.if_quiet:
            return self.context.stop_if_quiet()
        self.context.stop()
        return True

    @handles(Do)
    async def do(self, message: Do) -> Any:
        return message.action(self)


def play(
    name: str,
    diary: list[str] | None = None,
    *,
    factory: Callable[[], Actor[Player]] | None = None,
    restart: Restart = Restart.PERMANENT,
    backoff: Backoff = AT_ONCE,
    mailbox: MailboxSpec | None = None,
    budget: Intensity | None = None,
    shutdown_s: float = 5.0,
    on_given_up: Callable[[str, BaseException], None] | None = None,
) -> ChildSpec[Player]:
    """A child that plays, restarted at once unless told otherwise."""
    pages: list[str] = [] if diary is None else diary
    return ChildSpec(
        name=name,
        factory=factory if factory is not None else lambda: Player(pages),
        restart=restart,
        backoff=backoff,
        mailbox=MailboxSpec() if mailbox is None else mailbox,
        budget=budget,
        shutdown_s=shutdown_s,
        on_given_up=on_given_up,
    )


def tree(
    *children: ChildSpec[Player] | SupervisorSpec,
    strategy: Strategy = Strategy.ONE_FOR_ONE,
    intensity: Intensity | None = DEFAULT,
) -> SupervisorSpec:
    """A root supervisor with these children."""
    return SupervisorSpec(name="root", strategy=strategy, intensity=intensity, children=children)


def the(system: System, path: str) -> Ref[Player]:
    """The live actor of a path."""
    ref = system.ref(path)
    assert ref is not None
    return ref


async def crash(ref: Ref[Player]) -> None:
    """Crash an actor and give its supervisor a second."""
    with pytest.raises(ActorFailed):
        await ref.ask(Crash())
    await trio.sleep(1)
