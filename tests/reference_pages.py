"""What the pages of the reference describe, and what the docstrings of that say and leave out."""

import ast
import enum
import functools
import importlib
import inspect
import itertools
import re
import sys
import types
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import attrs

import opscore

REFERENCE = Path(__file__).parents[1] / "docs" / "reference"
DIRECTIVE = re.compile(
    r"^\.\. (?P<kind>currentmodule|auto\w+):: (?P<name>[\w.]+)(?P<bare>\(\))?(?P<options>(?:\n {3}:.*)*)", re.MULTILINE
)
SECTION = re.compile(r"^(Args|Attributes|Returns|Yields|Raises):\n((?:[ ]+\S.*\n?|\n)*)", re.MULTILINE)
ENTRY = re.compile(r"^ {4}(\S[^:]*): ", re.MULTILINE)
ERRORS = (
    "builtins",
    "opscore.actors.errors",
    "opscore.runtime.errors",
    "opscore.runtime.hosting",
    "opscore.runtime.simulation",
    "opscore.runtime.simulation.faults",
    opscore.OpscoreClient.__module__,
)
"""The modules whose errors a docstring names without the module."""


@attrs.frozen(kw_only=True)
class Described:
    """Something that a page of the reference describes."""

    page: str
    module: str
    name: str
    """As the page says it, without the module: `Node.trigger`."""
    constructed: bool
    """Whether the page shows how to make one, and not only what it has."""

    @property
    def value(self) -> Any:
        return functools.reduce(_looked_up, self.name.split("."), importlib.import_module(self.module))


def _looked_up(owner: Any, name: str) -> Any:
    """Look a name up as it stands in a class: a property itself, and not its value; None for a mere attribute."""
    in_a_class = inspect.isclass(owner)
    if in_a_class and name in _attribute_docstrings(owner):
        return None
    return inspect.getattr_static(owner, name) if in_a_class else getattr(owner, name)


def described(page: Path) -> Iterator[Described]:
    """Read what a page describes: what its directives name, and the members that they include."""
    module = ""
    for found in DIRECTIVE.finditer(page.read_text()):
        if found["kind"] == "currentmodule":
            module = found["name"]
            continue
        whole = Described(page=page.stem, module=module, name=found["name"], constructed=not found["bare"])
        yield whole
        members = re.search(r":members:(.*)", found["options"])
        if members is not None:
            names = re.findall(r"\w+", members[1]) or list(_members(whole.value))
            yield from (attrs.evolve(whole, name=f"{whole.name}.{each}") for each in names)


def everything() -> list[Described]:
    """Read what all pages describe."""
    return [each for page in sorted(REFERENCE.glob("*.md")) for each in described(page)]


def _members(kind: type) -> Iterator[str]:
    """The public methods and properties that a class itself defines."""
    for name, value in vars(kind).items():
        if not name.startswith("_") and isinstance(value, FUNCTIONS | property):
            yield name


FUNCTIONS = type(_looked_up) | staticmethod | classmethod


def public_methods(kind: type) -> set[str]:
    """The names of the methods and properties that a class offers, those of its bases included."""
    return {name for base in kind.__mro__ if base.__module__.startswith("opscore") for name in _members(base)}


# --- what is missing ---------------------------------------------------------------------------------------------


def missing(value: Any, *, constructed: bool = True) -> list[str]:
    """Say what a docstring leaves out, or says of what does not exist."""
    if isinstance(value, property):
        return _of_text(value.fget, returns=False)
    if isinstance(value, staticmethod | classmethod):
        value = value.__func__
    if isinstance(value, types.GenericAlias):
        return []
    if inspect.isclass(value):
        return [*_of_text(value, returns=False), *_of_class(value, constructed=constructed)]
    if callable(value):
        return [*_of_text(value, returns=True), *_of_arguments(value)]
    return []


def _of_text(value: Any, *, returns: bool) -> list[str]:
    text = inspect.getdoc(value) or ""
    if not re.match(r"[A-Z`].*\S", text):
        return ["it has no sentence that says what it is"]
    faults = [f"there is no error {name}" for name in _entries(text, "Raises") if not _is_error(name)]
    gives = inspect.signature(value).return_annotation if returns else None
    if gives not in (None, "None", inspect.Signature.empty) and not re.search(
        r"\b([Rr]eturns?|Whether|Yields|Draw)\b", text
    ):
        faults.append("it does not say what is returned")
    if re.search(r"^(?:Returns|Yields):\n {4}[^\n]*: ", text, re.MULTILINE):
        faults.append("what stands before the colon would be shown as the type of what is returned")
    return faults


def _of_arguments(function: Any) -> list[str]:
    names = {
        name
        for place, (name, each) in enumerate(inspect.signature(function).parameters.items())
        if not (place == 0 and name in ("self", "cls", "draw")) and not name.startswith("_")
    }
    said = set(_entries(inspect.getdoc(function) or "", "Args"))
    return [
        *(f"it does not say what {name} is" for name in sorted(names - said)),
        *(f"it describes {name}, which it does not take" for name in sorted(said - names)),
    ]


def _of_class(kind: type, *, constructed: bool) -> list[str]:
    # What an error names is an input that was wrong, and says nothing of what the field means.
    text, _, _ = (inspect.getdoc(kind) or "").partition("Raises:")
    said = {*_entries(text, "Args"), *_entries(text, "Attributes"), *re.findall(r"`(\w+)`", text)}
    said |= {name for base in kind.__mro__ for name in _attribute_docstrings(base)}
    if issubclass(kind, enum.Enum):
        wanted = {name for name, member in kind.__members__.items() if member.value not in said}
    elif attrs.has(kind):
        # A fault says in its metadata what it does, for the command line and for this page.
        wanted = {
            each.name for each in attrs.fields(kind) if not (each.name.startswith("_") or "what" in each.metadata)
        }
    elif issubclass(kind, BaseException) and not constructed:
        wanted = {name for base in kind.__mro__ for name in _assigned(base)}
        said |= {name for base in kind.__mro__ for name in re.findall(r"`(\w+)`", base.__doc__ or "")}
        said |= {name for base in kind.__mro__ for name in _entries(inspect.cleandoc(base.__doc__ or ""), "Attributes")}
    elif constructed and "__init__" in vars(kind):
        return _of_arguments_of_class(kind)
    else:
        wanted = set()
    return [f"it does not say what {name} is" for name in sorted(wanted - said)]


def _of_arguments_of_class(kind: type) -> list[str]:
    names = set(list(inspect.signature(vars(kind)["__init__"]).parameters)[1:])
    said = set(_entries(inspect.getdoc(kind) or "", "Args"))
    return [
        *(f"it does not say what {name} is" for name in sorted(names - said)),
        *(f"it describes {name}, which it does not take" for name in sorted(said - names)),
    ]


def _entries(text: str, section: str) -> list[str]:
    """The names in a section of a docstring, of which a line may have several."""
    bodies = [body for title, body in SECTION.findall(text) if title == section]
    return [name.strip("* ") for body in bodies for names in ENTRY.findall(body) for name in names.split(",")]


def _is_error(name: str) -> bool:
    module, _, bare = name.rpartition(".")
    places = (module,) if module else ERRORS
    found = (getattr(importlib.import_module(place), bare, None) for place in places)
    return any(inspect.isclass(each) and issubclass(each, BaseException) for each in found)


def _assigned(kind: type) -> set[str]:
    """The public attributes that an error of this project gets when it is made."""
    if not kind.__module__.startswith("opscore") or "__init__" not in vars(kind):
        return set()
    found = re.findall(
        r"^\s+self\.([a-z]\w*)(?:: .*)? = ", inspect.getsource(vars(kind)["__init__"]), flags=re.MULTILINE
    )
    return set(found) - {"args"}


@functools.cache
def _attribute_docstrings(kind: type) -> dict[str, str]:
    """The docstrings that stand below the attributes of a class, or below those that its `__init__` makes."""
    if not kind.__module__.startswith("opscore"):
        return {}
    source = inspect.getsource(sys.modules[kind.__module__])
    body = next(
        node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.ClassDef) and node.name == kind.__name__
    ).body
    makes = [
        step for node in body if isinstance(node, ast.FunctionDef) and node.name == "__init__" for step in node.body
    ]
    return dict(_below(body)) | dict(_below(makes))


def _below(body: list[ast.stmt]) -> Iterator[tuple[str, str]]:
    for step, after in itertools.pairwise(body):
        target = step.target if isinstance(step, ast.AnnAssign) else getattr(step, "targets", [None])[0]
        name = ast.unparse(target).removeprefix("self.") if isinstance(target, ast.Name | ast.Attribute) else ""
        if name and isinstance(after, ast.Expr) and isinstance(after.value, ast.Constant):
            yield name, str(after.value.value)
