"""The entry point of the `opscore` command.

It handles signals before the rest is loaded: Ctrl-C ends with the right exit code, and SIGTERM stops a server.
"""

import os
import signal
import sys


def main() -> None:
    """Load the command line, run it, and end with its exit code."""
    # Stopping a server is success; any other command that is interrupted has not done its work.
    serves = sys.argv[1:2] == ["serve"]
    code = 0 if serves else 130
    before = signal.getsignal(signal.SIGTERM)
    if serves:
        # This holds until the server handles signals itself. The kernel drops a SIGTERM that process 1, as in a
        # container, has no handler for.
        signal.signal(signal.SIGTERM, signal.default_int_handler)
    try:
        _open_closed_streams()
        try:
            os.getcwd()  # noqa: PTH109 (pathlib takes milliseconds to load)
        except OSError as error:
            # Many of the modules loaded below need the current directory.
            sys.stderr.write(f"opscore: can't use the current directory: {error.strerror}; change to another one\n")
            sys.exit(2)
        from opscore.gateway.commands.cli import run  # noqa: PLC0415 (loading it is what may be interrupted)

        code = run()
    except KeyboardInterrupt:
        pass
    finally:
        signal.signal(signal.SIGTERM, before)
    sys.exit(code)


def _open_closed_streams() -> None:
    """Open the standard streams that were closed at the start: else a socket or the store's file gets their numbers.

    Standard input is then empty and standard error is discarded. Writing to standard output fails, because a command
    whose output is lost must not succeed.
    """
    for descriptor, flags in enumerate((os.O_RDONLY, os.O_RDONLY, os.O_WRONLY)):
        try:
            os.fstat(descriptor)
        except OSError:
            # `os.open` takes the lowest free descriptor, which is this one. Child processes inherit it.
            os.set_inheritable(os.open(os.devnull, flags), True)
    # A stream whose descriptor was closed when the interpreter started is None, though its type does not say so.
    streams = vars(sys)
    for descriptor, (name, mode) in enumerate((("stdin", "r"), ("stdout", "w"), ("stderr", "w"))):
        if streams[name] is None:
            streams[name] = os.fdopen(descriptor, mode, encoding="utf-8", errors="backslashreplace", closefd=False)


if __name__ == "__main__":
    main()
