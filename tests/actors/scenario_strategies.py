"""What Hypothesis draws scenarios from.

Every duration is a whole number of seconds and a fraction that no other duration has, so that two things which know
nothing of each other hardly ever fall on one instant, and what happens first is no matter of luck.
"""

from __future__ import annotations

from typing import TypeVar

import attrs
from hypothesis import strategies as st

from opscore.actors.actor import Actor
from opscore.actors.backoff import Backoff
from opscore.actors.spec import AutoShutdown, ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from tests.actors.scenario import AnySpec, Event, Flaw, Life, Scenario, What

T = TypeVar("T")

ROOT = "root"
BRANCH = "n"
STATIC = ("a", "b", "c", "d")
BELOW = ("n1", "n2", "n3")
DYNAMIC = ("x", "y")
FOR_EVER_S = 100_000.0
LIVES_MAX = 3
EVENTS_MAX = 12
TOLD = (What.CRASH, What.LEAVE, What.WORK)


@attrs.define
class Playwright:
    """Draws one scenario."""

    draw: st.DrawFn
    together: bool
    """Whether two children may blow up at once; nothing else is instantaneous then."""
    count: int = 0
    lives: dict[str, tuple[Life, ...]] = attrs.field(factory=dict)

    def one_of(self, *choices: T) -> T:
        return self.draw(st.sampled_from(choices))

    def whole(self, least: int, most: int) -> int:
        return self.draw(st.integers(min_value=least, max_value=most))

    def yes(self) -> bool:
        return self.draw(st.booleans())

    def seconds(self, least: int, most: int) -> float:
        # An odd multiple of the step is coprime to the number of steps: the fractions repeat after all of them only.
        self.count += 1
        return self.whole(least, most) + (self.count * 40_503 % 2**16 or 1) / 2**17

    def maybe_nothing(self, most: int) -> float:
        seconds = self.seconds(0, most)
        return seconds if self.together or self.yes() else 0.0

    def window(self, least: int, most: int) -> Intensity:
        return Intensity(restarts_max=self.whole(least, most), within_s=self.seconds(3, 60))

    def backoff(self) -> Backoff:
        return Backoff(
            initial_s=self.maybe_nothing(3),
            coefficient=float(self.whole(1, 3)),
            max_s=self.seconds(1, 20),
            jitter=0.0,
        )

    def life(self, *, flawed: bool) -> Life:
        return Life(
            start_s=self.maybe_nothing(3),
            flaw=self.one_of(*[Flaw.NONE] * 6, Flaw.ON_START, Flaw.FACTORY) if flawed else Flaw.NONE,
            stop_s=self.maybe_nothing(4),
        )

    def child(self, name: str, auto_shutdown: AutoShutdown) -> ChildSpec[Actor[None]]:
        if name not in self.lives:
            # A child comes up in the end: one that never does, below no ceiling, would go on for ever.
            flawed = [self.life(flawed=True) for _ in range(self.whole(0, LIVES_MAX - 1))]
            self.lives[name] = (*flawed, self.life(flawed=False))
        restart = self.one_of(*Restart)
        return ChildSpec(
            name=name,
            factory=Actor,
            restart=restart,
            significant=self.significant(restart, auto_shutdown),
            backoff=self.backoff(),
            budget=self.one_of(None, None, self.window(0, 2)),
            shutdown_s=self.seconds(1, 5),
        )

    def significant(self, restart: Restart, auto_shutdown: AutoShutdown) -> bool:
        return auto_shutdown is not AutoShutdown.NEVER and restart is not Restart.PERMANENT and self.yes()

    def supervisor(
        self, name: str, children: tuple[str, ...], outer: AutoShutdown = AutoShutdown.NEVER
    ) -> SupervisorSpec:
        auto_shutdown = self.one_of(AutoShutdown.NEVER, *AutoShutdown)
        restart = self.one_of(*Restart)
        parts: list[AnySpec] = [
            self.supervisor(each, BELOW[: self.whole(1, 3)], auto_shutdown)
            if each == BRANCH
            else self.child(each, auto_shutdown)
            for each in children
        ]
        return SupervisorSpec(
            name=name,
            strategy=self.one_of(*Strategy),
            intensity=self.one_of(None, self.window(0, 2), self.window(2, 8)),
            auto_shutdown=auto_shutdown,
            children=tuple(parts),
            shutdown_s=FOR_EVER_S,
            restart=restart,
            significant=self.significant(restart, outer),
            backoff=self.backoff(),
        )

    def event(self, present: tuple[str, ...], supervisors: dict[str, SupervisorSpec]) -> Event:
        often = (What.BOMB, What.CRASH, What.START_CHILD)
        what = self.one_of(*often, *often, What.LEAVE, What.WORK, What.STOP_CHILD)
        at = self.seconds(0, 40)
        if what is What.START_CHILD:
            under = self.one_of(*supervisors)
            name = self.one_of(*DYNAMIC) if under == ROOT else f"{under}-x"
            return Event(at=at, what=what, spec=self.child(name, supervisors[under].auto_shutdown), under=under)
        whom = (*present, *supervisors) if what is What.STOP_CHILD else present
        name = self.one_of(*[each for each in whom if each != ROOT])
        return Event(at=at, what=what, names=(name,), lasts_s=self.seconds(0, 4) if what in TOLD else 0.0)

    def scenario(self) -> Scenario:
        names = STATIC[: self.one_of(3, 2, 1, 4)]
        if self.whole(0, 2) == 0:
            place = self.whole(0, len(names) - 1)
            names = (*names[:place], BRANCH, *names[place + 1 :])
        root = self.supervisor(ROOT, names)
        supervisors = {ROOT: root} | {each.name: each for each in root.children if isinstance(each, SupervisorSpec)}
        static = tuple(name for name in self.lives)
        present = (*static, *DYNAMIC, *(f"{each}-x" for each in supervisors if each != ROOT))
        events = [self.event(present, supervisors) for _ in range(self.one_of(6, *range(EVENTS_MAX + 1)))]
        if self.together and len(static) > 1:
            pair = self.draw(st.lists(st.sampled_from(static), min_size=2, max_size=2, unique=True))
            events.append(Event(at=self.seconds(0, 40), what=What.BOMB, names=tuple(pair)))
        end = self.seconds(*self.one_of((50, 80), (50, 80), (0, 50)))
        events = sorted([event for event in events if event.at < end], key=lambda event: event.at)
        return Scenario(root=root, lives=self.lives, events=(*events, Event(at=end, what=What.QUIT)))


@st.composite
def scenarios(draw: st.DrawFn, *, together: bool = False) -> Scenario:
    """Trees, scripts and timelines."""
    return Playwright(draw=draw, together=together).scenario()
