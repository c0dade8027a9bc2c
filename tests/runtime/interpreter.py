"""The rules of `docs/workflow-definition.md` once more, as plainly as they can be said.

Every task is a small dict, every item of a list as well; after each happening everything is looked at again, until
nothing follows any more. Nothing is shared with the runtime but the names of statuses.
"""

import datetime as dt
from collections.abc import Iterator
from itertools import pairwise
from typing import Any

from opscore.runtime.models import SessionStatus, TaskStatus
from tests.runtime.expressions.plain_expressions import Names, NoValueError, condition, list_of, value_of

Thing = dict[str, Any]
LOSSES_MAX = 3
WAITS = (TaskStatus.PENDING, TaskStatus.READY, TaskStatus.PENDING_RETRY)
ENDS = (TaskStatus.COMPLETED, TaskStatus.FAILED, TaskStatus.SKIPPED, TaskStatus.CANCELLED)


class Interpreter:
    """A run of a workflow.

    Args:
        document: a valid workflow.
        payload: what the run is given.
        now: when it begins.
    """

    def __init__(self, document: dict[str, Any], payload: Any, now: float) -> None:
        self.document, self.payload, self.now, self.luck = document, payload, now, 0.0
        self.specs: dict[str, dict[str, Any]] = {task["taskId"]: task for task in document["tasks"]}
        fallbacks = [spec["fallbackTaskId"] for spec in self.specs.values() if "fallbackTaskId" in spec]
        undoing = [spec["compensateTaskId"] for spec in self.specs.values() if "compensateTaskId" in spec]
        self.ending = {*undoing, document.get("onFailure")}
        self.steps = [key for key in self.specs if key not in {*fallbacks, *self.ending}]
        self.before = needs_of([self.specs[key] for key in self.steps])
        self.steps = in_order(self.before)
        self.things: dict[str, Thing] = {key: new_thing(key) for key in self.specs}
        self.lists: dict[str, list[Any]] = {}
        self.items: dict[str, list[Thing]] = {}
        self.signals: list[tuple[str, Any]] = []
        self.failure: dict[str, str] | None = None
        self.result: Any = None
        self.begun = self.paused = self.cancelled = False
        self.over: SessionStatus | None = None
        self.session_due: float | None = self.after(document, "sessionTimeoutSeconds")
        self.look_around()

    def after(self, spec: dict[str, Any], field: str) -> float | None:
        """When a time has passed that the document may give."""
        return self.now + spec[field] if field in spec else None

    @property
    def unwinding(self) -> bool:
        """Whether it has failed or was cancelled."""
        return self.failure is not None or self.cancelled

    @property
    def status(self) -> SessionStatus:
        """Where the run stands."""
        if self.over is not None or self.paused:
            return self.over or SessionStatus.PAUSED
        if self.unwinding:
            return SessionStatus.CANCELLING if self.cancelled else SessionStatus.FAILING
        return SessionStatus.RUNNING if self.begun else SessionStatus.STARTED

    def every(self) -> Iterator[Thing]:
        """Every task, and every item that was begun."""
        for key, thing in self.things.items():
            yield thing
            yield from self.items.get(key, ())

    def graph(self) -> Iterator[Thing]:
        """The steps, their items and their fallbacks, which end when the run fails."""
        return (thing for thing in self.every() if thing["key"] not in self.ending)

    def is_over(self, key: str) -> bool:
        """Whether the steps after this one may begin."""
        thing, spec = self.things[key], self.specs[key]
        if thing["is"] is not TaskStatus.FAILED:
            return thing["is"] in (TaskStatus.COMPLETED, TaskStatus.SKIPPED)
        fallback = self.things.get(spec.get("fallbackTaskId", ""))
        if fallback is not None and fallback["is"] is not TaskStatus.FAILED:
            return fallback["is"] is TaskStatus.COMPLETED
        return bool(spec.get("continueOnFailure"))

    def result_of(self, key: str) -> Any:
        """The result of a task, as others read it."""
        thing, fallback = self.things[key], self.things.get(self.specs[key].get("fallbackTaskId", ""))
        if thing["is"] is TaskStatus.FAILED and fallback is not None and fallback["is"] is TaskStatus.COMPLETED:
            return fallback["result"]
        return thing["result"] if thing["is"] is TaskStatus.COMPLETED else None

    # --- what follows ---------------------------------------------------------------------------------------

    def look_around(self) -> None:
        """Let everything follow that follows from how things stand."""
        while self.over is None and self.something_follows():
            pass

    def something_follows(self) -> bool:
        if self.paused:
            return False
        return self.unwinds() if self.unwinding else self.goes_on()

    def goes_on(self) -> bool:
        if any(map(self.step_moves, self.steps)):
            return True
        if all(map(self.is_over, self.steps)):
            self.completes()
            return True
        return False

    def step_moves(self, key: str) -> bool:
        """Begin a step, go on with its list, or do what its failure calls for; answers whether anything changed."""
        thing = self.things[key]
        if thing["is"] is TaskStatus.PENDING and all(map(self.is_over, self.before[key])):
            self.begin_step(key)
            return True
        if thing["is"] is TaskStatus.RUNNING and self.has_list(thing):
            return self.list_moves(key)
        if thing["is"] is not TaskStatus.FAILED:
            return False
        fallback = self.things.get(self.specs[key].get("fallbackTaskId", ""))
        if fallback is not None and fallback["is"] is TaskStatus.PENDING:
            self.begin(fallback)
            return True
        if not self.is_over(key) and (fallback is None or fallback["is"] is TaskStatus.FAILED):
            message = f"task {key!r} failed: {thing['error']['message']}"
            self.failure = {"message": message, "code": thing["error"]["code"]}
            return True
        return False

    def completes(self) -> None:
        last = [key for key in self.steps if not any(key in before for before in self.before.values())]
        try:
            if "outputs" in self.document:
                self.result = value_of(self.document["outputs"], self.names(None))
            else:
                shown = [key for key in last if self.things[key]["is"] is not TaskStatus.SKIPPED]
                self.result = {key: self.result_of(key) for key in shown}
        except NoValueError:
            self.failure = {"message": "outputs: …", "code": "expression_failed"}
            return
        self.end(SessionStatus.COMPLETED)

    def unwinds(self) -> bool:
        for thing in self.graph():
            uncalled = thing["key"] not in self.steps and thing["is"] is TaskStatus.PENDING
            if thing["is"] in WAITS and not uncalled:
                self.close(thing, TaskStatus.CANCELLED)
            if self.awaits(thing) and not self.has_list(thing):
                self.close(thing, TaskStatus.CANCELLED)
        if any(self.list_moves(key) for key in self.items if self.things[key]["is"] is TaskStatus.RUNNING):
            return True
        if any(thing["is"] not in (*ENDS, TaskStatus.PENDING) for thing in self.graph()):
            return False
        for handler in self.to_do():
            if handler["is"] is TaskStatus.PENDING:
                self.begin(handler)
                return True
            if handler["is"] not in ENDS:
                return False
        self.end(SessionStatus.CANCELLED if self.cancelled else SessionStatus.FAILED)
        return True

    def to_do(self) -> Iterator[Thing]:
        """What is done once a run has failed or was cancelled, one after the other."""
        done = [self.things[key] for key in reversed(self.steps) if self.things[key]["is"] is TaskStatus.COMPLETED]
        for thing in sorted(done, key=lambda each: -each["ended"]):
            if "compensateTaskId" in self.specs[thing["key"]]:
                yield self.things[self.specs[thing["key"]]["compensateTaskId"]]
        if "onFailure" in self.document:
            last = self.things[self.document["onFailure"]]
            if not self.cancelled or last["is"] is not TaskStatus.PENDING:
                yield last

    def end(self, status: SessionStatus) -> None:
        self.over, self.session_due = status, None
        for thing in self.things.values():
            if thing["is"] is TaskStatus.PENDING:
                thing["is"] = TaskStatus.SKIPPED

    # --- how a task begins and ends -------------------------------------------------------------------------

    def begin_step(self, key: str) -> None:
        thing, spec, before = self.things[key], self.specs[key], self.before[key]
        if before and all(self.things[each]["is"] is TaskStatus.SKIPPED for each in before):
            self.close(thing, TaskStatus.SKIPPED)
            return
        try:
            if "when" in spec and not condition(spec["when"], self.names(thing)):
                self.close(thing, TaskStatus.SKIPPED)
            elif "forEach" in spec:
                self.lists[key] = list_of(spec["forEach"], self.names(thing))
                self.items.setdefault(key, [])
                thing["is"] = TaskStatus.RUNNING
            else:
                self.begin(thing)
        except NoValueError:
            self.ends_failed(thing, "…", "expression_failed")

    def begin(self, thing: Thing) -> None:
        """Begin what is no list: a step, an item, a handler."""
        thing["closes"] = self.after(self.specs[thing["key"]], "scheduleToCloseSeconds")
        self.attempt(thing)

    def attempt(self, thing: Thing) -> None:
        spec = self.specs[thing["key"]]
        try:
            parameters = value_of(spec.get("parameters", {}), self.names(thing))
            kind = spec.get("type", "agent")
            ends = self.delay_ends(parameters) if kind == "delay" else None
            if kind == "tool":
                self.check_call(parameters)
        except NoValueError:
            self.ends_failed(thing, "…", "expression_failed")
            return
        if kind in ("agent", "tool"):
            self.wait_in_line(thing)
            return
        thing["is"], thing["since"] = TaskStatus.RUNNING, self.now
        if kind == "delay":
            thing["due"] = earliest(ends, thing["closes"])
        else:
            thing["due"] = earliest(self.after(spec, "timeoutSeconds"), thing["closes"])
        if kind == "workflow":
            thing["attempts"] += 1
        if kind == "signal":
            self.hear(thing)

    def wait_in_line(self, thing: Thing) -> None:
        start_by = self.after(self.specs[thing["key"]], "scheduleToStartSeconds")
        thing["is"], thing["due"] = TaskStatus.READY, earliest(start_by, thing["closes"])

    @staticmethod
    def check_call(parameters: dict[str, Any]) -> None:
        if not isinstance(parameters["tool"], str) or not isinstance(parameters.get("arguments", {}), dict):
            raise NoValueError(parameters)

    def delay_ends(self, parameters: dict[str, Any]) -> float:
        if "until" in parameters:
            return max(self.now, dt.datetime.fromisoformat(parameters["until"]).timestamp())
        if not isinstance(parameters["seconds"], int) or parameters["seconds"] < 0:
            raise NoValueError(parameters)
        return self.now + float(parameters["seconds"])

    def signal_of(self, thing: Thing) -> str:
        return str(self.specs[thing["key"]].get("parameters", {}).get("name", thing["key"]))

    def hear(self, thing: Thing) -> None:
        """Take the first signal that came for a task which waits for one."""
        for signal in self.signals:
            if signal[0] == self.signal_of(thing):
                self.signals.remove(signal)
                self.close(thing, TaskStatus.COMPLETED, signal[1])
                return

    def close(self, thing: Thing, status: TaskStatus, result: Any = None) -> None:
        thing.update({"is": status, "due": None, "ended": self.now, "result": result, "out": False})
        if status is TaskStatus.COMPLETED:
            thing.update({"error": None, "losses": 0})

    def ends_failed(self, thing: Thing, message: str, code: str) -> None:
        thing["error"] = {"message": message, "code": code}
        self.close(thing, TaskStatus.FAILED)

    def fails(self, thing: Thing, message: str, code: str, *, for_good: bool) -> None:
        retry = self.specs[thing["key"]].get("retry", {})
        """An attempt failed, which spends a retry."""
        thing["failures"] += 1
        thing["error"] = {"message": message, "code": code}
        if (
            for_good
            or self.is_closed(thing)
            or code in retry.get("nonRetryable", ())
            or thing["failures"] > retry.get("maxRetries", 3)
            or self.begins_nothing(thing)
        ):
            self.close(thing, TaskStatus.FAILED)
            return
        ceiling = min(
            retry.get("initialDelaySeconds", 1) * retry.get("backoffCoefficient", 2) ** (thing["failures"] - 1),
            retry.get("maxDelaySeconds", 300),
        )
        delay = ceiling * (1 - self.luck) if retry.get("jitter", True) else ceiling
        thing.update({"is": TaskStatus.PENDING_RETRY, "losses": 0, "out": False})
        thing["due"] = earliest(self.now + delay, thing["closes"])

    def is_closed(self, thing: Thing) -> bool:
        return thing["closes"] is not None and thing["closes"] <= self.now

    def begins_nothing(self, thing: Thing) -> bool:
        """Whether a task may end, and not be tried again: its run has failed, or another item of its list."""
        if self.unwinding and thing["key"] not in self.ending:
            return True
        return thing["item"] is not None and self.broken_item(thing["key"]) is not None

    def awaits(self, thing: Thing) -> bool:
        return thing["is"] is TaskStatus.RUNNING and not thing["out"]

    # --- lists ----------------------------------------------------------------------------------------------

    def has_list(self, thing: Thing) -> bool:
        return thing["item"] is None and thing["key"] in self.items

    def broken_item(self, key: str) -> Thing | None:
        """The item that failed for good first, where that does harm."""
        failed = [item for item in self.items[key] if item["is"] is TaskStatus.FAILED]
        harmless = self.specs[key].get("continueOnFailure")
        return None if harmless or not failed else min(failed, key=lambda each: (each["ended"], each["item"]))

    def list_moves(self, key: str) -> bool:
        """Begin the next item, or end the list; answers whether anything changed."""
        thing, items, values = self.things[key], self.items[key], self.lists[key]
        broken = self.broken_item(key)
        if broken is not None:
            for item in items:
                if item["is"] in WAITS or self.awaits(item):
                    self.close(item, TaskStatus.CANCELLED)
        if any(item["out"] for item in items) and (broken is not None or self.unwinding):
            return False
        if broken is not None:
            message = f"item {broken['item']} failed: {broken['error']['message']}"
            self.ends_failed(thing, message, broken["error"]["code"])
            return True
        if len(items) == len(values) and all(item["is"] in (TaskStatus.COMPLETED, TaskStatus.FAILED) for item in items):
            self.close(thing, TaskStatus.COMPLETED, [item["result"] for item in items])
            return True
        if self.unwinding:
            if any(item["is"] not in (*ENDS, TaskStatus.PENDING) for item in items):
                return False
            self.close(thing, TaskStatus.CANCELLED)
            return True
        at_work = [item for item in items if item["is"] not in (*ENDS, TaskStatus.PENDING)]
        if len(at_work) >= self.specs[key].get("concurrency", 100):
            return False
        again = [item for item in items if item["is"] is TaskStatus.PENDING]
        if not again and len(items) < len(values):
            items.append(new_thing(key, len(items)))
            again = items[-1:]
        for item in again[:1]:
            self.begin(item)
        return bool(again)

    # --- what expressions see -------------------------------------------------------------------------------

    def names(self, thing: Thing | None) -> Names:
        tasks = {
            key: {"result": self.result_of(key), "status": each["is"].value, "error": each["error"]}
            for key, each in self.things.items()
        }
        names: dict[str, Any] = {"input": self.payload, "tasks": tasks}
        if thing is None:
            return names
        if thing["item"] is not None:
            names |= {"item": self.lists[thing["key"]][thing["item"]], "index": thing["item"]}
        steps = [key for key in self.steps if self.specs[key].get("fallbackTaskId") == thing["key"]]
        return names | {"error": self.things[steps[0]]["error"] if steps else self.failure}


def new_thing(key: str, item: int | None = None) -> Thing:
    return {
        "key": key, "item": item, "is": TaskStatus.PENDING, "out": False, "attempts": 0, "failures": 0, "losses": 0,
        "result": None, "error": None, "due": None, "closes": None, "ended": 0.0, "since": 0.0,
    }  # fmt: skip


def earliest(*times: float | None) -> float | None:
    return min((time for time in times if time is not None), default=None)


def in_order(needs: dict[str, list[str]]) -> list[str]:
    """The steps, each after those before it, and as they are listed where that leaves a choice."""
    order: list[str] = []
    while len(order) < len(needs):
        order.append(next(key for key in needs if key not in order and all(each in order for each in needs[key])))
    return order


def needs_of(steps: list[dict[str, Any]]) -> dict[str, list[str]]:
    """For each step those before it: by either way of writing them, else in listed order."""
    needs: dict[str, list[str]] = {step["taskId"]: list(step.get("dependsOn", ())) for step in steps}
    if not any("dependsOn" in step or step.get("nextTaskId") for step in steps):
        return {step["taskId"]: [one["taskId"]] if one else [] for one, step in pairwise([{}, *steps])}
    for step in steps:
        if step.get("nextTaskId") and step["taskId"] not in needs[step["nextTaskId"]]:
            needs[step["nextTaskId"]].append(step["taskId"])
    return needs
