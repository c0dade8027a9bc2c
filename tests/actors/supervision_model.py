"""What a supervisor has to decide when a child ends, told again in plain lists.

It forgets nothing: every exit and every restart stays on a list, and whatever is asked is counted anew from there.
"""

from __future__ import annotations

from typing import Any

import attrs

from opscore.actors.backoff import Backoff
from opscore.actors.spec import AutoShutdown, ChildSpec, Intensity, Restart, Strategy, SupervisorSpec
from opscore.actors.supervision import Action

AnySpec = ChildSpec[Any] | SupervisorSpec


@attrs.define
class Ledger:
    """All that ever happened below one supervisor, since it was started last."""

    counted: list[float] = attrs.field(factory=list)
    """When a restart counted against the supervisor."""
    exits: dict[str, list[tuple[float, float]]] = attrs.field(factory=dict)
    """For each child, when it ended in a way that called for a restart, and how long it had run."""

    def of(self, name: str) -> list[tuple[float, float]]:
        return self.exits.get(name, [])

    def forget(self, name: str) -> None:
        """A child that is gone comes back as a stranger."""
        self.exits.pop(name, None)


@attrs.frozen(kw_only=True)
class Ending:
    """How one incarnation ended."""

    child: AnySpec
    failed: bool
    ran_s: float


@attrs.frozen(kw_only=True)
class Verdict:
    """What has to follow."""

    action: Action
    names: tuple[str, ...] = ()
    failures: int = 0
    """Exits in a row that called for a restart."""
    delay_s: float = 0.0
    """How long to wait before the restart, jitter left aside."""


def within(intensity: Intensity, times: list[float], now: float) -> list[float]:
    """Those of the times which the window still holds: exactly as old as the window is long is out."""
    return [at for at in times if now - at < intensity.within_s]


def too_many(intensity: Intensity | None, times: list[float], now: float) -> bool:
    """Whether these times, the present one among them, are more than allowed."""
    return intensity is not None and len(within(intensity, times, now)) > intensity.restarts_max


def in_a_row(backoff: Backoff, runs: list[float]) -> int:
    """How many exits in a row the last of these runs ended."""
    count = 0
    for ran_s in runs:
        if ran_s >= backoff.max_s:
            count = 0
        count += 1
    return count


def delay(backoff: Backoff, failures: int) -> float:
    """The delay after that many failures, multiplied out step by step."""
    delay_s = backoff.initial_s
    for _ in range(failures - 1):
        if delay_s >= backoff.max_s:
            break
        delay_s = delay_s * backoff.coefficient
    return min(delay_s, backoff.max_s)


def calls_for_restart(ending: Ending) -> bool:
    if ending.child.restart is Restart.PERMANENT:
        return True
    if ending.child.restart is Restart.TRANSIENT:
        return ending.failed
    return False


def shuts_down(spec: SupervisorSpec, child: AnySpec, others_significant: int) -> bool:
    """Whether the end of a child by itself, for good, is the end of its supervisor."""
    if not child.significant:
        return False
    if spec.auto_shutdown is AutoShutdown.ANY_SIGNIFICANT:
        return True
    if spec.auto_shutdown is AutoShutdown.ALL_SIGNIFICANT:
        return others_significant == 0
    return False


def group(strategy: Strategy, siblings: tuple[str, ...], name: str) -> tuple[str, ...]:
    if strategy is Strategy.ONE_FOR_ONE:
        return (name,)
    if strategy is Strategy.ONE_FOR_ALL:
        return siblings
    place = siblings.index(name)
    return siblings[place:]


def judge(
    spec: SupervisorSpec,
    ledger: Ledger,
    siblings: tuple[str, ...],
    others_significant: int,
    ending: Ending,
    now: float,
) -> Verdict:
    """Decide, and write down what counts from now on.

    Args:
        spec: The supervisor.
        ledger: What happened below it so far.
        siblings: Names of all children in starting order, the one that ended among them.
        others_significant: How many of the others are significant.
        ending: What ended, and how.
        now: The present.
    """
    child = ending.child
    if not calls_for_restart(ending):
        return Verdict(action=Action.SHUT_DOWN if shuts_down(spec, child, others_significant) else Action.DROP)
    exits = [*ledger.of(child.name), (now, ending.ran_s)]
    ledger.exits[child.name] = exits
    failures = in_a_row(child.backoff, [ran_s for _, ran_s in exits])
    if isinstance(child, ChildSpec) and too_many(child.budget, [at for at, _ in exits], now):
        alone = spec.strategy is Strategy.ONE_FOR_ONE and not child.significant
        return Verdict(action=Action.GIVE_UP if alone else Action.ESCALATE, failures=failures)
    ledger.counted.append(now)
    if too_many(spec.intensity, ledger.counted, now):
        return Verdict(action=Action.ESCALATE, failures=failures)
    return Verdict(
        action=Action.RESTART,
        names=group(spec.strategy, siblings, child.name),
        failures=failures,
        delay_s=delay(child.backoff, failures),
    )
