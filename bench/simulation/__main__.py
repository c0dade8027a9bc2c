"""How fast worlds are played: `python -m bench.simulation [--rounds N] [--seconds S] [--output FILE]`.

It uses one core and collects garbage as seldom as `opscore simulate`. It plays worlds of the sample workflow with 5
agents and one run, each with and without the standard promises and the usual faults; then one world of 1,000 agents and
10,000 runs, and one a tenth of that size. A round measures each once, one after the other.
"""

import argparse
import os
import platform
import sys
import time
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Final

import attrs

from bench.page import Figure, Page, Verdict, add_outputs, bar_rows, commit, loads, machine
from opscore.gateway.process.garbage import collect_seldom
from opscore.runtime.simulation import (
    STANDARD,
    AgentModel,
    Faults,
    Invariants,
    Latency,
    Played,
    Scenario,
    Skill,
    Trigger,
    play,
)

SAMPLE: Final[Mapping[str, Any]] = {
    "id": "sample_workflow_id",
    "name": "Sample Load Test Workflow",
    "version": "1.0",
    "tasks": [
        {"taskId": "step_1", "agentCapability": "test_capability", "parameters": {}, "nextTaskId": "step_2"},
        {"taskId": "step_2", "agentCapability": "another_capability", "parameters": {"value": 123}},
    ],
}
SKILLS: Final = {
    each: Skill(latency=Latency("uniform", 0.1, 2.0)) for each in ("test_capability", "another_capability")
}
WORLDS_BAR: Final = 200.0
LARGE_AGENTS: Final = 1_000
LARGE_SESSIONS: Final = 10_000
LARGE_S_MAX: Final = 60.0
FIGURES: Final[Mapping[str, Figure]] = {
    "worlds": Figure(title="worlds", unit="1/s", form="{:,.1f}"),
    "virtual": Figure(title="virtual seconds a real one", unit="×"),
    "commits": Figure(title="commits", unit="1/s"),
    "seconds": Figure(title="the whole world", unit="s", form="{:,.1f}"),
}


def small(seed: int, faults: Faults) -> Scenario:
    return Scenario(
        seed=seed,
        workflows=[SAMPLE],
        agents=[AgentModel(count=5, skills=SKILLS)],
        triggers=[Trigger(payload={"number": seed})],
        faults=faults,
    )


def large(agents: int, sessions: int) -> Scenario:
    """Return a world in which all runs begin within a minute."""
    return Scenario(
        workflows=[SAMPLE],
        agents=[AgentModel(count=agents, skills=SKILLS)],
        triggers=[Trigger(at_s=60.0 * number / sessions) for number in range(sessions)],
    )


def many(seconds: float, faults: Faults, invariants: Invariants) -> dict[str, float]:
    """Play small worlds for a time."""
    began = time.perf_counter()
    worlds: list[Played] = []
    while time.perf_counter() < began + seconds:
        world = play(small(len(worlds), faults), invariants)
        world.check()
        worlds.append(world)
    lasted = time.perf_counter() - began
    return {
        "worlds": len(worlds) / lasted,
        "virtual": sum(world.elapsed_s for world in worlds) / lasted,
        "commits": sum(world.commits for world in worlds) / lasted,
    }


def one(agents: int, sessions: int) -> dict[str, float]:
    """Play one large world."""
    began = time.perf_counter()
    world = play(large(agents, sessions))
    world.check()
    lasted = time.perf_counter() - began
    return {"virtual": world.elapsed_s / lasted, "commits": world.commits / lasted, "seconds": lasted}


@attrs.frozen(kw_only=True)
class Report(Page):
    HEADER = """# Simulated worlds

What is measured stands at the top of [\\_\\_main\\_\\_.py](__main__.py). Run it again with `just bench-simulation`.
"""

    seconds: float

    def conditions(self) -> Iterator[str]:
        yield f"{self.rounds} rounds on one core; small worlds for {self.seconds:g} s each. Median (min–max)."
        yield "Every world kept its promises."

    def table(self) -> Iterator[str]:
        yield f"| world | {' | '.join(f'{figure.title}, {figure.unit}' for figure in FIGURES.values())} |"
        yield f"|---|{'---:|' * len(FIGURES)}"
        for name, figures in self.raw.items():
            yield f"| {name} | {' | '.join(figure.cell(figures.get(key)) for key, figure in FIGURES.items())} |"

    def bars(self) -> Iterator[str]:
        yield "| bar, on the medians | measured | |"
        yield "|---|---:|---|"
        yield from bar_rows(self.verdicts())

    def surroundings(self) -> Iterator[str]:
        yield f"Python {platform.python_version()}. Commit {commit()}. {machine()}. {loads(self.load_at_start)}."

    def verdicts(self) -> Iterator[Verdict]:
        medians = self.medians()
        rate = medians.get(PLAIN, {}).get("worlds")
        yield Verdict(
            bar=f"the sample workflow with 5 agents ≥ {WORLDS_BAR:g} worlds/s on one core",
            measured="not measured" if rate is None else f"{rate:.0f} worlds/s",
            passed=None if rate is None else rate >= WORLDS_BAR,
        )
        seconds = medians.get(LARGE, {}).get("seconds")
        yield Verdict(
            bar=f"{LARGE_AGENTS:,} agents with {LARGE_SESSIONS:,} runs ≤ {LARGE_S_MAX:g} s",
            measured="not measured" if seconds is None else f"{seconds:.1f} s",
            passed=None if seconds is None else seconds <= LARGE_S_MAX,
        )


PLAIN: Final = "sample, 5 agents, no faults"
LARGE: Final = f"sample, {LARGE_AGENTS:,} agents, {LARGE_SESSIONS:,} runs"


def measurements(seconds: float, share: float) -> dict[str, Callable[[], dict[str, float]]]:
    agents, sessions = round(LARGE_AGENTS * share), round(LARGE_SESSIONS * share)
    return {
        PLAIN: lambda: many(seconds, Faults(), STANDARD),
        "the same, no promises looked at": lambda: many(seconds, Faults(), Invariants()),
        "the same, usual faults": lambda: many(seconds, Faults.usual(), STANDARD),
        "sample, 100 agents, 1,000 runs": lambda: one(round(100 * share), round(1_000 * share)),
        LARGE: lambda: one(agents, sessions),
    }


def main() -> None:
    parser = argparse.ArgumentParser(prog="bench.simulation", description=(__doc__ or "").splitlines()[0])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=5.0, help="how long small worlds are played")
    parser.add_argument("--share", type=float, default=1.0, help="of the large worlds' size; the bar is for all of it")
    add_outputs(parser)
    options = parser.parse_args()
    os.sched_setaffinity(0, {min(os.sched_getaffinity(0))})
    collect_seldom()
    report = Report(raw={}, rounds=options.rounds, seconds=options.seconds)
    for round_ in range(options.rounds):
        for name, measure in measurements(options.seconds, options.share).items():
            figures = measure()
            shown = ", ".join(f"{FIGURES[key].shown(value)} {FIGURES[key].unit}" for key, value in figures.items())
            print(f"round {round_ + 1}  {name:36} {shown}", file=sys.stderr, flush=True)
            for key, value in figures.items():
                report.raw.setdefault(name, {}).setdefault(key, []).append(value)
    report.publish(options.output, options.json)


if __name__ == "__main__":
    main()
