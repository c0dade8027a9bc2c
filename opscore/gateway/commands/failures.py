"""How a failing command ends: with one sentence on standard error and an exit code."""

import contextlib
import errno
import os
import sys
from collections.abc import Iterator
from typing import Any, Final

import click

EXIT_FAILED: Final = 1
EXIT_MISUSED: Final = 2
EXIT_INTERRUPTED: Final = 130
UNWRITTEN: Final = frozenset({errno.EBADF, errno.EDQUOT, errno.EFBIG, errno.EIO, errno.ENOSPC})
"""Errors of an output that can't be written, because it is closed or there is no room. They name no file."""


class Failed(click.ClickException):
    """Ends the command with one sentence and exit code 1."""

    exit_code = EXIT_FAILED

    def show(self, file: Any = None) -> None:
        """Print the sentence to standard error."""
        click.echo(f"opscore: {self.message}", err=True, file=file)


class Misused(Failed):
    """Ends the command with one sentence and exit code 2."""

    exit_code = EXIT_MISUSED


@contextlib.contextmanager
def failing() -> Iterator[None]:
    """End the command with exit code 1 and one sentence if the block fails.

    The code is 2 if another process uses the directory, or if another release or program wrote it.
    """
    from opscore.runtime.errors import OpscoreError, StoreIncompatible, StoreLocked

    try:
        yield
    except (StoreLocked, StoreIncompatible) as error:
        raise Misused(str(error)) from error
    except OpscoreError as error:
        raise Failed(str(error)) from error
    except BrokenPipeError:
        # The reader of the output has left, so nothing more can be written to it.
        _discard_output()
        sys.exit(EXIT_FAILED)
    except OSError as error:
        raise Failed(f"{error.filename or 'the output'}: {error.strerror or error}") from error


def discard_unwritten() -> None:
    """Discard what standard output did not accept; else the interpreter would try again at exit, and complain."""
    try:
        sys.stdout.flush()
    except OSError:
        _discard_output()


def _discard_output() -> None:
    os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
