"""Random workflow documents, of everything that the language has."""

from typing import Any

from hypothesis import strategies as st

from tests.runtime.interpreter import needs_of

Spec = dict[str, Any]
PAYLOADS = st.fixed_dictionaries({"n": st.integers(0, 4), "list": st.lists(st.integers(0, 3), max_size=4)})
RESULTS = st.sampled_from([1, 0, 2, None, [1, 0], [], [2, 1, 1]])
KINDS = ["agent"] * 5 + ["tool", "signal", "signal", "delay", "workflow"]


def sometimes(draw: st.DrawFn, one_in: int = 4) -> bool:
    return draw(st.integers(0, one_in - 1)) == one_in - 1


@st.composite
def workflows(draw: st.DrawFn) -> dict[str, Any]:
    """A valid document."""
    steps = [{"taskId": f"t{number}"} for number in range(draw(st.sampled_from([3, 4, 2, 5, 6, 1])))]
    tasks = put_in_order(draw, steps)
    before = everything_before(steps)
    handlers: list[Spec] = []
    for step in steps:
        fill_step(draw, step, sorted(before[step["taskId"]]))
        readable = sorted({*before[step["taskId"]], step["taskId"]})
        if sometimes(draw):
            step["fallbackTaskId"] = f"{step['taskId']}_instead"
            handlers.append(handler(draw, step["fallbackTaskId"], readable))
        if sometimes(draw):
            step["compensateTaskId"] = f"{step['taskId']}_undone"
            handlers.append(handler(draw, step["compensateTaskId"], [each["taskId"] for each in steps]))
    document: dict[str, Any] = {"id": "w"}
    if sometimes(draw, 2):
        document["onFailure"] = "told"
        handlers.append(handler(draw, "told", [each["taskId"] for each in steps]))
    for one in handlers:
        tasks.insert(draw(st.integers(0, len(tasks))), one)
    if sometimes(draw):
        document["outputs"] = {"of": draw(values([each["taskId"] for each in tasks]))}
    if sometimes(draw, 8):
        document["sessionTimeoutSeconds"] = draw(st.sampled_from([10, 60]))
    return {**document, "tasks": tasks}


def put_in_order(draw: st.DrawFn, steps: list[Spec]) -> list[Spec]:
    """A chain in listed order, a chain by nextTaskId, or any graph, listed in any order."""
    kind = draw(st.sampled_from(["listed", "chain", "graph", "graph", "graph"]))
    if kind == "listed":
        return list(steps)
    if kind == "chain":
        for number, step in enumerate(steps[:-1]):
            step["nextTaskId"] = steps[number + 1]["taskId"]
        return [steps[0], *draw(st.permutations(steps[1:]))]
    for number, step in enumerate(steps):
        earlier = steps[:number]
        step["dependsOn"] = [each["taskId"] for each in earlier if sometimes(draw, 3)]
        free = [each for each in earlier if "nextTaskId" not in each]
        if free and not step["dependsOn"] and sometimes(draw):
            draw(st.sampled_from(free))["nextTaskId"] = step["taskId"]
    return list(draw(st.permutations(steps)))


def everything_before(steps: list[Spec]) -> dict[str, set[str]]:
    """For each step those that are over when it begins; the steps are in an order that they can be done in."""
    needs, found = needs_of(steps), dict[str, set[str]]()
    for step in steps:
        direct = needs[step["taskId"]]
        found[step["taskId"]] = {*direct}.union(*(found[each] for each in direct))
    return found


def fill_step(draw: st.DrawFn, step: Spec, readable: list[str]) -> None:
    kind = draw(st.sampled_from(KINDS))
    if sometimes(draw):
        step["when"] = draw(conditions(readable))
    names: tuple[str, ...] = ()
    if sometimes(draw):
        step["forEach"], names = draw(lists(readable)), ("item", "index", "6 / item")
        if sometimes(draw, 2):
            step["concurrency"] = draw(st.integers(1, 3))
    fill(draw, step, kind, readable, names)
    if sometimes(draw, 5):
        step["continueOnFailure"] = True


def handler(draw: st.DrawFn, key: str, readable: list[str]) -> Spec:
    spec: Spec = {"taskId": key}
    fill(draw, spec, draw(st.sampled_from(KINDS)), readable, ("error.code",))
    return spec


def fill(draw: st.DrawFn, spec: Spec, kind: str, readable: list[str], names: tuple[str, ...]) -> None:
    """What a task of some kind has, whatever part it plays."""
    spec["type"] = kind
    value = values(readable, *names)
    if kind in ("agent", "tool"):
        spec["agentCapability"] = "any"
        if sometimes(draw, 6):
            spec["scheduleToStartSeconds"] = draw(st.sampled_from([5, 30]))
    if kind in ("agent", "tool", "workflow"):
        spec["retry"] = draw(retries())
    if kind in ("signal", "workflow") and sometimes(draw, 3):
        spec["timeoutSeconds"] = draw(st.sampled_from([5, 30]))
    if sometimes(draw):
        spec["scheduleToCloseSeconds"] = draw(st.sampled_from([7, 40]))
    if kind == "agent" and sometimes(draw, 3):
        spec["parameters"] = {"x": draw(value)}
    if kind == "tool":
        calls: list[Spec] = [{"tool": "x"}, {"tool": "${input.n}"}, {"tool": "x", "arguments": "${input}"}]
        of_value = st.fixed_dictionaries({"tool": st.just("x"), "arguments": value})
        spec["parameters"] = draw(st.sampled_from(calls) | of_value)
    if kind == "signal" and not sometimes(draw, 3):
        spec["parameters"] = {"name": "go"}
    if kind == "workflow":
        spec["parameters"] = {"workflowId": "below", "input": draw(st.just(1) | value)}
    if kind == "delay":
        until = st.just({"until": "1970-01-01T00:17:00+00:00"})
        seconds = st.sampled_from([0, 5, 20, 5, 20, "${input.n}"]) | value
        spec["parameters"] = draw(until | st.fixed_dictionaries({"seconds": seconds}))


def retries() -> st.SearchStrategy[Spec]:
    return st.fixed_dictionaries(
        {"maxRetries": st.sampled_from([1, 2, 0])},
        optional={
            "initialDelaySeconds": st.sampled_from([0, 8]),
            "backoffCoefficient": st.sampled_from([1, 3]),
            "maxDelaySeconds": st.just(10),
            "jitter": st.booleans(),
            "nonRetryable": st.just(["fatal"]),
        },
    )


def values(readable: list[str], *names: str) -> st.SearchStrategy[str]:
    """A string that is one expression; some have no value."""
    found = ["input.n"] * 4 + ["input.gone", "6 / input.n", *names, *names]
    for key in readable:
        path = f"tasks.{key}"
        found += [f"{path}.result"] * 5 + [f"{path}.status", f"6 / {path}.result", f"{path}.error.code"]
    return st.sampled_from(found).map(lambda each: f"${{{each}}}")


def conditions(readable: list[str]) -> st.SearchStrategy[str]:
    """A condition; some have no value."""
    found = ["true"] * 4 + ["false", "input.n > 2", "input.n == 1", "input.gone", "${input.n > 0}"]
    for key in readable:
        path = f"tasks.{key}"
        found += [f"{path}.status == '{status}'" for status in ("completed", "completed", "failed", "skipped")]
        found += [f"{path}.result == 1", f"{path}.result > 0", f"{path}.error == null"]
    return st.sampled_from(found)


def lists(readable: list[str]) -> st.SearchStrategy[Any]:
    """The list of a task; some are none."""
    constants = st.lists(st.sampled_from([1, 2, 3, 1, 2, 3, 0, "${input.n}", "${input.gone}"]), max_size=4)
    named = ["input.list"] * 4 + ["input.n", *(f"tasks.{key}.result" for key in readable)]
    return constants | st.sampled_from(named).map(lambda each: f"${{{each}}}")
