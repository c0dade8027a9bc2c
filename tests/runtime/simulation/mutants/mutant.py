"""A planted bug: one module of the runtime with other words in one place, in a process of its own."""

import importlib.abc
import importlib.machinery
import importlib.util
import sys
from collections.abc import Sequence
from pathlib import Path
from types import ModuleType

import attrs

ROOT = Path(__file__).parents[4]


@attrs.frozen(kw_only=True)
class Mutant:
    """A mistake that somebody might make."""

    name: str
    breaks: str
    """The promise that it breaks, as a user would see it."""
    module: str
    """The file it is in, from the project's root."""
    old: str
    """What stands there, once in the file."""
    new: str
    also: tuple[tuple[str, str, str], ...] = ()
    """Further places, where more than one thing keeps the promise: module, old, new."""
    scenario: str = ""
    """How it comes to light."""

    def sources(self) -> dict[str, str]:
        """The modules with the mistake, by their files.

        Raises:
            ValueError: a module has changed, so that nobody can tell where the mistake belongs.
        """
        sources: dict[str, str] = {}
        for module, old, new in ((self.module, self.old, self.new), *self.also):
            text = sources.get(module) or (ROOT / module).read_text(encoding="utf-8")
            if text.count(old) != 1:
                raise ValueError(f"{self.name}: what it replaces stands {text.count(old)} times in {module}")
            sources[module] = text.replace(old, new)
        return sources

    def plant(self) -> None:
        """Have this process import the modules with the mistake; before anything else imports them."""
        for file, source in self.sources().items():
            name = file.removesuffix(".py").replace("/", ".")
            assert name not in sys.modules, f"{name} is imported already"
            sys.meta_path.insert(0, _Planter(name, file, source))


class _Planter(importlib.abc.MetaPathFinder, importlib.abc.InspectLoader):
    def __init__(self, name: str, file: str, source: str) -> None:
        self._name = name
        self._file = file
        self._source = source

    def find_spec(
        self, fullname: str, path: Sequence[str] | None, target: ModuleType | None = None
    ) -> importlib.machinery.ModuleSpec | None:
        return importlib.util.spec_from_loader(fullname, self) if fullname == self._name else None

    def get_source(self, fullname: str) -> str:
        return self._source

    def exec_module(self, module: ModuleType) -> None:
        code = compile(self.get_source(module.__name__), str(ROOT / self._file), "exec")
        exec(code, module.__dict__)  # noqa: S102 (it is the project's own module, but for one mistake)
