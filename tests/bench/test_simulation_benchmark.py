"""The simulation's benchmark runs, and every world in it keeps its promises; how fast that is, no test says."""

from pathlib import Path

import pytest

from bench.simulation import __main__ as benchmark
from opscore.runtime.simulation import STANDARD, Faults


def test_it_measures_every_world_and_holds_it_against_its_bars() -> None:
    report = benchmark.Report(raw={}, rounds=1, seconds=0.05)
    for name, measure in benchmark.measurements(0.05, 0.01).items():
        for key, value in measure().items():
            assert value > 0
            report.raw.setdefault(name, {}).setdefault(key, []).append(value)
    page = report.markdown()
    assert all(name in page for name in report.raw)
    assert [verdict.passed is None for verdict in report.verdicts()] == [False, False]


def test_what_was_not_measured_is_no_pass() -> None:
    assert [verdict.passed for verdict in benchmark.Report(raw={}, rounds=0, seconds=0.0).verdicts()] == [None, None]


def test_a_world_that_breaks_a_promise_ends_the_run() -> None:
    import attrs

    def never(_: object, __: object) -> object:
        yield "it happened"

    with pytest.raises(AssertionError, match="never"):
        benchmark.many(0.01, Faults(), attrs.evolve(STANDARD, on_commit=(never,)))  # type: ignore[arg-type]


def test_results_stand_beside_it() -> None:
    assert (Path(benchmark.__file__).parent / "results.md").exists()
