"""The definitions that runs were started with, parsed once and kept while they are used."""

from collections import OrderedDict
from typing import Final

import attrs

from opscore.runtime.definitions import Definition, parse
from opscore.runtime.errors import StoreDamaged
from opscore.runtime.limits import Limits
from opscore.runtime.store import Snapshot
from opscore.runtime.tables import REVISIONS

KEPT_MAX: Final = 256


class Library:
    """A bounded cache of parsed definitions by digest, filled from the store."""

    def __init__(self, limits: Limits) -> None:
        self._limits = limits
        self._kept: OrderedDict[str, Definition] = OrderedDict()

    def keep(self, definition: Definition) -> None:
        """Remember a definition that was just parsed."""
        self._kept[definition.digest] = definition
        self._kept.move_to_end(definition.digest)
        if len(self._kept) > KEPT_MAX:
            self._kept.popitem(last=False)

    def find(self, view: Snapshot, digest: str) -> Definition:
        """Return the definition with this content.

        Raises:
            StoreDamaged: a run names a revision that is not stored.
        """
        definition = self._kept.get(digest)
        if definition is None:
            revision = REVISIONS.read(view, digest).row
            if revision is None:
                raise StoreDamaged(f"revision {digest}", "a session needs it and it is not there")
            # It was admitted once; a run keeps its definition also where the limit has become smaller since.
            limits = attrs.evolve(self._limits, tasks_max=len(revision.document["tasks"]))
            definition = parse(revision.document, limits)
        self.keep(definition)
        return definition
