"""Binding an object to the trio run that it was made in, and refusing calls from elsewhere."""

from typing import Final

import trio


class Home:
    """The trio run in which it was made.

    Events, mailboxes and lines belong to that run. Code that waits for one in another loop, or in none, is never woken,
    and leaves behind a waiter that breaks the run itself.
    """

    __slots__ = ("_token",)

    def __init__(self) -> None:
        self._token: Final = trio.lowlevel.current_trio_token()

    def require_task(self, what: str, call: str) -> None:
        """Refuse a caller that is not a task of this run.

        Args:
            what: the beginning of the error's message, such as "a heartbeat is sent in trio".
            call: the call as the caller would write it.

        Raises:
            RuntimeError: it is called outside of trio, or in another run.
        """
        if not (trio.lowlevel.in_trio_task() and trio.lowlevel.current_trio_token() is self._token):
            raise RuntimeError(
                f"{what}: from a thread `trio.from_thread.run({call})`, from asyncio `await guest.call({call})`"
            )

    def require_thread(self, what: str, call: str) -> None:
        """Refuse a caller in another thread. The loop of which this run is a guest shares its thread, and may call.

        Args:
            what: the beginning of the error's message.
            call: the call as the caller would write it.

        Raises:
            RuntimeError: it is called in another thread.
        """
        if not (trio.lowlevel.in_trio_run() and trio.lowlevel.current_trio_token() is self._token):
            raise RuntimeError(f"{what}: from a thread `trio.from_thread.run_sync({call})`")
