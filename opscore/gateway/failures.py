"""How a command ends that can't do what it is asked: with one sentence on standard error."""

from typing import Any, Final

import click

EXIT_FAILED: Final = 1
EXIT_MISUSED: Final = 2


class Failed(click.ClickException):
    """Ends the command with one sentence and exit code 1."""

    exit_code = EXIT_FAILED

    def show(self, file: Any = None) -> None:
        """Print the sentence to standard error."""
        click.echo(f"opscore: {self.message}", err=True, file=file)


class Misused(Failed):
    """Ends the command with one sentence and exit code 2."""

    exit_code = EXIT_MISUSED
