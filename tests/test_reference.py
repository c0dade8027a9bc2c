"""The site builds without a warning, needs no network to be read, and its reference leaves no public name out."""

import inspect
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from types import ModuleType
from typing import Any

import click
import pytest

import opscore
import opscore.actors
import opscore.actors.testkit
import opscore.runtime.errors
import opscore.runtime.hosting
import opscore.runtime.simulation
import opscore.runtime.simulation.strategies
from opscore.gateway.commands.cli import main
from tests.reference_pages import REFERENCE, Described, everything, missing, public_methods

DOCS = REFERENCE.parent
SDK = sys.modules[opscore.OpscoreClient.__module__]
# What a browser fetches by itself: scripts, styles, fonts and pictures, but no links.
FETCHED = re.compile(
    r"""<(?:script|img|source|iframe)[^>]*\ssrc="(?:https?:)?//|<link[^>]*\shref="https?://|url\("?https?:"""
)
DESCRIBED = everything()
PAGES = {"runtime", "client", "simulation"}
"""The pages whose docstrings are held to be complete; those of the actors have a guide that says what is missing."""
OF_THE_SDK = {"OpscoreClient", "ClientError", "ProblemError", "Unreachable"}
ON_ITS_PAGE = {
    "runtime": {*opscore.__all__, *(f"Node.{name}" for name in public_methods(opscore.Node))} - OF_THE_SDK,
    "client": {*OF_THE_SDK, *(f"OpscoreClient.{name}" for name in public_methods(opscore.OpscoreClient))},
    "simulation": {*opscore.runtime.simulation.__all__, *opscore.runtime.simulation.strategies.__all__},
}


def classes_of(module: ModuleType) -> Iterator[str]:
    return (
        name
        for name, value in vars(module).items()
        if inspect.isclass(value) and value.__module__ == module.__name__ and not name.startswith("_")
    )


def commands(command: click.Command, path: str = "") -> Iterator[str]:
    yield path
    for name, inner in getattr(command, "commands", {}).items():
        yield from commands(inner, f"{path} {name}".strip())


def names_on(page: str) -> list[str]:
    return [each.name for each in DESCRIBED if each.page == page]


@pytest.mark.parametrize(
    ("page", "names"),
    [("actors", opscore.actors.__all__), ("testkit", opscore.actors.testkit.__all__)],
    ids=["actors", "testkit"],
)
def test_the_reference_has_every_public_name_once(page: str, names: list[str]) -> None:
    text = (DOCS / "reference" / f"{page}.md").read_text()
    described = re.findall(r"^\.\. auto(?:class|function|exception):: (\w+)(?:\(\))?$", text, flags=re.MULTILINE)
    assert sorted(described) == sorted(names)


@pytest.mark.parametrize("page", ON_ITS_PAGE)
def test_every_public_name_and_method_is_on_its_page_once(page: str) -> None:
    described = names_on(page)
    assert sorted(ON_ITS_PAGE[page] - set(described)) == []
    assert [name for name in ON_ITS_PAGE[page] if described.count(name) > 1] == []


def test_every_error_and_what_bridges_to_asyncio_is_on_the_page_of_the_runtime() -> None:
    wanted = {*classes_of(opscore.runtime.errors), *classes_of(opscore.runtime.hosting), "open_guest"}
    assert sorted(wanted - set(names_on("runtime"))) == []


def test_every_name_that_the_sdk_exports_is_on_its_page() -> None:
    text = (REFERENCE / "client.md").read_text()
    assert [name for name in SDK.__all__ if name not in names_on("client") and f"`{name}`" not in text] == []


def test_every_command_is_on_the_page_of_settings_and_commands() -> None:
    text = (REFERENCE / "settings.md").read_text()
    shown = re.findall(r"^\.\. command::(.*)$", text, flags=re.MULTILINE)
    groups = {path for path in commands(main) if path and any(each.startswith(f"{path} ") for each in commands(main))}
    assert sorted(each.strip() for each in shown) == sorted(set(commands(main)) - groups)


@pytest.mark.parametrize(
    "described",
    [each for each in DESCRIBED if each.page in PAGES],
    ids=lambda each: f"{each.page}-{each.name}",
)
def test_a_docstring_says_every_argument_and_names_only_errors_that_exist(described: Described) -> None:
    assert missing(described.value, constructed=described.constructed) == []


class Unfinished:
    """What `missing` finds."""

    def half_said(self, known: int, unknown: int) -> int:
        """Add two numbers.

        Args:
            known: one of them.
            gone: what it took once.

        Raises:
            NoSuchError: never.
        """
        return known + unknown

    def mistaken(self) -> int:
        """Add nothing.

        Returns:
            a number: the smallest.
        """
        return 0

    def said(self, known: int, *others: int) -> int:
        """Return the sum.

        Args:
            known, others: the numbers.

        Raises:
            ValueError, StaleAttempt: never.
        """
        return known + sum(others)


@pytest.mark.parametrize(
    ("value", "faults"),
    [
        (
            Unfinished.half_said,
            [
                "there is no error NoSuchError",
                "it does not say what is returned",
                "it does not say what unknown is",
                "it describes gone, which it does not take",
            ],
        ),
        (Unfinished.mistaken, ["what stands before the colon would be shown as the type of what is returned"]),
        (Unfinished.said, []),
        (opscore.Session, []),
    ],
    ids=["half said", "mistaken", "said", "a class"],
)
def test_what_a_docstring_leaves_out_is_found(value: Any, faults: list[str]) -> None:
    assert missing(value) == faults


def test_the_site_builds_without_a_warning_and_can_be_read_without_a_network(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "sphinx", "--quiet", "--fail-on-warning", "--builder", "html", str(DOCS)]
    built = subprocess.run([*command, str(tmp_path)], capture_output=True, text=True, check=False, timeout=120)
    assert built.returncode == 0, built.stderr
    assert [page.name for page in tmp_path.rglob("*.html") if FETCHED.search(page.read_text())] == []
    assert "a supervised actor library" in (tmp_path / "guide" / "actors.html").read_text()
    reference = {page.stem: page.read_text() for page in (tmp_path / "reference").glob("*.html")}
    assert "Time that an agent may be silent before its task goes to another" in reference["settings"]
    assert "Copy the store to DESTINATION" in reference["settings"]
    assert "The process is killed, between any two steps" in reference["simulation"]
    assert "agent_not_found" in reference["runtime"]
