"""Leaks that are planted in the server, to prove that each is found."""

from collections.abc import Callable
from typing import Any, Final

from opscore.runtime.runs.open_runs import OpenRuns
from opscore.runtime.runs.session import SessionActor
from opscore.runtime.timers import TimersActor

_KEPT: list[object] = []


def _nothing(_: Any, __: Any) -> None:
    """Do nothing, in place of a method that takes one argument."""


def _runs_are_never_discarded() -> None:
    """Every run that has ended still counts as unfinished."""
    OpenRuns.discard = _nothing  # type: ignore[method-assign, assignment]


def _actors_are_kept() -> None:
    """Every actor of a run is kept when it has ended."""
    before = SessionActor.on_start

    async def on_start(self: SessionActor) -> None:
        _KEPT.append(self)
        await before(self)

    SessionActor.on_start = on_start  # type: ignore[method-assign, assignment]


def _times_are_kept() -> None:
    """Timers of entities that ended earlier stay armed."""
    TimersActor._disarm = _nothing  # type: ignore[method-assign, assignment]  # noqa: SLF001


LEAKS: Final[dict[str, Callable[[], None]]] = {
    "runs-are-never-discarded": _runs_are_never_discarded,
    "actors-are-kept": _actors_are_kept,
    "times-are-kept": _times_are_kept,
}


def plant(name: str) -> None:
    """Plant the leak of this name, or none for an empty name."""
    if name:
        LEAKS[name]()
