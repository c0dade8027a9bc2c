"""Makes actors raise at any message, before or after they handle it."""

import functools
from collections.abc import Callable
from types import CoroutineType
from typing import Any, Final

import trio

from opscore.actors.actor import Actor, Handler, Routes
from opscore.actors.errors import ActorError
from opscore.runtime.errors import OpscoreError
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.simulation.faults import Dice

POISONED_S: Final = 60.0
"""How long the actor of a poisoned run raises at every message."""


class Struck(Exception):
    """The simulation made an actor raise."""


class Crashes:
    """Wraps the message handlers of every actor.

    Args:
        dice: decides when an actor raises.
        on_bug: called with each exception that an actor raises by itself, which is a bug.
    """

    def __init__(self, dice: Dice, on_bug: Callable[[str, BaseException], None]) -> None:
        self._dice = dice
        self._on_bug = on_bug
        self._routes: dict[type[Actor[Any]], _StruckRoutes] = {}
        self._poisoned: dict[str, float] = {}

    def cast(self, actor: Actor[Any]) -> Actor[Any]:
        """Make an actor raise now and then."""
        kind = type(actor)
        routes = self._routes.get(kind)
        if routes is None:
            routes = self._routes[kind] = _StruckRoutes(kind.routes, functools.partial(self._between, kind.__name__))
        actor.routes = routes
        return actor

    def _between(self, name: str, handler: Handler) -> Handler:
        dice, on_bug = self._dice, self._on_bug

        async def struck(actor: Actor[Any], message: Any) -> Any:
            if isinstance(actor, SessionActor) and self._is_poisoned(actor.context.ref.name):
                raise Struck(f"{name} at {type(message).__name__}, as at any other")
            strikes = dice.happens("actor_raises")
            if strikes and dice.rng("actor_raises").random() < 0.5:  # noqa: PLR2004 (an even chance)
                raise Struck(f"{name} before {type(message).__name__}")
            try:
                value = handler(actor, message)
                if type(value) is CoroutineType:
                    value = await value
            except (OpscoreError, ActorError, trio.Cancelled):
                raise
            except Exception as error:
                on_bug(f"{name} at {type(message).__name__}", error)
                raise
            if strikes:
                raise Struck(f"{name} after {type(message).__name__}")
            return value

        return struck

    def _is_poisoned(self, name: str) -> bool:
        """Whether the actor of a run raises at every message for now."""
        if self._dice.quiet:
            return False
        if trio.current_time() < self._poisoned.get(name, 0.0):
            return True
        if not self._dice.happens("run_poisoned"):
            return False
        self._poisoned[name] = trio.current_time() + POISONED_S
        return True


class _StruckRoutes(Routes):
    """The routes of a kind of actor; each handler is wrapped at its first message, as many never get one."""

    def __init__(self, routes: Routes, between: Callable[[Handler], Handler]) -> None:
        super().__init__()
        self._routes = routes
        self._between = between

    def __missing__(self, message_type: type[Any]) -> Handler | None:
        handler = self._routes[message_type]
        found = self[message_type] = None if handler is None else self._between(handler)
        return found
