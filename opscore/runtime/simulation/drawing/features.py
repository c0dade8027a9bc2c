"""Adds to drawn scenarios what goes beyond plain tasks: handlers, timeouts, waits without an agent, operators.

These are drawn from a separate source and added to what `drawing` made, so that about half of the worlds stay plain.
"""

import random
from collections.abc import Sequence
from typing import Any, Final

import attrs

from opscore.runtime.limits import DispatchLimit, Limits
from opscore.runtime.models import Missed, Move
from opscore.runtime.simulation.scenario import Calendar, Scenario, Steering, Telling

_BELOW: Final = "below"
"""The id of the workflow that other workflows start as a task."""
_ONLY_BY_AGENTS: Final = ("agentCapability", "agentId", "leaseSeconds", "priority", "retry", "timeoutSeconds")

Document = dict[str, Any]


def with_features(scenario: Scenario) -> Scenario:
    """Return the scenario with the features that its seed adds, if any."""
    rng = random.Random(f"{scenario.seed}/features")
    if not _is_drawn(rng):
        return scenario
    workflows = [_enriched(rng, dict(document)) for document in scenario.workflows]
    signals = sorted({name for document in workflows for name in _signals(document)})
    runs = range(len(scenario.triggers))
    saved = [_below(rng)] if any(map(_starts_another, workflows)) or rng.random() < 0.2 else []  # noqa: PLR2004
    return attrs.evolve(
        scenario,
        limits=_limited(rng, scenario.limits),
        workflows=workflows,
        saved=saved,
        calendars=[_calendar(rng, saved) for _ in range(rng.choice((0, 0, 1, 2)) if saved else 0)],
        steerings=[
            Steering(
                move=rng.choice(list(Move)),
                trigger=rng.choice(runs),
                at_s=rng.choice((0.0, rng.uniform(0.0, 10.0), rng.uniform(0.0, 120.0))),
                lasts_s=rng.choice((0.0, 5.0, 60.0)),
            )
            for _ in range(rng.choice((0, 0, 1, 1, 2, 4)))
        ],
        tellings=[
            Telling(name=name, trigger=trigger, at_s=rng.choice((0.0, 5.0, 40.0)), payload={"said": name})
            for name in signals
            for trigger in runs
            if rng.random() < 0.8  # noqa: PLR2004 (mostly)
        ],
    )


def has_features(scenario: Scenario) -> bool:
    """Whether the seed of a scenario adds features to it."""
    return _is_drawn(random.Random(f"{scenario.seed}/features"))


def _is_drawn(rng: random.Random) -> bool:
    return rng.random() >= 0.5  # noqa: PLR2004 (half of them)


def _limited(rng: random.Random, limits: Limits) -> Limits:
    """Limit the dispatch of some capabilities and workflows, now and then."""
    return attrs.evolve(
        limits,
        line_window=rng.choice((1_000, 1_000, 1, 2, 5)),
        capability_limits={name: _dispatch_limit(rng) for name in "xyz" if rng.random() < 0.1},  # noqa: PLR2004 (seldom)
        workflow_limits={
            name: _dispatch_limit(rng)
            for name in ("workflow-0", "workflow-1", _BELOW)
            if rng.random() < 0.1  # noqa: PLR2004 (seldom)
        },
    )


def _dispatch_limit(rng: random.Random) -> DispatchLimit:
    at_once = rng.choice((None, 1, 1, 2))
    if at_once is not None and rng.random() < 0.7:  # noqa: PLR2004 (mostly)
        return DispatchLimit(at_once=at_once)
    return DispatchLimit(at_once=at_once, per_interval=rng.choice((1, 3)), interval_s=rng.choice((5.0, 60.0)))


def _calendar(rng: random.Random, saved: Sequence[Document]) -> Calendar:
    """Draw a schedule, some of whose due times may be missed."""
    once = rng.random() < 0.3  # noqa: PLR2004 (seldom)
    return Calendar(
        workflow_id=rng.choice(saved)["id"],
        cron=None if once else rng.choice(("*/10 * * * * *", "* * * * *", "7 */2 * * * *")),
        in_s=rng.choice((0.0, 5.0, 70.0)) if once else None,
        missed=rng.choice(list(Missed)),
        at_s=rng.choice((0.0, 30.0)),
        lasts_s=rng.choice((20.0, 100.0, 400.0)),
        pauses_after_s=rng.choice((None, None, 15.0)),
    )


def _signals(document: Document) -> list[str]:
    return [task["taskId"] for task in document["tasks"] if task.get("type") == "signal"]


def _starts_another(document: Document) -> bool:
    return any(task.get("type") == "workflow" for task in document["tasks"])


def _enriched(rng: random.Random, document: Document) -> Document:
    tasks: list[Document] = [_replaced(rng, dict(task)) for task in document["tasks"]]
    steps = list(tasks)
    for task in steps:
        _limit(rng, task)
        if rng.random() < 0.2:  # noqa: PLR2004 (seldom)
            task["continueOnFailure"] = True
        if rng.random() < 0.15:  # noqa: PLR2004 (seldom)
            task["when"] = rng.choice(("input.number > 0", "input.number == 0", "true", "input.nothing == 1"))
        if "type" not in task and rng.random() < 0.2:  # noqa: PLR2004 (seldom)
            task["concurrencyKey"] = rng.choice(("one", "${input.number}", "${session.id}"))
        if rng.random() < 0.2 and task.get("type") != "signal":  # noqa: PLR2004 (seldom)
            task["forEach"] = rng.choice(([], [1], list("abcde"), "${[input.number, 2, 3]}"))
            task["concurrency"] = rng.choice((1, 2, 10, 100))
            if "type" not in task:
                task["parameters"] = {"item": "${item}", "place": "${index}"}
        for field in ("fallbackTaskId", "compensateTaskId"):
            if rng.random() < 0.25:  # noqa: PLR2004 (often enough)
                task[field] = f"{field[:8]}-{task['taskId']}"
                tasks.append(_handler(rng, task[field]))
    document = {**document, "tasks": tasks}
    if rng.random() < 0.3:  # noqa: PLR2004 (often enough)
        document["onFailure"] = "at-the-end"
        tasks.append(_handler(rng, "at-the-end"))
    if rng.random() < 0.2:  # noqa: PLR2004 (seldom)
        document["sessionTimeoutSeconds"] = rng.choice((5, 60, 400))
    return document


def _replaced(rng: random.Random, task: Document) -> Document:
    """Replace a step by one that needs no agent, or by a tool call, now and then."""
    draw = rng.random()
    if draw > 0.9:  # noqa: PLR2004 (seldom)
        call = {"tool": "adder", "arguments": {"place": "${input.number}"}}
        return {**task, "type": "tool", "parameters": call, "idempotent": rng.random() < 0.5}  # noqa: PLR2004
    if draw > 0.3:  # noqa: PLR2004 (mostly not)
        return task
    task = {field: value for field, value in task.items() if field not in _ONLY_BY_AGENTS}
    if draw < 0.1:  # noqa: PLR2004
        return {**task, "type": "delay", "parameters": {"seconds": rng.choice((0, 3, 45))}}
    if draw < 0.2:  # noqa: PLR2004
        return {**task, "type": "signal", "parameters": {}, "timeoutSeconds": rng.choice((10, 90, 600))}
    timeout = {"timeoutSeconds": rng.choice((20, 600))} if rng.random() < 0.5 else {}  # noqa: PLR2004
    return {**task, "type": "workflow", "parameters": {"workflowId": _BELOW, "input": {"from": "above"}}, **timeout}


def _limit(rng: random.Random, task: Document) -> None:
    """Limit how long a step may wait and take, now and then."""
    if rng.random() < 0.15:  # noqa: PLR2004 (seldom)
        task["scheduleToCloseSeconds"] = rng.choice((8, 60, 300))
    if "type" not in task and rng.random() < 0.15:  # noqa: PLR2004 (seldom)
        task["scheduleToStartSeconds"] = rng.choice((3, 40, 200))
    if "type" not in task and rng.random() < 0.15:  # noqa: PLR2004 (seldom)
        task["heartbeatSeconds"] = rng.choice((4, 20, 100))


def _handler(rng: random.Random, task_id: str) -> Document:
    if rng.random() < 0.15:  # noqa: PLR2004 (seldom)
        return {"taskId": task_id, "type": "delay", "parameters": {"seconds": rng.choice((0, 7))}}
    retry = {"maxRetries": rng.choice((0, 2)), "initialDelaySeconds": rng.choice((0, 5))}
    return {"taskId": task_id, "agentCapability": rng.choice("xyz"), "leaseSeconds": 30, "retry": retry}


def _below(rng: random.Random) -> Document:
    """Draw the workflow that others start as a task: short, and failing now and then."""
    tasks: list[Document] = [{"taskId": "deep", "agentCapability": rng.choice("xyz"), "leaseSeconds": 30}]
    if rng.random() < 0.5:  # noqa: PLR2004
        tasks.append({"taskId": "rest", "type": "delay", "parameters": {"seconds": rng.choice((0, 10, 100))}})
    if rng.random() < 0.3:  # noqa: PLR2004
        tasks[0] |= {"retry": {"maxRetries": 0}, "compensateTaskId": "undo"}
        tasks.append({"taskId": "undo", "agentCapability": rng.choice("xyz"), "leaseSeconds": 30})
    return {"id": _BELOW, "tasks": tasks}
