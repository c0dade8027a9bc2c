"""`opscore workflow`: what can be done with a workflow document before a server sees it."""

import json
import sys
from pathlib import Path
from typing import Any

import click

from opscore.gateway.failures import EXIT_FAILED, EXIT_MISUSED, Misused, failing

_FILE = click.Path(path_type=Path, allow_dash=True)


@click.group()
def workflow() -> None:
    """Check workflow documents, without a server."""


@workflow.command()
@click.argument("files", nargs=-1, required=True, type=_FILE)
@click.option("--format", "shape", type=click.Choice(["text", "json"]), default="text", show_default=True,
              help="Text for people, or JSON for editors and CI.")  # fmt: skip
def validate(files: tuple[Path, ...], shape: str) -> None:
    """Tell everything that is wrong with each of FILES, JSON or YAML; `-` is the standard input.

    Each fault is told as file:line:column: message, with the line below it. A name that one object gives twice is a
    fault as well. A file whose name ends in neither .json, .yaml nor .yml is JSON if it reads as JSON.

    Exits with 0 when all of them are valid, with 1 when not, with 2 when one can't be read.

    Example: opscore workflow validate workflows/*.yaml
    """
    from opscore.gateway import fault_report
    from opscore.gateway.terminal import Terminal
    from opscore.gateway.workflow_file import Unreadable, read
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
                click.echo(fault_report.shown(file, terminal), color=terminal.coloured)
        if shape == "json":
            click.echo(json.dumps({"valid": code == 0, "files": documents}, ensure_ascii=False))
    sys.exit(code)
