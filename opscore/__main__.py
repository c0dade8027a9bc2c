"""The first step of the `opscore` command.

From here on, also while the rest still loads, Ctrl-C has its exit code, and a server that is told to stop stops.
"""

import os
import signal
import sys


def main() -> None:
    """Load the command line, run it, and end with its exit code."""
    # A server that is told to stop has done what it was asked to; whatever else is interrupted has not.
    serves = sys.argv[1:2] == ["serve"]
    code = 0 if serves else 130
    before = signal.getsignal(signal.SIGTERM)
    if serves:
        # Until the server takes its signals itself. Process 1, as in a container, would not even hear of this one.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _open_closed_streams()
        try:
            os.getcwd()  # noqa: PTH109 (pathlib takes milliseconds to load)
        except OSError as error:
            # Much of what is loaded asks for it.
            sys.stderr.write(
                f"opscore: the directory that this was begun in: {error.strerror}; change to another one\n"
            )
            sys.exit(2)
        from opscore.gateway.cli import run  # noqa: PLC0415 (loading it is what may be interrupted)

        code = run()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Have the standard streams that came closed be open: a socket or the store's file would take their numbers.

    Nothing is there to be read, errors go nowhere, and what is written to the standard output fails, as it has to
    where something was asked for.
    """
    for descriptor, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # The lowest number that is free is this one; commands that are started from here are given it as well.
            os.set_inheritable(os.open(os.devnull, flags), True)
    # The interpreter has none where a descriptor was closed when it began, whatever a type checker thinks.
    streams = vars(sys)
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if streams[name] is None:
            streams[name] = os.fdopen(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)


if __name__ == "__main__":
    main()
