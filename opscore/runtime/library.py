"""A cache of the parsed definitions that runs were started with."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Any, Final

from opscore.runtime.definitions.definition import Definition, digest, parse, restore
from opscore.runtime.errors import StoreDamaged
from opscore.runtime.journal.tables import REVISIONS
from opscore.runtime.limits import Limits
from opscore.runtime.store import Snapshot

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

    def parsed(self, document: Mapping[str, Any]) -> Definition:
        """Validate a document, unless the same content was validated before.

        Raises:
            InvalidDocument: the document has faults; the error lists them all.
        """
        try:
            known = self._kept.get(digest(dict(document)))
        except (TypeError, ValueError, RecursionError):
            # It is not JSON at all, or nests too deeply; validation reports that better.
            known = None
        return known if known is not None else parse(dict(document), self._limits)

    def find(self, view: Snapshot, key: str) -> Definition:
        """Return the definition with this content.

        Raises:
            StoreDamaged: a run names a revision that is not stored.
        """
        definition = self._kept.get(key)
        if definition is None:
            revision = REVISIONS.read(view, key).row
            if revision is None:
                raise StoreDamaged(f"revision {key}", "a session needs it, but it does not exist")
            # It was valid once; a run keeps its definition even if limits or rules have become stricter since.
            definition = restore(revision.document, self._limits)
        self.keep(definition)
        return definition
