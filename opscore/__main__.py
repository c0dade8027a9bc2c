"""The first step of the `opscore` command: an interrupt while the rest still loads is no traceback."""

import sys


def main() -> None:
    """Load the command line, then run it."""
    try:
        from opscore.gateway.cli import main as command  # noqa: PLC0415 (loading it is what may be interrupted)
    except KeyboardInterrupt:
        sys.exit(130)
    command()


if __name__ == "__main__":
    main()
