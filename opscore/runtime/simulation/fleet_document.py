"""Reads a fleet from a document in JSON or YAML, strictly, and reports all of its faults at once.

    agents:
      - name: collector
        count: 3
        kind: push
        skills:
          collect: {latency: {uniform: [0.5, 2]}, failureRate: 0.1, result: {ok: true}}
        leavesAt: 60
        leavingShare: 0.5

It also derives the smallest fleet that a workflow needs, if none is given.
"""

import difflib
import math
from collections.abc import Collection, Iterator, Mapping, Sequence
from typing import Any, Final, get_args

import attrs

from opscore.runtime.codec import type_name
from opscore.runtime.definitions.definition import Definition
from opscore.runtime.errors import FAULTS_MAX, Fault, InvalidDocument
from opscore.runtime.identity import unusable
from opscore.runtime.limits import Limits
from opscore.runtime.simulation.fleet import AgentModel, Kind, Latency, Skill
from opscore.runtime.values import document_faults

AGENTS_MAX: Final = 10_000
"""The most agents of a fleet: each is a separate trio task in every world."""
SECONDS_MAX: Final = 31_536_000.0
SPREAD_MAX: Final = 10.0
"""The largest spread of a lognormal latency: two attempts of three are within 22,000 times the median; a spread of a
few hundred would overflow."""
DERIVED_COUNT: Final = 2
"""How many agents a derived fleet has for each capability."""
SESSION_AGENT: Final = "session-agent"
"""The agent of runs in a derived fleet, if a task names neither a capability nor an agent."""
_SHAPES: Final = {"constant": 1, "uniform": 2, "exponential": 1, "lognormal": 2}
"""How many numbers each shape of a latency takes."""
_SKILL_FIELDS: Final = ("latency", "failureRate", "failureCode", "retryable", "result")
_FIELDS: Final = (
    "name", "count", "kind", "skills", "default", "joinsAt", "leavesAt", "leavingShare", "returnsAt", "reportEvery",
)  # fmt: skip
_WHAT: Final = "fleet"


def fleet_of(
    document: Any, definition: Definition, limits: Limits, below: Sequence[Definition] = ()
) -> tuple[AgentModel, ...]:
    """Read a fleet, and check that it has an agent for each task of a workflow.

    Args:
        document: the fleet, decoded from JSON or YAML.
        definition: the workflow.
        limits: the limits of the node.
        below: the workflows that it starts as tasks.

    Raises:
        InvalidDocument: the document has faults; it lists all of them.
    """
    faults = document_faults(document, limits)
    reading = _Reading(limits)
    models = () if faults else reading.fleet(document)
    faults += reading.faults
    if reading.known is not None:
        faults += [Fault(path="agents", message=what) for what in unserved(definition, reading.known, below)]
    if faults:
        raise InvalidDocument(_WHAT, tuple(faults[: FAULTS_MAX + 1]))
    return models


def derived_fleet(definition: Definition, below: Sequence[Definition] = ()) -> tuple[AgentModel, ...]:
    """Return the smallest fleet for a workflow: each agent that it names, and two agents for each capability.

    Args:
        definition: the workflow.
        below: the workflows that it starts as tasks.
    """
    tasks = [task for each in (definition, *below) for task in each.tasks]
    named = sorted({task.agent_id for task in tasks if task.agent_id is not None})
    if _needs_agent(definition, below):
        named.insert(0, _free_name(SESSION_AGENT, named))
    models = [AgentModel(name=name) for name in named]
    taken = set(named)
    for capability in dict.fromkeys(task.capability for task in tasks if task.capability is not None):
        name = "agent" if unusable(capability) else f"{capability[:100]}-agent"
        model = AgentModel(name=_free_name(name, taken), count=DERIVED_COUNT, skills={capability: Skill()})
        taken |= {model.name, *model.ids()}
        models.append(model)
    return tuple(models)


def session_agent(definition: Definition, fleet: Sequence[AgentModel], below: Sequence[Definition] = ()) -> str | None:
    """Return the agent to start runs with: the first of the fleet if a task or one of a child run needs it, or None."""
    if not _needs_agent(definition, below):
        return None
    return next((agent_id for model in fleet for agent_id in model.ids()), None)


def _needs_agent(definition: Definition, below: Sequence[Definition]) -> bool:
    return any(each.needs_agent for each in (definition, *below))


def unserved(definition: Definition, fleet: Sequence[AgentModel], below: Sequence[Definition] = ()) -> Iterator[str]:
    """Yield why the fleet has no agent for a task, for the workflow's own tasks first, then for those below it."""
    ids = {agent_id for model in fleet for agent_id in model.ids()}
    capabilities = {capability for model in fleet if model.count for capability in model.skills}
    for place, each in enumerate((definition, *below)):
        for task in each.tasks:
            which = f"task {task.key!r}" + (f" of workflow {each.workflow_id!r}" if place else "")
            if task.capability is not None and task.capability not in capabilities:
                yield f"no agent has the skill {task.capability!r}, which {which} asks for"
            elif task.agent_id is not None and task.agent_id not in ids:
                yield f"no agent is called {task.agent_id!r}, which {which} asks for"
            elif task.by_agent and not ids:
                yield f"there is no agent for {which}"


def _free_name(name: str, taken: Collection[str]) -> str:
    number = 1
    found = name
    while found in taken:
        number += 1
        found = f"{name}-{number}"
    return found


@attrs.frozen
class _At:
    """A place in the document, and its value."""

    path: str
    value: Any

    def child(self, name: str) -> "_At":
        """Return the place of a field."""
        return _At(f"{self.path}.{name}" if self.path else name, self.value.get(name))

    def item(self, index: int) -> "_At":
        """Return the place of an item."""
        return _At(f"{self.path}[{index}]", self.value[index])

    def has(self, name: str) -> bool:
        """Whether a field is given."""
        return self.value.get(name) is not None


class _Reading:
    """Reads a document to its end, and collects its faults."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self.faults: list[Fault] = []
        self.known: tuple[AgentModel, ...] | None = None
        """The agents with only name, count and skills; None unless these are readable for all, and not too many."""

    def fleet(self, document: Any) -> tuple[AgentModel, ...]:
        whole = _At("", document)
        if not self._is_object(whole, ("agents",)):
            return ()
        agents = whole.child("agents")
        if not isinstance(agents.value, list) or not agents.value:
            self._wrong(agents, "expected a list of agents" + ("" if agents.value == [] else _found(agents.value)))
            return ()
        read = [self._model(agents.item(index)) for index in range(len(agents.value))]
        known = tuple(known for known, _ in read if known is not None)
        if len(known) == len(read):
            # Faults that only follow from an unreadable name or skill are not reported.
            self.known = known
            self._check_ids(agents, known)
        return tuple(model for _, model in read if model is not None)

    def _check_ids(self, agents: _At, models: Sequence[AgentModel]) -> None:
        if sum(model.count for model in models) > AGENTS_MAX:
            self._wrong(agents, f"expected {AGENTS_MAX:,} agents at most, all together")
            self.known = None
            return
        taken: set[str] = set()
        for index, model in enumerate(models):
            twice = sorted(taken & set(model.ids()))
            if twice:
                self._wrong(agents.item(index).child("name"), f"the id {twice[0]!r} is taken by an earlier agent")
            taken.update(model.ids())

    def _model(self, at: _At) -> tuple[AgentModel | None, AgentModel | None]:
        """Return an agent with only name, count and skills if these are readable, and the whole if all of it is."""
        before = len(self.faults)
        if not self._is_object(at, _FIELDS):
            return None, None
        misspelt = len(self.faults) > before
        given: dict[str, Any] = {
            "name": self._name(at.child("name")),
            "count": self._count(at.child("count")),
            "kind": self._kind(at.child("kind")),
            "skills": self._skills(at.child("skills")),
            "default": self._skill(at.child("default")) if at.has("default") else Skill(),
            "joins_at_s": self._number(at.child("joinsAt"), 0.0, SECONDS_MAX),
            "leaves_at_s": self._number(at.child("leavesAt"), 0.0, SECONDS_MAX),
            "returns_at_s": self._number(at.child("returnsAt"), 0.0, SECONDS_MAX),
            "leaving_share": self._number(at.child("leavingShare"), 0.0, 1.0),
            "report_every_s": self._number(at.child("reportEvery"), 0.001, SECONDS_MAX),
        }
        said = {name: value for name, value in given.items() if value is not None}
        who = {name: said[name] for name in ("name", "count", "skills") if name in said}
        unread = "name" not in said or any(at.has(name) for name in {"count", "skills"} - said.keys())
        known = None if misspelt or unread else AgentModel(**who)
        if len(self.faults) > before:
            return known, None
        model = AgentModel(**said)
        self._check_times(at, model)
        if model.kind == "local":
            self._check_function(at, model)
        return known, model

    def _check_function(self, at: _At, model: AgentModel) -> None:
        """Report failure codes and permanent failures of a function: it fails by raising, which has neither."""
        skills = [(at.child("skills").child(name), skill) for name, skill in model.skills.items() if skill != Skill()]
        for where, skill in (*skills, (at.child("default"), model.default)):
            for name, field in (("failureCode", "failure_code"), ("retryable", "retryable")):
                usual = getattr(attrs.fields(Skill), field).default
                if getattr(skill, field) != usual:
                    said = f"a local agent is a function that fails by raising: {name} is always {str(usual).lower()}"
                    self._wrong(where.child(name), said)

    def _check_times(self, at: _At, model: AgentModel) -> None:
        leaves, returns = model.leaves_at_s, model.returns_at_s
        if leaves is None:
            for name in ("leavingShare", "returnsAt"):
                if at.has(name):
                    self._wrong(at.child(name), "has no effect without leavesAt")
            return
        if model.kind == "local":
            self._wrong(at.child("leavesAt"), "a local agent is a function of the node's process, and never leaves it")
        if leaves <= model.joins_at_s:
            self._wrong(at.child("leavesAt"), f"expected a time after it joins, at {model.joins_at_s:g}")
        if returns is not None and returns <= leaves:
            self._wrong(at.child("returnsAt"), f"expected a time after it leaves, at {leaves:g}")

    def _name(self, at: _At) -> str | None:
        if not isinstance(at.value, str):
            self._wrong(at, "this field is required" if at.value is None else "expected a string" + _found(at.value))
            return None
        why = unusable(at.value)
        if why is not None:
            self._wrong(at, f"expected a name that can be an agent's id; this one {why}")
        elif len(at.value.encode()) > self._limits.id_bytes_max - 6:
            self._wrong(at, f"expected {self._limits.id_bytes_max - 6} bytes at most")
        return at.value

    def _count(self, at: _At) -> int | None:
        if at.value is None:
            return None
        if not isinstance(at.value, int) or isinstance(at.value, bool):
            self._wrong(at, "expected a whole number" + _found(at.value))
        elif not 1 <= at.value <= AGENTS_MAX:
            self._wrong(at, f"expected a whole number from 1 to {AGENTS_MAX:,}, found {at.value}")
        else:
            return at.value
        return None

    def _kind(self, at: _At) -> Any:
        kinds = get_args(Kind)
        if at.value is not None and at.value not in kinds:
            said = at.value if isinstance(at.value, str) else ""
            self._wrong(at, f"expected {', '.join(kinds[:-1])} or {kinds[-1]}{_nearest(said, kinds)}")
        return at.value

    def _skills(self, at: _At) -> dict[str, Skill] | None:
        if at.value is None:
            return None
        if isinstance(at.value, list) and all(isinstance(each, str) for each in at.value):
            # A list of names is enough if no skill needs any settings.
            return {name: Skill() for name in at.value}
        if not isinstance(at.value, dict):
            self._wrong(at, "expected an object of skills by capability, or a list of capabilities" + _found(at.value))
            return None
        return {str(name): self._skill(at.child(name)) for name in at.value}

    def _skill(self, at: _At) -> Skill:
        if at.value is None:
            return Skill()
        if not self._is_object(at, _SKILL_FIELDS):
            return Skill()
        given: dict[str, Any] = {
            "latency": self._latency(at.child("latency")),
            "failure_rate": self._number(at.child("failureRate"), 0.0, 1.0),
            "failure_code": self._typed(at.child("failureCode"), str, "a string"),
            "retryable": self._typed(at.child("retryable"), bool, "true or false"),
            "result": at.value.get("result"),
        }
        return Skill(**{name: value for name, value in given.items() if value is not None})

    def _latency(self, at: _At) -> Latency | None:
        if at.value is None:
            return None
        if not self._is_object(at, tuple(_SHAPES)):
            return None
        if len(at.value) != 1:
            self._wrong(at, f"expected one of {', '.join(_SHAPES)}, found {len(at.value)} of them")
            return None
        (shape,) = at.value
        if shape not in _SHAPES:
            return None
        numbers = at.child(shape)
        values = numbers.value if isinstance(numbers.value, list) else [numbers.value]
        if len(values) != _SHAPES[shape]:
            wanted = "two numbers" if _SHAPES[shape] == 2 else "a number"  # noqa: PLR2004 (a pair is a pair)
            self._wrong(numbers, f"expected {wanted}, found {len(values)}")
            return None
        listed = isinstance(numbers.value, list)
        most = (SECONDS_MAX, SPREAD_MAX if shape == "lognormal" else SECONDS_MAX)
        read = [
            self._number(_At(f"{numbers.path}[{index}]" if listed else numbers.path, value), 0.0, most[index])
            for index, value in enumerate(values)
        ]
        found = [number for number in read if number is not None]
        if len(found) < len(read):
            if None in values:
                self._wrong(numbers, "expected numbers, found null")
            return None
        if shape == "uniform" and found[0] > found[1]:
            self._wrong(numbers, f"expected the smaller number first, found {values[0]} and {values[1]}")
            return None
        return Latency(shape, *found)

    def _number(self, at: _At, low: float, high: float) -> float | None:
        value = at.value
        if value is None:
            return None
        if not isinstance(value, int | float) or isinstance(value, bool):
            self._wrong(at, "expected a number" + _found(value))
        elif not math.isfinite(value) or not low <= value <= high:
            self._wrong(at, f"expected a number from {low:.10g} to {high:.10g}, found {value}")
        else:
            return float(value)
        return None

    def _typed(self, at: _At, kind: type, what: str) -> Any:
        if at.value is not None and not isinstance(at.value, kind):
            self._wrong(at, f"expected {what}" + _found(at.value))
            return None
        return at.value

    def _is_object(self, at: _At, known: Sequence[str]) -> bool:
        if not isinstance(at.value, Mapping):
            self._wrong(at, "expected an object" + _found(at.value))
            return False
        for name in at.value:
            if name not in known:
                self._wrong(at, f"unknown field {name!r}{_nearest(str(name), known)}")
        return True

    def _wrong(self, at: _At, message: str) -> None:
        self.faults.append(Fault(path=at.path, message=message))


def _found(value: Any) -> str:
    return f", found {type_name(value)}"


def _nearest(name: str, known: Sequence[str]) -> str:
    near = difflib.get_close_matches(name[:128], known, n=1)
    return f"; did you mean {near[0]!r}?" if near else ""
