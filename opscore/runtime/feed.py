"""Who waits for what to become durable: woken by the journal, after the commit, by entity."""

import contextlib
from collections.abc import Iterable, Iterator

import trio


class Feed:
    """Bells by entity id. A bell rings when a commit touches its entity; then its listener reads the rows."""

    def __init__(self) -> None:
        self._bells: dict[str, set[trio.Event]] = {}

    def publish(self, entity_ids: Iterable[str]) -> None:
        """Ring for each of these entities."""
        for entity_id in entity_ids:
            for bell in self._bells.pop(entity_id, ()):
                bell.set()

    @contextlib.contextmanager
    def listen(self, entity_id: str) -> Iterator[trio.Event]:
        """Hang up a bell before reading the rows, so that nothing slips between the look and the wait."""
        bell = trio.Event()
        self._bells.setdefault(entity_id, set()).add(bell)
        try:
            yield bell
        finally:
            bells = self._bells.get(entity_id)
            if bells is not None:
                bells.discard(bell)
                if not bells:
                    del self._bells[entity_id]

    def statistics(self) -> int:
        """How many listeners wait."""
        return sum(len(bells) for bells in self._bells.values())
