"""A world as data: its workflows, agents, clients and faults. The same scenario gives the same history."""

from collections.abc import Mapping, Sequence
from enum import Enum
from typing import Any, Final

import attrs

from opscore.runtime.limits import Limits
from opscore.runtime.models import Missed, Move
from opscore.runtime.simulation.faults import Faults
from opscore.runtime.simulation.fleet import AgentModel

SIMULATED_LIMITS: Final = Limits(close_grace_s=0.1, passivate_s=5.0)
"""The default limits, with the delays shortened to fit into a short world."""


IMPORTS: Final = """\
from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.models import Missed, Move
from opscore.runtime.simulation import AgentModel, Calendar, Cordon, Faults, Latency, Look
from opscore.runtime.simulation import Scenario, Skill, Steering, Sweep, Telling, Trigger, play
"""
"""The imports at the top of a scenario that is printed as Python."""


@attrs.frozen(kw_only=True)
class Trigger:
    """A client that starts a run, and repeats its request until that is accepted."""

    at_s: float = 0.0
    """When it asks first."""
    workflow: int = 0
    """The index of one of the scenario's workflows."""
    payload: Any = None
    """The run's input, in JSON."""
    agent_id: str | None = None
    """The run's agent; needed if a task names neither capability nor agent."""
    key: str | None = None
    """The idempotency key, which two triggers may share; None for one of its own."""
    says_body: bool = True
    """Whether it says the body that its key stands for (workflow and payload). If not, the key stands for all that the
    trigger asks for."""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    """The run's labels."""
    business_key: str | None = None
    """The run's business key."""


@attrs.frozen(kw_only=True)
class Cordon:
    """An operator who cordons an agent for a while, so that it gets no new work."""

    agent_id: str
    """The agent, as `AgentModel.ids` names it."""
    at_s: float = 0.0
    """When it is cordoned."""
    lasts_s: float = 60.0
    """How long until it is put back, in seconds."""
    drains: bool = False
    """Whether the operator drains the agent: waits, for that time at most, until it holds no lease."""


@attrs.frozen(kw_only=True)
class Steering:
    """An operator who steers the run of a trigger, and repeats the request until it is answered."""

    move: Move
    """What to do with the run. A pause is followed by a resume."""
    trigger: int = 0
    """The index of the trigger that started the run."""
    at_s: float = 0.0
    """Seconds after the run was accepted."""
    lasts_s: float = 30.0
    """How long a pause lasts, in seconds."""
    when_ended: bool = False
    """Whether to wait until the run has ended."""
    below: bool = False
    """Whether to steer one of its child runs instead, if its tasks wait for any."""
    reason: str | None = None
    """Why, as the run keeps it."""


@attrs.frozen(kw_only=True)
class Telling:
    """Somebody who sends a signal to the run of a trigger, and repeats it until it is answered."""

    name: str
    """The name of the signal."""
    trigger: int = 0
    """The index of the trigger that started the run."""
    at_s: float = 0.0
    """Seconds after the run was accepted."""
    payload: Any = None
    """The signal's payload, in JSON."""


@attrs.frozen(kw_only=True)
class Sweep:
    """An operator who discards or retries the dead letters that exist at a given time."""

    at_s: float = 0.0
    """When the operator looks."""
    replays: bool = False
    """Whether to retry each of them, instead of discarding it."""
    code: str | None = None
    """If given, all dead letters with this error code are retried, in as few calls as possible."""


@attrs.frozen(kw_only=True)
class Look:
    """Somebody who lists runs by their labels and business key."""

    at_s: float = 0.0
    """When they look."""
    labels: Mapping[str, str] = attrs.field(factory=dict)
    """The labels that the runs have to have."""
    business_key: str | None = None
    """The business key that the runs have to have; None for any."""
    limit: int = 100
    """The number of runs on a page; all pages are read."""


@attrs.frozen(kw_only=True)
class Calendar:
    """An operator who creates a schedule for a saved workflow, and deletes it after a while."""

    workflow_id: str
    """One of the scenario's saved workflows."""
    cron: str | None = None
    """A cron expression, in UTC."""
    in_s: float | None = None
    """A single due time, in seconds after the request; either this or `cron`."""
    agent_id: str | None = None
    """The agent of its runs."""
    missed: Missed = Missed.ONCE
    """The policy for missed times."""
    at_s: float = 0.0
    """When it is created."""
    lasts_s: float = 120.0
    """How long until it is deleted, in seconds."""
    pauses_after_s: float | None = None
    """Seconds from its creation to a pause, which lasts for the rest of `lasts_s`; None for no pause."""
    other: Missed | None = None
    """The policy for missed times in a second request under the same id, which has to be refused; None for none."""


SETTLE_S: Final = 48 * 3_600.0
"""How long drawn worlds may take to settle: agents may hang for hours, and the work that waits for them comes after."""


@attrs.frozen(kw_only=True)
class Scenario:
    """Everything that defines a world. Times are virtual seconds from its beginning."""

    seed: int = 0
    """Decides the order of events and everything that happens by chance."""
    workflows: Sequence[Mapping[str, Any]] = ()
    """The documents of the workflows that triggers start."""
    saved: Sequence[Mapping[str, Any]] = ()
    """Workflows that are saved at the beginning, so that schedules and other workflows can start them by their id."""
    agents: Sequence[AgentModel] = ()
    """The fleet."""
    triggers: Sequence[Trigger] = ()
    """The clients that start runs."""
    cordons: Sequence[Cordon] = ()
    """The operators who cordon agents."""
    steerings: Sequence[Steering] = ()
    """The operators who steer runs."""
    tellings: Sequence[Telling] = ()
    """The signals that are sent."""
    calendars: Sequence[Calendar] = ()
    """The schedules that are created."""
    sweeps: Sequence[Sweep] = ()
    """The operators who look after dead letters."""
    looks: Sequence[Look] = ()
    """Those who list runs."""
    faults: Faults = Faults()
    """What goes wrong, and how often; nothing by default."""
    faults_until_s: float = 300.0
    """When faults stop. After that, every run has to end."""
    settle_s: float = 6 * 3_600.0
    """How long after `faults_until_s` all runs have to have ended."""
    limits: Limits = SIMULATED_LIMITS
    """The limits of the node."""

    def python(self, own: str | None = None) -> str:
        """Return this scenario as a Python script that plays it again.

        Args:
            own: the name of the promise that it broke, if that is one of the caller's. The script then leaves
                `invariants` to be filled in.
        """
        if own is None:
            return f"{IMPORTS}\nplay({self.source()}).check()\n"
        said = f"# `invariants` is what it was played with: {own} is no promise of opscore's."
        return f"{IMPORTS}\n{said}\nplay({self.source()}, invariants).check()\n"

    def source(self) -> str:
        """Return this scenario as a Python expression; `IMPORTS` imports all names it uses."""
        return _python(self, "")


def _python(value: Any, indent: str) -> str:
    """Return source code that makes this value, without the fields that have their default."""
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
