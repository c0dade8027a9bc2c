"""The list of planted bugs is whole, each still fits the code, and the hunt finds what is there and nothing else.

That every one of them is found takes some minutes: `just mutants`.
"""

import subprocess
import sys
from pathlib import Path

import attrs
import pytest

from tests.runtime.simulation.mutants import fresh, hunt, planted
from tests.runtime.simulation.mutants.mutant import Mutant

QUICK = (
    "attempt-is-not-counted",
    "busy-agents-are-given-work",
    "key-is-forgotten",
    "join-starts-on-first-predecessor",
    "losses-have-no-bound",
    "reply-before-commit",
)


def test_there_are_many_and_some_are_by_somebody_who_had_not_read_the_promises() -> None:
    assert len(planted.MUTANTS) >= 25
    assert len(fresh.MUTANTS) >= 10
    assert len(hunt.MUTANTS) == sum(len(module.MUTANTS) for module in hunt.MODULES), "each has a name of its own"


@pytest.mark.parametrize("mutant", hunt.MUTANTS.values(), ids=lambda mutant: mutant.name)
def test_each_still_fits_the_code_and_says_what_it_breaks(mutant: Mutant) -> None:
    for file, source in mutant.sources().items():
        compile(source, file, "exec")
    assert mutant.breaks.endswith(".")


def test_none_is_found_by_a_name_that_its_module_does_not_have(tmp_path: Path) -> None:
    for mutant in hunt.MUTANTS.values():
        for file, source in mutant.sources().items():
            (tmp_path / f"{mutant.name}--{Path(file).name}").write_text(source)
    check = [sys.executable, "-m", "ruff", "check", "--isolated", "--no-cache", "--select=F821", str(tmp_path)]
    checked = subprocess.run(check, capture_output=True, text=True, check=False)
    assert checked.returncode == 0, checked.stdout


@pytest.mark.parametrize("name", QUICK)
def test_the_quickest_are_found_at_once(name: str) -> None:
    found = hunt.hunt(hunt.MUTANTS[name], 60)
    assert found.invariant is not None, f"{name} is not found"


def test_where_nothing_is_planted_nothing_is_found() -> None:
    found = hunt.hunt(hunt.MUTANTS["attempt-is-not-counted"], 0)
    assert (found.worlds, found.invariant) == (0, None)


def test_a_bug_that_no_longer_fits_is_named() -> None:
    gone = attrs.evolve(planted.MUTANTS[0], old="this stands nowhere")
    with pytest.raises(ValueError, match="stands 0 times"):
        gone.sources()
