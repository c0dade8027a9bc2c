"""Two directives that write what the code declares: `settings::` all settings, and `command:: key create` a command."""

from __future__ import annotations

import inspect
import re
from typing import TYPE_CHECKING, Any

import attrs
import click
from sphinx.util.docutils import SphinxDirective

from opscore.gateway.commands.cli import main
from opscore.gateway.settings import config, setting

if TYPE_CHECKING:
    from collections.abc import Iterator

    from docutils import nodes
    from sphinx.application import Sphinx

MARKS = re.compile(r"([\\*_|`<>])")
EXAMPLE = re.compile(r"^(Example: )(.*)$", re.MULTILINE)


def plain(text: str) -> str:
    """Write a text of the command line in reStructuredText, in which only what stands between backticks is code."""
    parts = EXAMPLE.sub(r"\1`\2`", text).split("`")
    return "".join(f"``{part}``" if place % 2 else MARKS.sub(r"\\\1", part) for place, part in enumerate(parts))


def settings() -> Iterator[str]:
    """Yield the table of all settings."""
    yield from (".. list-table::", "   :header-rows: 1", "   :widths: 24 14 62", "")
    yield from ("   * - setting", "     - default", "     - meaning")
    for field in attrs.fields(config.Settings):
        about = field.metadata["typed-settings"]["help"]
        yield f"   * - .. _setting-{field.name.replace('_', '-')}:"
        yield ""
        yield f"       ``{field.name}``"
        yield f"     - ``{field.metadata[setting.SHOWN]}``"
        yield f"     - {plain(about)} Expected: {plain(field.metadata[setting.EXPECTED])}.{plain(sources(field.name))}"


def sources(name: str) -> str:
    """Say from where a setting comes, if that is more, or less, than a file, its variable and its option."""
    others = [each for each in config.variables(name) if each != f"{config.VARIABLE_PREFIX}{name.upper()}"]
    if name in ("api_key", "webhook_secret"):
        return " It has no option."
    return f" The variable `{others[0]}` counts as well, if its own is not set." if others else ""


def found(path: list[str]) -> tuple[click.Command, click.Context]:
    """Return a command by its path below `opscore`, and a context in which it says how it is used."""
    command: click.Command = main
    context = click.Context(main, info_name="opscore")
    for name in path:
        assert isinstance(command, click.Group), f"{path} is no command"
        command = command.commands[name]
        context = click.Context(command, info_name=name, parent=context)
    return command, context


def described(path: list[str]) -> Iterator[str]:
    """Yield how a command is used, what it does, and its options."""
    command, context = found(path)
    usage = " ".join(command.collect_usage_pieces(context))
    yield from (".. code-block:: sh", "", f"   {context.command_path} {usage}", "")
    yield plain(inspect.cleandoc(command.help or ""))
    yield ""
    for option in command.params:
        record = option.get_help_record(context) if isinstance(option, click.Option) and not option.hidden else None
        if record is not None and path != ["serve"]:
            yield from (f"``{record[0]}``", f"   {plain(' '.join(record[1].split()))}", "")


class SettingsDirective(SphinxDirective):
    """Writes the table of all settings."""

    def run(self) -> list[nodes.Node]:
        """Return the table."""
        return self.parse_text_to_nodes("\n".join(settings()))


class CommandDirective(SphinxDirective):
    """Writes one command; its argument is the path below `opscore`, and none means `opscore` itself."""

    optional_arguments = 1
    final_argument_whitespace = True

    def run(self) -> list[nodes.Node]:
        """Return what `--help` says of the command."""
        return self.parse_text_to_nodes("\n".join(described(" ".join(self.arguments).split())))


def setup(app: Sphinx) -> dict[str, Any]:
    """Add the directives."""
    app.add_directive("settings", SettingsDirective)
    app.add_directive("command", CommandDirective)
    return {"parallel_read_safe": True}
