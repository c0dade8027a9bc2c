"""Dead letters: messages that no actor handled to the end."""

from __future__ import annotations

import enum
import logging
from collections import deque
from typing import TYPE_CHECKING

import attrs

if TYPE_CHECKING:
    from collections.abc import Callable

    from opscore.actors.clock import Clock

_LOGGER = logging.getLogger("opscore.actors")
_RECENT_MAX = 256
_LOGGED_MAX = 10
_LOGGED_WITHIN_S = 10.0


class DeadLetterReason(enum.Enum):
    """Why a message became a dead letter."""

    STOPPED = "the actor is gone"
    FAILED = "its handler raised"
    INTERRUPTED = "its handler was cancelled"
    UNHANDLED = "the actor has no handler for it"
    MAILBOX_FULL = "the mailbox was full"
    DROPPED_OLDEST = "a newer message took its place"
    DROPPED_NEWEST = "the mailbox was full and keeps older messages"


@attrs.frozen(kw_only=True)
class DeadLetter:
    """A message that no actor handled to the end."""

    actor: str
    """Path of the actor it was meant for."""
    message: object
    """The message itself."""
    reason: DeadLetterReason
    """Why it is a dead letter."""
    at: float
    """Wall time in Unix seconds."""


class DeadLetters:
    """Keeps the newest dead letters, passes each to the subscribers, and logs at a limited rate."""

    def __init__(self, clock: Clock) -> None:
        self.total = 0
        """Number of dead letters since the system was opened."""
        self._clock = clock
        self._recent: deque[DeadLetter] = deque(maxlen=_RECENT_MAX)
        self._subscribers: list[Callable[[DeadLetter], None]] = []
        self._window_started_at = -_LOGGED_WITHIN_S
        self._window_count = 0

    def subscribe(self, callback: Callable[[DeadLetter], None]) -> Callable[[], None]:
        """Call a function with every dead letter from now on, in the task in which the message was lost.

        Args:
            callback: Must not wait; exceptions that it raises are logged.

        Returns:
            A function that ends the subscription.
        """
        self._subscribers.append(callback)

        def unsubscribe() -> None:
            if callback in self._subscribers:
                self._subscribers.remove(callback)

        return unsubscribe

    def recent(self) -> tuple[DeadLetter, ...]:
        """Return the newest dead letters, oldest first; at most 256."""
        return tuple(self._recent)

    def record(self, actor: str, message: object, reason: DeadLetterReason) -> None:
        """Record a dead letter, log it and pass it to the subscribers."""
        letter = DeadLetter(actor=actor, message=message, reason=reason, at=self._clock.now())
        self.total += 1
        self._recent.append(letter)
        self._log(letter)
        for callback in tuple(self._subscribers):
            try:
                callback(letter)
            except Exception:
                # A subscriber's error must not reach the task in which the message was lost.
                _LOGGER.exception("a dead letter subscriber raised")

    def _log(self, letter: DeadLetter) -> None:
        if letter.at - self._window_started_at >= _LOGGED_WITHIN_S:
            if self._window_count > _LOGGED_MAX:
                _LOGGER.warning("%d more dead letters were not logged", self._window_count - _LOGGED_MAX)
            self._window_started_at = letter.at
            self._window_count = 0
        self._window_count += 1
        if self._window_count <= _LOGGED_MAX:
            _LOGGER.warning(
                "dead letter for %s: %s (%s)",
                letter.actor,
                type(letter.message).__name__,
                letter.reason.value,
                extra={"actor": letter.actor, "reason": letter.reason.name},
            )
