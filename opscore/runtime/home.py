"""Where something is awaited: in the trio run that it was made in, and nowhere else."""

from typing import Final

import trio


class Home:
    """The trio run in which it was made.

    Events, mailboxes and lines are trio's: whoever waits for one in another loop, or in none, is woken by nobody, and
    leaves behind what the run itself breaks on.
    """

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: Final = trio.lowlevel.current_trio_token()

    def require_task(self, what: str, call: str) -> None:
        """Refuse whoever is no task of this run.

        Args:
            what: is done in trio, as a sentence begins.
            call: what is called, as the caller would write it.

        Raises:
            RuntimeError: it is called outside of trio, or in another run.
        """
        if not (trio.lowlevel.in_trio_task() and trio.lowlevel.current_trio_token() is self._token):
            raise RuntimeError(
                f"{what}: from a thread `trio.from_thread.run({call})`, from asyncio `await guest.call({call})`"
            )

    def require_thread(self, what: str, call: str) -> None:
        """Refuse another thread; a host's loop that this run is a guest of shares its thread, and may call.

        Args:
            what: is done in trio, as a sentence begins.
            call: what is called, as the caller would write it.

        Raises:
            RuntimeError: it is called in another thread.
        """
        if not (trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token):
            raise RuntimeError(f"{what}: from a thread `trio.from_thread.run_sync({call})`")
