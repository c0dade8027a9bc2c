"""The demo's keeper: a process that cleans up after the demo, however that ends.

It makes the demo's directory, leads the process group that the server and the agents join, and waits for its
standard input to end. That happens when the demo is done, and also when the demo is killed. Then the keeper ends
every process of the group, removes the directory and closes its standard output. So an orderly end and a kill take
the same code.

Only the standard library is imported, so that the keeper starts within milliseconds.
"""

import contextlib
import os
import shutil
import signal
import sys
import tempfile
import time

GRACE_S = 2.0
"""How long a process may take to end after SIGTERM, in seconds, before SIGKILL follows."""
POLL_S = 0.02
READ_BYTES = 4096


def main(*, keep: bool) -> None:
    """Print the directory's path, wait for the end of standard input, then clean up."""
    # A signal that ends the demo, such as Ctrl-C in its terminal, must not end its keeper first.
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)
    directory = tempfile.mkdtemp(prefix="opscore-demo-")
    with contextlib.suppress(BrokenPipeError):
        os.write(sys.stdout.fileno(), f"{directory}\n".encode())
        while os.read(sys.stdin.fileno(), READ_BYTES):
            pass
    leader = os.getpid()
    # A signal to a group also reaches its sender. A leader cannot leave its group, but its child can.
    if os.fork():
        return
    os.setsid()
    end_group(leader)
    if not keep:
        shutil.rmtree(directory, ignore_errors=True)


def end_group(leader: int) -> None:
    """Send SIGTERM to every process of a group, and SIGKILL to those that are left after the grace period."""
    with contextlib.suppress(ProcessLookupError):
        os.killpg(leader, signal.SIGTERM)
        ends_at = time.monotonic() + GRACE_S
        while time.monotonic() < ends_at:
            os.killpg(leader, 0)
            time.sleep(POLL_S)
        os.killpg(leader, signal.SIGKILL)


if __name__ == "__main__":
    main(keep="--keep" in sys.argv)
