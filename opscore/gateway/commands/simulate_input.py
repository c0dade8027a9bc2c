"""Reads the input of `opscore simulate` into a scenario: a workflow, a fleet, a load and faults."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import attrs

from opscore.gateway.parsing import plain_yaml
from opscore.runtime.codec import decode_json
from opscore.runtime.definitions.definition import Definition, TaskKind, parse
from opscore.runtime.definitions.input_schemas import check_input
from opscore.runtime.errors import InvalidDocument
from opscore.runtime.expressions.expression import OPENS
from opscore.runtime.simulation.faults import Faults, UnknownFault, fault_meaning, fault_names
from opscore.runtime.simulation.fleet import AgentModel
from opscore.runtime.simulation.fleet_document import derived_fleet, fleet_of, session_agent
from opscore.runtime.simulation.scenario import SIMULATED_LIMITS, Scenario, Telling, Trigger

FAULTS_FOR_S: Final = 300.0
"""How long faults go on after the last run was started, and after it would have ended without faults."""
SETTLE_S: Final = 6 * 3_600.0
"""How long a run has to end once the faults are over, in addition to the waits of its workflow."""
WAITS_S_MAX: Final = 7 * 86_400.0
"""The most that these waits add, in seconds: idle agents report all the while, and playing a week takes minutes."""
OF_NO_WORKFLOW: Final = ("run_poisoned",)
"""Faults that `usual` leaves out: whatever its workflow says, the run is paused until somebody resumes it."""
SIGNAL_S_MAX: Final = 31_536_000.0


class BadInput(ValueError):
    """A file or an option can't be used; the message says which, and why."""


@attrs.frozen(kw_only=True)
class Load:
    """The runs to start, and when."""

    runs: int
    every_s: float
    payload: Any
    signals: tuple[Telling, ...] = ()
    """The signals of each run, with their times."""


def scenario_of(
    workflow: Path, agents: Path | None, load: Load, faults: Faults, saved: Sequence[Path] = ()
) -> Scenario:
    """Make a scenario of a workflow, a fleet, a load and faults.

    Args:
        workflow: the file of the workflow.
        agents: the file of the fleet; without one the fleet is made to fit the workflow.
        load: the runs to start.
        faults: what may go wrong.
        saved: the files of the workflows that it starts as tasks.

    Raises:
        BadInput: a file can't be read, or its content is wrong; the message names every fault.
    """
    document, definition = _workflow(workflow)
    _check_payload(workflow, definition, load.payload)
    documents_below, below = _workflows(saved)
    for telling in load.signals:
        if telling.name not in definition.signals:
            known = ", ".join(sorted(definition.signals)) or "none"
            raise BadInput(f"--signal: {workflow} waits for no signal {telling.name!r}; it waits for {known}")
    fleet = _fleet(workflow, agents, definition, below)
    who = session_agent(definition, fleet, below)
    return Scenario(
        workflows=(document,),
        saved=documents_below,
        tellings=tuple(
            attrs.evolve(telling, trigger=number) for number in range(load.runs) for telling in load.signals
        ),
        agents=fleet,
        triggers=tuple(
            Trigger(at_s=number * load.every_s, payload=load.payload, agent_id=who) for number in range(load.runs)
        ),
        faults=faults,
        faults_until_s=(load.runs - 1) * load.every_s + FAULTS_FOR_S,
        settle_s=SETTLE_S + min(sum(map(_waits_s, (definition, *below))), WAITS_S_MAX),
    )


def _waits_s(definition: Definition) -> float:
    """How long a run may wait because of its workflow: the sum of all delays and timeouts of signals."""
    waits: list[float] = []
    for task in definition.tasks:
        seconds = task.parameters.get("seconds") if task.kind is TaskKind.DELAY else None
        if isinstance(seconds, int | float):
            waits.append(seconds)
        if task.kind is TaskKind.SIGNAL and task.timeout_s is not None:
            waits.append(task.timeout_s)
    return sum(waits)


def _check_payload(workflow: Path, definition: Definition, payload: Any) -> None:
    """Refuse a payload that no run could start with, before thousands of worlds find that out."""
    if definition.input_schema is None:
        return
    try:
        check_input(definition.input_schema, payload)
    except InvalidDocument as error:
        which = "--payload" if payload is not None else "a run without --payload"
        raise BadInput(f"{which} does not fit the inputSchema of {workflow}:\n{_faults_of(error)}") from error


def _fleet(
    workflow: Path, agents: Path | None, definition: Definition, below: Sequence[Definition]
) -> tuple[AgentModel, ...]:
    """The agents, after checking that each task has one that can do it, and that child workflows are given."""
    wrong = []
    missing = "\n".join(f"  {each}" for each in _not_saved(definition, below))
    if missing:
        wrong.append(f"{workflow} starts workflows that no --saved gives:\n{missing}")
    fleet: tuple[AgentModel, ...] = ()
    try:
        if agents is None:
            fleet = derived_fleet(definition, below)
        else:
            fleet = fleet_of(read_document(agents), definition, SIMULATED_LIMITS, below)
    except InvalidDocument as error:
        assert agents is not None, "a fleet that is made for its workflow has no faults"
        wrong.append(_listed(agents, error))
    if wrong:
        raise BadInput("\n".join(wrong))
    return fleet


def _not_saved(definition: Definition, below: Sequence[Definition]) -> Iterator[str]:
    """Name each task that starts a workflow which is not given; ids that expressions make can't be checked."""
    there = {each.workflow_id for each in (definition, *below)}
    for place, each in enumerate((definition, *below)):
        for task in each.tasks:
            workflow_id = task.parameters.get("workflowId")
            if task.kind is TaskKind.WORKFLOW and OPENS not in str(workflow_id) and workflow_id not in there:
                which = f"task {task.key!r}" + (f" of workflow {each.workflow_id!r}" if place else "")
                yield f"{which}: there is no workflow {workflow_id!r}"


def _workflows(paths: Sequence[Path]) -> tuple[tuple[Any, ...], tuple[Definition, ...]]:
    read = [_workflow(path) for path in paths]
    return tuple(document for document, _ in read), tuple(definition for _, definition in read)


def _workflow(path: Path) -> tuple[Any, Definition]:
    document = read_document(path)
    try:
        return document, parse(document, SIMULATED_LIMITS)
    except InvalidDocument as error:
        raise BadInput(_listed(path, error)) from error


def read_signal(text: str) -> Telling:
    """Read a signal of each run: a name, optionally followed by a time (`@30`) and a payload (`={"by": "ada"}`).

    Raises:
        BadInput: it can't be read.
    """
    told, given, payload = text.partition("=")
    name, later, at_s = told.partition("@")
    try:
        value = decode_json(payload) if given else None
        after_s = float(at_s) if later else 0.0
    except ValueError as error:
        raise BadInput(f"--signal: {text!r} is not NAME[@SECONDS][=JSON]: {error}") from error
    if not name or not 0.0 <= after_s <= SIGNAL_S_MAX:
        raise BadInput(f"--signal: {text!r} needs a name, and at most {SIGNAL_S_MAX:,.0f} seconds")
    return Telling(name=name, at_s=after_s, payload=value)


def read_document(path: Path) -> Any:
    """Read JSON, or YAML from a file whose name ends in .yaml or .yml.

    Raises:
        BadInput: it can't be read.
    """
    try:
        body = path.read_bytes()
        if path.suffix.lower() in plain_yaml.SUFFIXES:
            return plain_yaml.read(body)
        return decode_json(body, names_once=True)
    except OSError as error:
        raise BadInput(f"{path} cannot be read: {error.strerror}") from error
    except ValueError as error:
        kind = "YAML" if path.suffix.lower() in plain_yaml.SUFFIXES else "JSON; YAML is read from files named .yaml"
        raise BadInput(f"{path} is not {kind}: {error}") from error


def read_payload(text: str | None) -> Any:
    """Read the payload of each run, which is JSON.

    Raises:
        BadInput: it is not.
    """
    try:
        return None if text is None else decode_json(text)
    except ValueError as error:
        raise BadInput(f"--payload is not JSON: {error}") from error


def read_faults(text: str) -> Faults:
    """Read the faults: `usual`, `none`, names or the words that names begin with, each with or without a rate.

    Later parts override earlier ones: `usual,agent_hangs=0.2` has all faults, with another rate for one of them.

    Raises:
        BadInput: there is no such fault, or the rate is not valid.
    """
    rates: dict[str, float] = {}
    for part in (part.strip() for part in text.split(",")):
        name, given, rate = part.partition("=")
        try:
            usual = _named(name)
        except UnknownFault as error:
            raise BadInput(f"--faults: {error}; --faults list says what they mean") from error
        if name == "none":
            rates.clear()
        rates |= {each: _rate(part, rate) if given else getattr(usual, each) for each in usual.on()}
    return Faults(**rates)


def _named(name: str) -> Faults:
    if name == "none":
        return Faults()
    return Faults.usual().without(OF_NO_WORKFLOW) if name == "usual" else Faults.usual(name)


def _rate(part: str, text: str) -> float:
    try:
        rate = float(text)
    except ValueError:
        rate = -1.0
    if not 0.0 <= rate <= 1.0:
        raise BadInput(f"--faults: {part} has to have a rate from 0 to 1, such as 0.2")
    return rate


def faults_listed() -> str:
    """Every fault with its usual rate and what it means."""
    usual = Faults.usual()
    left_out = dict.fromkeys(OF_NO_WORKFLOW, "; not among `usual`: its run is paused, whatever the workflow says")
    return "\n".join(
        f"{name:<26}{getattr(usual, name):<8g}{fault_meaning(name)}{left_out.get(name, '')}" for name in fault_names()
    )


def _listed(path: Path, error: InvalidDocument) -> str:
    return f"{path} is not a valid {error.what}:\n{_faults_of(error)}"


def _faults_of(error: InvalidDocument) -> str:
    return "\n".join(f"  {fault.path or 'the whole'}: {fault.message}" for fault in error.faults)
