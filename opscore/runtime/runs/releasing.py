"""How a task begins: it waits for an agent, a signal, a delay or a child run."""

import datetime as dt
import reprlib
from typing import Any, Final

from opscore.runtime.codec import encode_json
from opscore.runtime.definitions.definition import TaskDefinition, TaskKind
from opscore.runtime.definitions.kinds import DELAY_S_MAX
from opscore.runtime.definitions.scopes import Standing
from opscore.runtime.errors import ExpressionFailed
from opscore.runtime.models import Failure, Task
from opscore.runtime.runs.lifecycle import TaskEvent
from opscore.runtime.runs.run import Draft
from opscore.runtime.waiting import line_of, rank_of

KEY_BYTES_MAX: Final = 256
"""Length of a concurrency key, which is part of the key of a row."""


def filled(standing: Standing, task: Task) -> dict[str, Any]:
    """Return the parameters of a task, with their expressions evaluated.

    Raises:
        ExpressionFailed: an expression has no value.
    """
    template = standing.definition.tasks[task.ordinal].filled
    scope = {} if template.constant else standing.scope(template.task_keys, task)
    found: dict[str, Any] = template.evaluate(scope)
    return found


def _concurrency_key(standing: Standing, task: Task) -> str | None:
    """Return the task's concurrency key, which at most one open attempt may have at a time.

    Raises:
        ExpressionFailed: it has no value, or one that can't be a key.
    """
    template = standing.definition.tasks[task.ordinal].concurrency_key
    if template is None:
        return None
    key: Any = template.evaluate({} if template.constant else standing.scope(template.task_keys, task))
    if isinstance(key, float) and key.is_integer():
        key = int(key)
    if isinstance(key, int) and not isinstance(key, bool):
        key = str(key)
    if not isinstance(key, str) or not 0 < len(key.encode(errors="replace")) <= KEY_BYTES_MAX:
        expected = f"a string of 1 to {KEY_BYTES_MAX} bytes, or a whole number"
        raise ExpressionFailed(f"concurrencyKey: expected {expected}, found {_shown(key)}")
    return key.encode(errors="replace").decode()


def _over_at(parameters: dict[str, Any], now: float) -> float:
    """Return the time at which a delay is over, in Unix seconds.

    Raises:
        ExpressionFailed: the value of its parameter is not such a time.
    """
    if "until" in parameters:
        return now + _seconds_until(parameters["until"], now)
    seconds: Any = parameters["seconds"]
    if isinstance(seconds, bool) or not isinstance(seconds, int | float) or not 0 <= seconds <= DELAY_S_MAX:
        raise ExpressionFailed(f"seconds: expected a number from 0 to {DELAY_S_MAX:,}, found {_shown(seconds)}")
    return now + float(seconds)


def _seconds_until(text: Any, now: float) -> float:
    try:
        until = dt.datetime.fromisoformat(text)
    except (TypeError, ValueError):
        raise ExpressionFailed(f"until: expected an ISO 8601 time, found {_shown(text)}") from None
    seconds = (until if until.tzinfo else until.replace(tzinfo=dt.UTC)).timestamp() - now
    if seconds > DELAY_S_MAX:
        raise ExpressionFailed(f"until: a delay has at most {DELAY_S_MAX:,} seconds, and {text} is further away")
    return max(0.0, seconds)


def _shown(value: Any) -> str:
    """Format an unexpected value briefly for a message, with null, true and false as in JSON."""
    return encode_json(value).decode() if value is None or isinstance(value, bool) else reprlib.repr(value)


def release(draft: Draft, task: Task) -> Task:
    """Let a task wait for whatever its kind waits for; it fails if its parameters have no value."""
    try:
        parameters = filled(draft.standing(), task)
        _check_call(draft.of(task), parameters)
        return _release(draft, task, parameters)
    except ExpressionFailed as error:
        return draft.end(task, TaskEvent.FAIL, error=Failure(message=str(error), code=error.code))


def _check_call(definition: TaskDefinition, parameters: dict[str, Any]) -> None:
    """Check that the evaluated parameters of a tool task are a tool call.

    Raises:
        ExpressionFailed: they are not.
    """
    if definition.kind is not TaskKind.TOOL:
        return
    if not isinstance(parameters["tool"], str) or not parameters["tool"]:
        raise ExpressionFailed(f"tool: expected a name, found {_shown(parameters['tool'])}")
    if not isinstance(parameters.get("arguments", {}), dict):
        raise ExpressionFailed(f"arguments: expected an object, found {_shown(parameters['arguments'])}")


def _release(draft: Draft, task: Task, parameters: dict[str, Any]) -> Task:
    definition, now = draft.of(task), draft.now
    closes_at = task.closes_at
    if closes_at is None and definition.schedule_to_close_s is not None:
        closes_at = now + definition.schedule_to_close_s
    times_out_at = None if definition.timeout_s is None else now + definition.timeout_s
    begun: dict[str, Any] = {"started_at": now, "closes_at": closes_at, "due_at": earliest(times_out_at, closes_at)}
    match definition.kind:
        case TaskKind.SIGNAL:
            signal = draft.take_signal(definition.signal, task)
            if signal is not None:
                return draft.end(task, TaskEvent.COMPLETE, result=signal.payload)
            return draft.move(task, TaskEvent.AWAIT, **begun)
        case TaskKind.DELAY:
            over_at = _over_at(parameters, now)
            return draft.move(task, TaskEvent.AWAIT, **{**begun, "due_at": earliest(over_at, closes_at)})
        case TaskKind.WORKFLOW:
            attempt = task.attempt + 1
            begun |= {"attempt": attempt, "child_session_id": _child_id(task, attempt)}
            return draft.move(task, TaskEvent.AWAIT, **begun)
        case TaskKind.AGENT | TaskKind.TOOL:
            due_at = earliest(start_by(definition, now), closes_at)
            key = _concurrency_key(draft.standing(), task)
            begun = {"closes_at": closes_at, "due_at": due_at, "concurrency_key": key}
            return draft.move(task, TaskEvent.RELEASE, **begun, **in_line(draft, task))


def in_line(draft: Draft, task: Task) -> dict[str, Any]:
    """Return the fields that change in a task that waits for an agent from now on."""
    definition = draft.of(task)
    return {
        "ready_at": draft.now,
        "line": line_of(draft.session, definition),
        "rank": rank_of(definition.priority, draft.now),
    }


def _child_id(task: Task, attempt: int) -> str:
    """Return the id of the child session that an attempt of a task waits for, which is always the same."""
    return f"{task.task_id.replace('.', '-')}-{attempt}"


def start_by(definition: TaskDefinition, now: float) -> float | None:
    """Return the time until which a task that is ready now waits for an agent, or None for ever."""
    return None if definition.schedule_to_start_s is None else now + definition.schedule_to_start_s


def earliest(*times: float | None) -> float | None:
    """Return the first of these times, or None if none is set."""
    return min((time for time in times if time is not None), default=None)
