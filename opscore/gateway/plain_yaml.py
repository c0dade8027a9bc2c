"""YAML as JSON would say it: no aliases, no dates, and no tag that makes anything else.

What is a number, true, false or null is what YAML 1.2 has in its core schema (10.3.2), so that JSON within YAML reads
the same; what YAML 1.1 made of `22:30`, `0777`, `1_000` or `no` is what is written: a text.
"""

import re
import sys
from typing import Any, Final

import yaml

from opscore.runtime.codec import too_large

BYTES_MAX: Final = 64 * 1024
"""PyYAML takes about 15 microseconds a byte, most of a second for a body of this size; JSON takes a hundredth."""
VALUE_SHOWN: Final = 64
"""Characters of a value that can't be read."""
SUFFIXES: Final = (".yaml", ".yml")
"""What names of files end in that hold it."""
_TAGS: Final = "tag:yaml.org,2002:"
MERGE: Final = f"{_TAGS}merge"
"""The tag of `<<`."""
INT: Final = f"{_TAGS}int"
"""The tag of a whole number."""
_SCALARS: Final = (
    (f"{_TAGS}null", ["", *"~nN"], re.compile(r"(?:~|null|Null|NULL|)\Z")),
    (f"{_TAGS}bool", [*"tTfF"], re.compile(r"(?:true|True|TRUE|false|False|FALSE)\Z")),
    (INT, [*"+-0123456789"], re.compile(r"(?:[-+]?(?:0|[1-9][0-9]*)|0x[0-9a-fA-F]+)\Z")),
    (
        f"{_TAGS}float",
        [*"+-.0123456789"],
        re.compile(
            r"(?:[-+]?(?:(?:0|[1-9][0-9]*)(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][-+]?[0-9]+)?"
            r"|[-+]?\.(?:inf|Inf|INF)|\.(?:nan|NaN|NAN))\Z"
        ),
    ),
    (MERGE, ["<"], re.compile(r"<<\Z")),
)
"""What a text without quotes is that is more than a text: a tag, the signs that it may begin with, and how it looks.

No number but zero begins with a zero: what does is a code, a mode or a day, which a number would cut short.
"""
_LOOKS: Final = {tag: pattern for tag, _, pattern in _SCALARS}


def read(text: bytes | str) -> Any:
    """Read a document.

    Raises:
        ValueError: it is not YAML, says what JSON can't, or gives a name twice in one object; the message is one line.
    """
    try:
        return yaml.load(text, Loader=_OnceLoader)  # noqa: S506 (a safe loader's subclass)
    except Exception as error:
        # Beside its own errors there is what its scanner runs into: "\U00110000", an OverflowError.
        raise ValueError(" ".join(str(error).split())) from error


class PlainLoader(yaml.SafeLoader):
    """YAML without aliases, which can grow without bound, and without dates, which JSON can't say.

    libyaml's loader would be several times as fast, but it recurses in C: deep nesting ends the process.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node.

        Raises:
            yaml.YAMLError: with its place, also where it is an alias.
        """
        if self.check_event(yaml.AliasEvent):
            mark = self.peek_event().start_mark  # type: ignore[no-untyped-call]
            raise yaml.composer.ComposerError(None, None, "aliases are not taken", mark)
        return super().compose_node(parent, index)

    def construct_object(self, node: yaml.Node, deep: bool = False) -> Any:  # noqa: FBT001, FBT002 (the base's signature)
        """Make the value of a node.

        Raises:
            yaml.YAMLError: with its place.
        """
        try:
            self._check_look(node)
            return super().construct_object(node, deep=deep)
        except (yaml.YAMLError, RecursionError):
            raise
        except Exception as error:
            # A tagged scalar raises whatever its reading runs into: !!bool x, a KeyError.
            why = too_large() if node.tag == INT and len(node.value) > sys.get_int_max_str_digits() else error
            problem = f"{node.tag.removeprefix(_TAGS)} can't be read: {why}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def _check_look(self, node: yaml.Node) -> None:
        """Refuse what a tag such as `!!bool` says of a text that does not look like it."""
        pattern = _LOOKS.get(node.tag)
        if isinstance(node, yaml.ScalarNode) and pattern is not None and not pattern.match(node.value):
            raise ValueError(f"{node.value[:VALUE_SHOWN]!r} is none")


class _OnceLoader(PlainLoader):
    """Refuses an object that gives a name twice, of which the last value alone would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 (the base's signature)
        # What an object merges, and says itself, is no repetition.
        own = [key for key, _ in node.value if key.tag != MERGE]
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        names: set[Any] = set()
        for key in own:
            name = self.construct_object(key, deep=True)
            # To Python 1, 1.0 and true are one name; to the document they are three, none of which is a string.
            if (type(name), name) in names:
                problem = f"the name {name!r} is given twice in one object"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            names.add((type(name), name))
        return mapping


PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, firsts, pattern in _SCALARS if first in firsts]
    for first in {first for _, firsts, _ in _SCALARS for first in firsts}
}
