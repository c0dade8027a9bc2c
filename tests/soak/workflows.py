"""The workflows of the soak, which together have every kind of task and every kind of end."""

from typing import Any, Final

CLAIMED, PUSHED, SCARCE, NOBODY = "claimed", "pushed", "scarce", "nobody"
"""The capabilities of agents; no agent has the last."""
A_DAY_S: Final = 86_400
UNIQUE_IDS: Final = 20
_QUICK: Final = {"retry": {"maxRetries": 3, "initialDelaySeconds": 0.1, "maxDelaySeconds": 0.5}}

Document = dict[str, Any]


def _of(workflow_id: str, *tasks: Document, **more: Any) -> Document:
    return {"id": workflow_id, "defaults": _QUICK, "tasks": list(tasks), **more}


def _task(task_id: str, capability: str = CLAIMED, **more: Any) -> Document:
    return {"taskId": task_id, "agentCapability": capability, **more}


TIMED: Final = _of("timed", _task("only", PUSHED))
"""The workflow that the stopwatch runs."""
WORKFLOWS: Final[tuple[Document, ...]] = (
    TIMED,
    _of(
        "chain",
        _task("first", nextTaskId="last", scheduleToStartSeconds=A_DAY_S),
        _task("last", PUSHED, scheduleToCloseSeconds=A_DAY_S),
        sessionTimeoutSeconds=A_DAY_S,
    ),
    _of(
        "fan",
        _task("first"),
        _task("left", dependsOn=["first"]),
        _task("middle", PUSHED, dependsOn=["first"]),
        _task("right", dependsOn=["first"], when="input.number % 2 == 0"),
        _task("last", dependsOn=["left", "middle", "right"]),
        outputs={"number": "${input.number}"},
        inputSchema={"type": "object", "properties": {"number": {"type": "integer"}}, "required": ["number"]},
    ),
    _of(
        "list",
        _task("each", forEach="${input.items}", concurrency=3, parameters={"item": "${item}"}),
        _task("after", PUSHED, dependsOn=["each"]),
    ),
    _of(
        "signal",
        {"taskId": "told", "type": "signal", "timeoutSeconds": A_DAY_S},
        _task("after", dependsOn=["told"], parameters={"told": "${tasks.told.result}"}),
    ),
    _of(
        "unheard",
        {"taskId": "told", "type": "signal", "timeoutSeconds": 1, "continueOnFailure": True},
        _task("after", dependsOn=["told"]),
    ),
    _of(
        "delay",
        {"taskId": "wait", "type": "delay", "parameters": {"seconds": 0.5}},
        _task("after", PUSHED, dependsOn=["wait"]),
    ),
    _of(
        "parent",
        {"taskId": "below", "type": "workflow", "parameters": {"workflowId": "chain", "input": "${input}"}},
        _task("after", dependsOn=["below"]),
    ),
    _of(
        "saga",
        _task("book", compensateTaskId="unbook"),
        _task("unbook"),
        _task("pay", dependsOn=["book"], parameters={"outcome": "fails"}, retry={"maxRetries": 0}),
        _task("tell", PUSHED),
        onFailure="tell",
    ),
    _of("dead", _task("only", parameters={"outcome": "fails"}, retry={"maxRetries": 1, "initialDelaySeconds": 0.1})),
    _of("flaky", _task("only", parameters={"outcome": "flaky"}, fallbackTaskId="instead"), _task("instead", PUSHED)),
    _of("keyed", _task("only", concurrencyKey="key-${input.number}")),
    _of("one-key", _task("only", concurrencyKey="the one key")),
    _of("scarce", _task("only", SCARCE)),
    _of("limited", _task("only")),
    _of("tool", _task("call", PUSHED, type="tool", parameters={"tool": "look-up", "arguments": {"q": "${input}"}})),
    _of("untaken", _task("only", NOBODY, scheduleToStartSeconds=1)),
    _of("waits", _task("only", NOBODY)),
    _of("silent", _task("only", parameters={"outcome": "silent"}, leaseSeconds=1, timeoutSeconds=20)),
)
SCHEDULED: Final = "delay"
"""The workflow that schedules start."""
KINDS: Final = tuple(each["id"] for each in WORKFLOWS if each["id"] not in ("timed", "waits"))
"""The workflows that customers trigger."""


def unique(number: int) -> Document:
    """Return a workflow with unique content and a unique capability, whose only task finds no agent in time.

    The ids repeat, because the definition of each id is kept for ever.
    """
    return _of(f"unique-{number % UNIQUE_IDS}", _task("only", f"capability-{number}", scheduleToStartSeconds=1))
