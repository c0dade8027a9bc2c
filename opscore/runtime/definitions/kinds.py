"""The rules of each kind of task: its parameters, and the fields that it can't have."""

import datetime as dt
from collections.abc import Iterator, Mapping
from typing import Any, Final

from opscore.runtime.errors import Fault
from opscore.runtime.expressions.expression import OPENS

ONLY_BY_AGENTS: Final = (
    "agentCapability", "agentId", "leaseSeconds", "heartbeatSeconds", "scheduleToStartSeconds", "priority",
    "concurrencyKey",
)  # fmt: skip
"""Fields that are only for tasks that an agent does."""
WITHOUT: Final[Mapping[str, tuple[str, ...]]] = {
    "agent": ("idempotent",),
    "signal": (*ONLY_BY_AGENTS, "idempotent", "retry"),
    "delay": (*ONLY_BY_AGENTS, "idempotent", "retry", "timeoutSeconds"),
    "workflow": (*ONLY_BY_AGENTS, "idempotent"),
}
"""For each kind, the fields that mean nothing to it."""
DELAY_S_MAX: Final = 31_536_000
"""The longest delay, in seconds: a year of 365 days."""


def kind_faults(task: dict[str, Any], where: str) -> Iterator[Fault]:
    """Yield the faults of a task that follow from its kind."""
    kind = task.get("type", "agent")
    if not isinstance(kind, str):
        return
    for field in WITHOUT.get(kind, ()):
        if task.get(field) is not None:
            yield Fault(path=f"{where}.{field}", message=f"it means nothing to a task of type {kind!r}")
    parameters = task.get("parameters") or {}
    if isinstance(parameters, dict) and kind in _PARAMETERS:
        yield from _PARAMETERS[kind](parameters, f"{where}.parameters" if "parameters" in task else where)


def _unknown(parameters: dict[str, Any], where: str, kind: str, known: tuple[str, ...]) -> Iterator[Fault]:
    for name in parameters:
        if name not in known:
            yield Fault(path=f"{where}.{name}", message=f"a task of type {kind!r} takes {' and '.join(known)}")


def _signal(parameters: dict[str, Any], where: str) -> Iterator[Fault]:
    yield from _unknown(parameters, where, "signal", ("name",))
    name = parameters.get("name", "any")
    if not isinstance(name, str) or not name or OPENS in name:
        yield Fault(path=f"{where}.name", message="expected the signal's name: text without an expression")


def _delay(parameters: dict[str, Any], where: str) -> Iterator[Fault]:
    yield from _unknown(parameters, where, "delay", ("seconds", "until"))
    if len({"seconds", "until"} & parameters.keys()) != 1:
        yield Fault(path=where, message="expected either parameters.seconds or parameters.until")
    seconds, until = parameters.get("seconds", 0), parameters.get("until", OPENS)
    if not _is_expression(seconds) and (
        isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= DELAY_S_MAX
    ):
        yield Fault(path=f"{where}.seconds", message=f"expected seconds from 0 to {DELAY_S_MAX:,}")
    if not _is_expression(until) and not _is_time(until):
        yield Fault(path=f"{where}.until", message="expected a time such as 2027-01-31T12:00:00Z")


def _is_expression(value: Any) -> bool:
    return isinstance(value, str) and OPENS in value


def _is_time(value: Any) -> bool:
    try:
        dt.datetime.fromisoformat(value)
    except (TypeError, ValueError):
        return False
    return True


def _workflow(parameters: dict[str, Any], where: str) -> Iterator[Fault]:
    yield from _unknown(parameters, where, "workflow", ("workflowId", "input"))
    workflow_id = parameters.get("workflowId")
    if workflow_id is None:
        yield Fault(path=where, message="parameters.workflowId must be given: the id of a saved workflow")
    elif not isinstance(workflow_id, str) or not workflow_id:
        yield Fault(path=f"{where}.workflowId", message="expected the id of a saved workflow")


def _tool(parameters: dict[str, Any], where: str) -> Iterator[Fault]:
    yield from _unknown(parameters, where, "tool", ("tool", "arguments"))
    tool, arguments = parameters.get("tool"), parameters.get("arguments", {})
    if tool is None:
        yield Fault(path=where, message="parameters.tool must be given: the name of the tool")
    elif not isinstance(tool, str) or not tool:
        yield Fault(path=f"{where}.tool", message="expected the name of the tool")
    if not isinstance(arguments, dict) and not _is_expression(arguments):
        yield Fault(path=f"{where}.arguments", message="expected an object, or one ${…} that gives one")


_PARAMETERS: Final = {"tool": _tool, "signal": _signal, "delay": _delay, "workflow": _workflow}
