"""`opscore workflow`: check and draw a workflow document before a server sees it."""

import json
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from opscore.gateway.commands.failures import EXIT_FAILED, EXIT_MISUSED, Failed, Misused, failing

if TYPE_CHECKING:
    from opscore.gateway.process.terminal import Terminal
    from opscore.runtime.definitions.definition import Definition

_FILE = click.Path(path_type=Path, allow_dash=True)


@click.group()
def workflow() -> None:
    """Check and draw workflow documents, without a server."""


@workflow.command()
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--format", "shape", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Text for people, or JSON for editors and CI.")  # fmt: skip
def validate(files: tuple[Path, ...], shape: str) -> None:
    """Report everything that is wrong with each of FILES, JSON or YAML; `-` is standard input.

    Each fault is printed as file:line:column: message, with the line below it. A name that occurs twice in one object
    is a fault as well. A file whose name does not end in .json, .yaml or .yml is read as JSON if it is valid JSON, and
    else as YAML.

    Exits with 0 if all of them are valid, with 1 if not, and with 2 if one can't be read.

    Example: opscore workflow validate workflows/*.yaml
    """
    from opscore.gateway.commands import fault_report
    from opscore.gateway.commands.workflow_file import Unreadable, read
    from opscore.gateway.process.terminal import Terminal
    from opscore.runtime.limits import Limits

    documents: list[dict[str, Any]] = []
    code = 0
    with failing():
        terminal = Terminal.of_output()
        for path in files:
            try:
                file = read(path, Limits())
            except Unreadable as error:
                code = EXIT_MISUSED
                Misused(str(error)).show()
                documents.append({"file": str(path), "valid": False, "unreadable": str(error), "faults": []})
                continue
            code = code or (EXIT_FAILED if file.definition is None else 0)
            if shape == "json":
                documents.append(fault_report.document(file))
            else:
                click.echo(fault_report.shown(file, terminal))
        if shape == "json":
            click.echo(json.dumps({"valid": code == 0, "files": documents}, ensure_ascii=False))
    sys.exit(code)


@workflow.command()
@click.argument("file", type=_FILE)
@click.option("--format", "shape", type=click.Choice(["text", "mermaid", "svg"]), default="text", show_default=True,
              help="Text for the terminal, Mermaid for Markdown, or an SVG file.")  # fmt: skip
@click.option("--output", type=_FILE, default=Path("-"), help="Where to write it. [standard output]")
def graph(file: Path, shape: str, output: Path) -> None:
    """Draw the tasks of FILE, a valid workflow in JSON or YAML, and their order; `-` is standard input.

    Each box shows the task's id, and below it the capability that the task needs, or its agent as @id. A graph that is
    too wide for the terminal is printed as a list. An SVG file needs no other file, and follows the reader's light or
    dark scheme.

    Exits with 1 if the document is not valid, and prints its faults as `validate` does; with 2 if it can't be read.

    Example: opscore workflow graph orders.yaml --format svg --output orders.svg
    """
    from opscore.gateway.commands import fault_report
    from opscore.gateway.commands.output_file import written
    from opscore.gateway.commands.workflow_file import Unreadable, read
    from opscore.gateway.process.terminal import Terminal
    from opscore.runtime.limits import Limits

    with failing():
        if output.exists() and file.exists() and output.samefile(file):
            raise Misused(f"{output} is the workflow itself; name another file, or - for standard output")
        terminal = Terminal.of_output()
        try:
            found = read(file, Limits())
        except Unreadable as error:
            raise Misused(str(error)) from error
        if found.definition is None:
            click.echo(fault_report.shown(found, terminal), err=True)
            sys.exit(EXIT_FAILED)
        drawing = _drawing(found.definition, shape, terminal)
        if output == Path("-"):
            click.echo(drawing)
        else:
            with written(output) as out:
                out.write(f"{drawing}\n".encode())


def _drawing(definition: "Definition", shape: str, terminal: "Terminal") -> str:
    from opscore.gateway.graphs.layout import NotDrawable
    from opscore.gateway.graphs.mermaid import mermaid
    from opscore.gateway.graphs.svg import svg
    from opscore.gateway.graphs.tasks import graph_of
    from opscore.gateway.graphs.text import drawn

    tasks = graph_of(definition)
    if shape == "text":
        return drawn(tasks, terminal)
    if shape == "mermaid":
        return mermaid(tasks)
    try:
        return svg(tasks)
    except NotDrawable as error:
        raise Failed(f"{definition.workflow_id} can't be drawn as SVG: {error}; try --format mermaid") from error
