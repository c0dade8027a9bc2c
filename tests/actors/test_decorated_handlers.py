# ruff: noqa: ARG001 (a test asks for `autojump_clock` by naming it)
"""Handlers that look plain and return something to wait for: it is waited for in the actor's own turn."""

from __future__ import annotations

import functools
from typing import TYPE_CHECKING, Any, ClassVar

import attrs
import pytest
import trio
from trio.testing import MockClock

from opscore.actors import (
    Actor,
    ActorFailed,
    AskTimeout,
    ChildSpec,
    Message,
    Ref,
    SupervisorSpec,
    System,
    handles,
    open_system,
)
from opscore.actors.testkit import Sandbox
from tests.actors.cast import AT_ONCE

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Generator


class Refused(Exception):
    """A declared error."""


@attrs.frozen(kw_only=True)
class Get(Message["Decorated", Any]):
    declared_errors: ClassVar[tuple[type[Exception], ...]] = (Refused,)
    what: str = "answer"
    first: Callable[[Decorated], None] = lambda _: None


class Seen(Get):
    """Goes to a handler whose decorator says what it wraps."""


class Hidden(Get):
    """Goes to a handler whose decorator says nothing."""


class Partial(Get):
    """Goes to a partial of an async function."""


class Object(Get):
    """Goes to a handler that returns something to await that is no coroutine."""


class Later:
    """What can be awaited, and is no coroutine."""

    def __init__(self, awaitable: Awaitable[Any]) -> None:
        self._awaitable = awaitable

    def __await__(self) -> Generator[Any, Any, Any]:
        return self._awaitable.__await__()


class Proxy:
    """Seems to have every attribute, and can't be awaited."""

    def __getattr__(self, name: str) -> str:
        return name


def timed(function: Callable[..., Any]) -> Callable[..., Any]:
    @functools.wraps(function)
    def wrapper(*arguments: Any) -> Any:
        return function(*arguments)

    return wrapper


def counted(function: Callable[..., Any]) -> Callable[..., Any]:
    def wrapper(actor: Decorated, message: Get) -> Any:
        actor.calls += 1
        message.first(actor)
        return function(actor, message)

    return wrapper


async def fail() -> None:
    raise ValueError("beside")


def raise_beside(outcome: object) -> None:
    raise ValueError("beside")


def fail_beside(actor: Decorated) -> None:
    actor.context.start_soon(fail)


async def act(actor: Decorated, message: Get) -> Any:
    if message.what == "raise":
        raise ValueError("boom")
    if message.what == "refuse":
        raise Refused
    if message.what == "defer":
        return actor.context.defer()
    if message.what == "stop":
        actor.context.stop()
    await trio.sleep(1)
    actor.acted += 1
    task = trio.lowlevel.current_task()
    return {"calls": actor.calls, "acted": actor.acted, "task": task}.get(message.what, message.what)


class Decorated(Actor["Decorated"]):
    def __init__(self) -> None:
        self.calls = 0
        self.acted = 0

    @handles(Get)
    def get(self, message: Get) -> Any:
        return Proxy() if message.what == "proxy" else message.what

    seen = handles(Seen)(timed(timed(act)))
    hidden = handles(Hidden)(counted(act))
    partial = handles(Partial)(functools.partial(act))

    @handles(Object)
    def awaitable(self, message: Object) -> Later:
        return Later(act(self, message))


async def start(system: System) -> Ref[Decorated]:
    ref = system.supervisor("/").start_child(ChildSpec(name="decorated", factory=Decorated, backoff=AT_ONCE))
    await ref.ask(Get())
    return ref


ROOT = SupervisorSpec(name="root")
KINDS = [Seen, Hidden, Partial, Object]


@pytest.mark.parametrize("kind", KINDS)
async def test_it_is_waited_for_whether_the_actor_is_idle_or_not(kind: type[Get], autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = await start(system)
        assert await ref.ask(kind()) == "answer"
        ref.tell(kind())
        assert await ref.ask(kind()) == "answer"
        assert await ref.ask(kind(what="acted")) == 4
        assert await ref.ask(kind(what="task")) is not trio.lowlevel.current_task()
        assert system.snapshot()[1].handled == 6
        assert (await Sandbox(Decorated).handle(kind())).reply == "answer"


def test_a_handler_is_as_plain_as_what_its_decorators_say_they_wrap() -> None:
    assert [Decorated.routes.is_plain(kind) for kind in (Get, *KINDS)] == [True, False, True, False, True]


async def test_a_decorator_is_called_once_for_a_message(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = await start(system)
        assert [await ref.ask(Hidden(what="calls")) for _ in range(3)] == [1, 2, 3]


async def test_one_message_at_a_time_holds_meanwhile(autojump_clock: MockClock) -> None:
    answers: list[Any] = []
    async with open_system(ROOT) as system:
        ref = await start(system)

        async def ask(message: Get) -> None:
            answers.append(await ref.ask(message))

        async with trio.open_nursery() as nursery:
            nursery.start_soon(ask, Hidden())
            await trio.sleep(0.5)
            assert system.snapshot()[1].current == "Hidden"
            nursery.start_soon(ask, Get(what="after it"))
        assert answers == ["answer", "after it"]


async def test_what_is_raised_and_what_is_late_is_told_as_of_any_handler(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = await start(system)
        with pytest.raises(Refused):
            await ref.ask(Hidden(what="refuse"))
        with pytest.raises(AskTimeout):
            await ref.ask(Hidden(what="defer"), timeout_s=3)
        with pytest.raises(AskTimeout):
            await ref.ask(Hidden(), timeout_s=0.5)
        assert system.snapshot()[1].incarnation == 1
        with pytest.raises(ActorFailed, match="boom"):
            await ref.ask(Hidden(what="raise"))
        assert await ref.ask(Hidden(what="calls")) == 1
        assert system.snapshot()[1].incarnation == 2


async def test_an_actor_that_crashes_or_stops_meanwhile_ends_as_in_any_handler(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = await start(system)
        assert await ref.ask(Hidden(what="stop")) == "stop"
        with pytest.raises(ActorFailed, match="beside"):
            await ref.ask(Hidden(first=fail_beside))
        assert await ref.ask(Hidden(what="acted")) == 1
        assert system.snapshot()[1].incarnation == 3


async def test_an_actor_that_fails_before_that_turn_does_not_go_on(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = await start(system)
        gone = system.supervisor("/").start_child(ChildSpec(name="gone", factory=Decorated))
        await system.supervisor("/").stop_child("gone")

        def fail_at_once(actor: Decorated) -> None:
            # Nobody takes the question, and what comes of it is told before this returns.
            actor.context.ask_soon(gone, Get(), raise_beside)
            actors.append(actor)

        actors: list[Decorated] = []
        with pytest.raises(ActorFailed, match="beside"):
            await ref.ask(Hidden(first=fail_at_once))
        await trio.sleep(5)
        assert [(actor.calls, actor.acted) for actor in actors] == [(1, 0)]
        assert await ref.ask(Hidden()) == "answer"


async def test_what_only_seems_to_have_every_attribute_is_an_answer(autojump_clock: MockClock) -> None:
    async with open_system(ROOT) as system:
        ref = await start(system)
        assert isinstance(await ref.ask(Get(what="proxy")), Proxy)
        ref.tell(Get())
        assert isinstance(await ref.ask(Get(what="proxy")), Proxy)
