"""A world as data: what is run, by whom, and what goes wrong. The same scenario is the same history."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

import attrs

from opscore.runtime.limits import Limits
from opscore.runtime.models import Missed, Move
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel

SIMULATED_LIMITS: Final = Limits(close_grace_s=0.1, passivate_s=5.0)
"""As usual, but what passes after a while does so within a short world."""


IMPORTS: Final = """\
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.models import Missed, Move
from opscore.runtime.simulation import AgentModel, Calendar, Cordon, Faults, Latency, Look
from opscore.runtime.simulation import Scenario, Skill, Steering, Sweep, Telling, Trigger, play
"""
"""What a scenario that is told as Python begins with."""


@attrs.frozen(kw_only=True)
class Trigger:
    """A client that starts a run, and asks again until it is accepted."""

    at_s: float = 0.0
    workflow: int = 0
    """Which of the scenario's workflows."""
    payload: Any = None
    agent_id: str | None = None
    key: str | None = None
    """An idempotency key; two triggers may share one. Without it, each has its own."""
    says_body: bool = True
    """Whether it says the body that its key stands for, its workflow and payload; else that is all that it asks for."""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    business_key: str | None = None


@attrs.frozen(kw_only=True)
class Cordon:
    """An operator who takes an agent out of dispatch for a while."""

    agent_id: str
    at_s: float = 0.0
    lasts_s: float = 60.0
    drains: bool = False
    """Whether somebody waits as long until it holds no lease."""


@attrs.frozen(kw_only=True)
class Steering:
    """An operator who steers the run of a trigger, and asks again until that is answered."""

    move: Move
    """A pause is followed by its end."""
    trigger: int = 0
    """Whose run."""
    at_s: float = 0.0
    """So long after the run was accepted."""
    lasts_s: float = 30.0
    """Of a pause."""
    when_ended: bool = False
    """Not before the run has ended."""
    below: bool = False
    """It is one of the runs that its tasks wait for, where they wait for any, and not itself."""
    reason: str | None = None


@attrs.frozen(kw_only=True)
class Telling:
    """Somebody who tells the run of a trigger something by name, and again until that is answered."""

    name: str
    trigger: int = 0
    """Whose run."""
    at_s: float = 0.0
    """So long after the run was accepted."""
    payload: Any = None


@attrs.frozen(kw_only=True)
class Sweep:
    """An operator who goes through the dead letters that there are at a time."""

    at_s: float = 0.0
    replays: bool = False
    """Each is tried again, and not discarded."""
    code: str | None = None
    """All those that failed by this code are tried again, by as few calls as that takes."""


@attrs.frozen(kw_only=True)
class Look:
    """Somebody who looks runs up by what they were given."""

    at_s: float = 0.0
    labels: Mapping[str, str] = attrs.field(factory=dict)
    business_key: str | None = None
    limit: int = 100
    """Runs of a page; he looks at all pages."""


@attrs.frozen(kw_only=True)
class Calendar:
    """An operator who has runs of a saved workflow start by themselves, and takes the schedule away after a while."""

    workflow_id: str
    """One of those that are saved."""
    cron: str | None = None
    in_s: float | None = None
    """A single due time, so long after it was asked for; either this or `cron`."""
    agent_id: str | None = None
    """The agent of its runs."""
    missed: Missed = Missed.ONCE
    at_s: float = 0.0
    lasts_s: float = 120.0
    pauses_after_s: float | None = None
    """When it is paused, for a while."""
    other: Missed | None = None
    """What somebody else would have become of missed times under the same id, who is refused."""


SETTLE_S: Final = 48 * 3_600.0
"""Agents may hang for hours, and what waits for them then still has to be done: the patience of drawn worlds."""


@attrs.frozen(kw_only=True)
class Scenario:
    """Everything that makes a world. Times are virtual seconds from its beginning."""

    seed: int = 0
    workflows: Sequence[Mapping[str, Any]] = ()
    saved: Sequence[Mapping[str, Any]] = ()
    """Workflows that are saved at the beginning, for others to start by their id."""
    agents: Sequence[AgentModel] = ()
    triggers: Sequence[Trigger] = ()
    cordons: Sequence[Cordon] = ()
    steerings: Sequence[Steering] = ()
    tellings: Sequence[Telling] = ()
    calendars: Sequence[Calendar] = ()
    sweeps: Sequence[Sweep] = ()
    looks: Sequence[Look] = ()
    faults: Faults = Faults()
    faults_until_s: float = 300.0
    """From then on nothing goes wrong any more, and every run has to come to its end."""
    settle_s: float = 6 * 3_600.0
    """Within so long after that."""
    limits: Limits = SIMULATED_LIMITS

    def python(self, own: str | None = None) -> str:
        """This scenario as Python that plays it again.

        Args:
            own: the promise that it broke, where that is not one of the runtime's: what it was played with has to be
                given again then.
        """
        if own is None:
            return f"{IMPORTS}\nplay({self.source()}).check()\n"
        said = f"# `invariants` is what it was played with: {own} is no promise of opscore's."
        return f"{IMPORTS}\n{said}\nplay({self.source()}, invariants).check()\n"

    def source(self) -> str:
        """This scenario as an expression, for which `IMPORTS` has all names."""
        return _python(self, "")


def _python(value: Any, indent: str) -> str:
    """Source that makes this value: what is left at its default is left out."""
    inner = indent + "    "
    if attrs.has(type(value)):
        fields = [
            f"{inner}{field.name}={_python(getattr(value, field.name), inner)},\n"
            for field in attrs.fields(type(value))
            if not _is_default(value, field)
        ]
        return f"{type(value).__name__}(\n{''.join(fields)}{indent})" if fields else f"{type(value).__name__}()"
    if isinstance(value, Mapping) and value:
        lines = "".join(f"{inner}{key!r}: {_python(item, inner)},\n" for key, item in value.items())
        return f"{{\n{lines}{indent}}}"
    if isinstance(value, list | tuple) and any(attrs.has(type(item)) or isinstance(item, Mapping) for item in value):
        return "[\n" + "".join(f"{inner}{_python(item, inner)},\n" for item in value) + f"{indent}]"
    if isinstance(value, Enum):
        return f"{type(value).__name__}.{value.name}"
    return repr(list(value) if isinstance(value, tuple) else value)


def _is_default(value: Any, field: "attrs.Attribute[Any]") -> bool:
    default: Any = field.default
    if hasattr(default, "factory"):
        default = default.factory()
    return bool(getattr(value, field.name) == default)
