"""Actors that raise: at any message, before or after they acted on it."""

import functools
from collections.abc import Callable
from types import CoroutineType
from typing import Any

import trio

from opscore.actors.actor import Actor, Routes
from opscore.actors.errors import ActorError
from opscore.runtime.errors import OpscoreError
from opscore.runtime.simulation.faults import Dice


class Struck(Exception):
    """An actor raised because the simulation wants it to."""


class Crashes:
    """Gets between every actor and its messages.

    Args:
        dice: when an actor raises.
        on_bug: told of what an actor raised by itself, which no actor should.
    """

    def __init__(self, dice: Dice, on_bug: Callable[[str, BaseException], None]) -> None:
        self._dice = dice
        self._on_bug = on_bug
        self._routes: dict[type[Actor[Any]], Routes] = {}

    def cast(self, actor: Actor[Any]) -> Actor[Any]:
        """Have an actor raise now and then."""
        kind = type(actor)
        routes = self._routes.get(kind)
        if routes is None:
            handlers = {message: self._between(kind, handler) for message, handler in kind.handler_table.items()}
            routes = self._routes[kind] = Routes(handlers)
        actor.routes = routes
        return actor

    def _between(self, kind: type[Actor[Any]], handler: Callable[..., Any]) -> Callable[..., Any]:
        dice, on_bug, name = self._dice, self._on_bug, kind.__name__

        @functools.wraps(handler)
        async def struck(actor: Actor[Any], message: Any) -> Any:
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
