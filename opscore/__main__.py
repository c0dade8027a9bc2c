"""The first step of the `opscore` command: from here on, also while the rest still loads, Ctrl-C has its exit code."""

import sys


def main() -> None:
    """Load the command line, run it, and end with its exit code."""
    # A server that is told to stop has done what it was asked to; whatever else is interrupted has not.
    code = 0 if sys.argv[1:2] == ["serve"] else 130
    try:
        from opscore.gateway.cli import run  # noqa: PLC0415 (loading it is what may be interrupted)

        code = run()
    except KeyboardInterrupt:
        pass
    sys.exit(code)


if __name__ == "__main__":
    main()
