"""What `opscore simulate` is given, read into a scenario: a workflow, a fleet, a load, and what may go wrong."""

from pathlib import Path
from typing import Any, Final

import attrs

from opscore.gateway import plain_yaml
from opscore.runtime.codec import decode_json
from opscore.runtime.definitions import parse
from opscore.runtime.errors import InvalidDocument
from opscore.runtime.simulation.faults import Faults, UnknownFault, fault_meaning, fault_names
from opscore.runtime.simulation.fleet_document import derived_fleet, fleet_of, session_agent
from opscore.runtime.simulation.scenario import SIMULATED_LIMITS, Scenario, Trigger

FAULTS_FOR_S: Final = 300.0
"""How long faults go on after the last run was started."""


class BadInput(ValueError):
    """A file or an option can't be used; says which, and why."""


@attrs.frozen(kw_only=True)
class Load:
    """Which runs are started when."""

    runs: int
    every_s: float
    payload: Any


def scenario_of(workflow: Path, agents: Path | None, load: Load, faults: Faults) -> Scenario:
    """Make a scenario of two files, a load and faults.

    Raises:
        BadInput: a file can't be read, or what is in it is wrong; every fault is named.
    """
    document = read_document(workflow)
    try:
        definition = parse(document, SIMULATED_LIMITS)
    except InvalidDocument as error:
        raise BadInput(_listed(workflow, error)) from error
    fleet = derived_fleet(definition)
    if agents is not None:
        try:
            fleet = fleet_of(read_document(agents), definition, SIMULATED_LIMITS)
        except InvalidDocument as error:
            raise BadInput(_listed(agents, error)) from error
    who = session_agent(definition, fleet)
    return Scenario(
        workflows=(document,),
        agents=fleet,
        triggers=tuple(
            Trigger(at_s=number * load.every_s, payload=load.payload, agent_id=who) for number in range(load.runs)
        ),
        faults=faults,
        faults_until_s=(load.runs - 1) * load.every_s + FAULTS_FOR_S,
    )


def read_document(path: Path) -> Any:
    """Read JSON, or YAML from a file whose name ends in .yaml or .yml.

    Raises:
        BadInput: it can't be read.
    """
    try:
        body = path.read_bytes()
        if path.suffix.lower() in plain_yaml.SUFFIXES:
            return plain_yaml.read(body)
        return decode_json(body)
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
    """Read which faults are on: `usual`, `none`, names or the words that names begin with, each with a rate or not.

    What comes later goes over what came before: `usual,agent_hangs=0.2` has all faults, and one of them more often.

    Raises:
        BadInput: there is no such fault, or the rate is none.
    """
    rates: dict[str, float] = {}
    for part in (part.strip() for part in text.split(",")):
        name, given, rate = part.partition("=")
        try:
            usual = Faults() if name == "none" else Faults.usual(*(() if name == "usual" else (name,)))
        except UnknownFault as error:
            raise BadInput(f"--faults: {error}; --faults list says what they mean") from error
        if name == "none":
            rates.clear()
        rates |= {each: _rate(part, rate) if given else getattr(usual, each) for each in usual.on()}
    return Faults(**rates)


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
    return "\n".join(f"{name:<26}{getattr(usual, name):<8g}{fault_meaning(name)}" for name in fault_names())


def _listed(path: Path, error: InvalidDocument) -> str:
    faults = "\n".join(f"  {fault.path or 'the whole'}: {fault.message}" for fault in error.faults)
    return f"{path} is not a valid {error.what}:\n{faults}"
