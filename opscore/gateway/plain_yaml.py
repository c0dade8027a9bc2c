"""YAML as JSON would say it: no aliases, no dates, and no tag that makes anything else."""

from typing import Any

import yaml


def read(text: bytes | str) -> Any:
    """Read a document.

    Raises:
        ValueError: it is not YAML, or says what JSON can't; the message is one line.
    """
    try:
        return yaml.load(text, Loader=_PlainLoader)  # noqa: S506 (a safe loader's subclass)
    except Exception as error:
        # Beside its own errors it raises whatever its reading of a tagged scalar runs into: !!bool x, a KeyError.
        raise ValueError(" ".join(str(error).split())) from error


class _PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which can grow without bound, and without dates, which JSON can't say.

    libyaml's loader would be several times as fast, but it recurses in C: deep nesting ends the process.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        if self.check_event(yaml.AliasEvent):
            raise yaml.YAMLError("aliases are not taken")
        return super().compose_node(parent, index)


_PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in resolvers if tag != "tag:yaml.org,2002:timestamp"]
    for first, resolvers in yaml.SafeLoader.yaml_implicit_resolvers.items()
}
