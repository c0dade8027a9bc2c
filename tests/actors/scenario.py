"""A scripted life of a tree of actors: who is in it, what each incarnation does, what happens to it from outside."""

from __future__ import annotations

import enum
from collections.abc import Iterator, Mapping
from typing import Any

import attrs

from opscore.actors.spec import ChildSpec, SupervisorSpec

AnySpec = ChildSpec[Any] | SupervisorSpec


class Flaw(enum.Enum):
    """How a start fails, if it does."""

    NONE = "comes up"
    FACTORY = "factory raises"
    ON_START = "on_start raises"


@attrs.frozen(kw_only=True)
class Life:
    """What one incarnation does."""

    start_s: float = 0.0
    """How long its `on_start` takes, a failing one too."""
    flaw: Flaw = Flaw.NONE
    stop_s: float = 0.0
    """How long its `on_stop` would take if nobody cancelled it."""

    def __str__(self) -> str:
        return f"(start {self.start_s:g}, {self.flaw.value}, stop {self.stop_s:g})"


class What(enum.Enum):
    """What the outside does to a tree."""

    BOMB = "makes it fail beside its handlers"
    CRASH = "tells it to fail"
    LEAVE = "tells it to stop by itself"
    WORK = "tells it to be busy"
    STOP_CHILD = "stops it"
    START_CHILD = "starts it"
    QUIT = "leaves the system"


@attrs.frozen(kw_only=True)
class Event:
    """One thing that the outside does."""

    at: float
    what: What
    names: tuple[str, ...] = ()
    """Whom it is done to; two for what happens to both at once."""
    lasts_s: float = 0.0
    """How long a message is handled until what it asks for happens."""
    spec: ChildSpec[Any] | None = None
    """What START_CHILD starts."""
    under: str = ""
    """Name of the supervisor that starts it."""

    def __str__(self) -> str:
        whom = " and ".join(self.names)
        lasting = f", takes {self.lasts_s:g}" if self.lasts_s else ""
        under = f" under {self.under}: {_spec_words(self.spec)}" if self.spec is not None else ""
        return f"{self.at:<10g} {self.what.name.lower()} {whom}{lasting}{under}"


@attrs.frozen(kw_only=True)
class Line:
    """One line of a diary."""

    at: float
    what: str
    who: str
    incarnation: int = 0

    def __str__(self) -> str:
        return f"{self.at:<12.6f} {self.what} {self.who} {self.incarnation or ''}".rstrip()


@attrs.frozen(kw_only=True, repr=False)
class Diary:
    """Everything that can be seen of one performance."""

    lines: tuple[Line, ...]
    end: str
    """How it ended: "ended", or who failed the root, and whether it had come up."""
    ended_at: float

    def __repr__(self) -> str:
        return f"\n{self}\n"

    def __str__(self) -> str:
        return "\n".join([*map(str, self.lines), f"{self.ended_at:<12.6f} {self.end}"])


@attrs.frozen(kw_only=True, repr=False)
class Scenario:
    """A tree, a script and a timeline; printed, it can be read."""

    root: SupervisorSpec
    lives: Mapping[str, tuple[Life, ...]]
    """What each child does, life by life; the last one again and again."""
    events: tuple[Event, ...] = ()
    """In order of time; the last one is QUIT."""

    def life(self, name: str, number: int) -> Life:
        """What the instance of a child does that its factory made as the `number`th, counted from 1."""
        lives = self.lives.get(name, (Life(),))
        return lives[min(number, len(lives)) - 1]

    def __repr__(self) -> str:
        return f"\n{self}\n"

    def _repr_pretty_(self, printer: Any, _: bool) -> None:
        """Hypothesis prints an example in these words, too."""
        printer.text(repr(self))

    def __str__(self) -> str:
        lives = (f"  {name}: {' '.join(map(str, each))}" for name, each in self.lives.items())
        events = (f"  {event}" for event in self.events)
        return "\n".join(["tree", *_tree_words(self.root, "  "), "lives", *lives, "events", *events])


def _tree_words(spec: AnySpec, indent: str) -> Iterator[str]:
    yield indent + _spec_words(spec)
    if isinstance(spec, SupervisorSpec):
        for child in spec.children:
            yield from _tree_words(child, indent + "  ")


def _spec_words(spec: AnySpec) -> str:
    words = [spec.name, spec.restart.value, f"shutdown {spec.shutdown_s:g}"]
    backoff = spec.backoff
    words.append(f"backoff {backoff.initial_s:g}*{backoff.coefficient:g}^n<={backoff.max_s:g}")
    if isinstance(spec, SupervisorSpec):
        intensity = spec.intensity
        words += [spec.strategy.value, "no ceiling" if intensity is None else f"intensity {_window_words(intensity)}"]
        words.append(f"auto_shutdown {spec.auto_shutdown.value}")
    elif spec.budget is not None:
        words.append(f"budget {_window_words(spec.budget)}")
    if spec.significant:
        words.append("significant")
    return ", ".join(words)


def _window_words(intensity: Any) -> str:
    return f"{intensity.restarts_max} in {intensity.within_s:g}"
