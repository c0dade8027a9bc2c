"""The demo's keeper: a process whose one task is that nothing of the demo outlives it.

It makes the demo's directory, leads the process group that the server and the agents join, and waits for its
standard input to end. That happens when the demo is done, and just as well when the demo is killed: then the
keeper ends every process of the group, removes the directory and closes its standard output. The orderly end
and the violent one are therefore the same code.

Only the standard library is imported, so that the keeper is there within milliseconds.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time

GRACE_S = 2.0
"""How long a process may take over SIGTERM before SIGKILL follows."""
POLL_S = 0.02
READ_BYTES = 4096


def main(*, keep: bool) -> None:
    """Print the directory's path, wait for the end of standard input, then clear everything away."""
    # What ends the demo, such as Ctrl-C in its terminal, must not end its keeper first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    directory = tempfile.mkdtemp(prefix="opscore-demo-")
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), f"{directory}\n".encode())
        while os.read(sys.stdin.fileno(), READ_BYTES):
            pass
    leader = os.getpid()
    # A signal to a group reaches its sender too, and a leader cannot leave its group; its child can.
    if os.fork():
        return
    os.setsid()
    end_group(leader)
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)


def end_group(leader: int) -> None:
    """Send SIGTERM to every process of a group, and SIGKILL to those that are left after the grace."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGTERM)
        ends_at = time.monotonic() + GRACE_S
        while time.monotonic() < ends_at:
            os.killpg(leader, 0)
            time.sleep(POLL_S)
        os.killpg(leader, signal.SIGKILL)


if __name__ == "__main__":
    main(keep="--keep" in sys.argv)
