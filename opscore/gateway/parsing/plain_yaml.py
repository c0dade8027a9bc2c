"""YAML restricted to what JSON can express: no aliases, no dates, and no tags for other types.

Numbers, true, false and null are those of YAML 1.2's core schema (10.3.2), so that JSON within YAML means the same.
`22:30`, `0777`, `1_000` and `no`, to which YAML 1.1 gave other meanings, are strings.
"""

import re
import sys
from typing import Any, Final

import yaml

from opscore.runtime.codec import too_large

BYTES_MAX: Final = 64 * 1024
"""PyYAML takes about 15 microseconds a byte, most of a second for a body of this size; JSON takes a hundredth."""
VALUE_SHOWN: Final = 64
"""How many characters of an unreadable value are shown."""
SUFFIXES: Final = (".yaml", ".yml")
"""The suffixes of YAML files."""
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
"""Unquoted scalars that are not strings: a tag, the characters that they may begin with, and a pattern.

A whole number does not begin with a zero, unless it is zero. Anything else that does is a code, a mode or a day, which
would lose its zero as a number.
"""
_LOOKS: Final = {tag: pattern for tag, _, pattern in _SCALARS}


def read(text: bytes | str) -> Any:
    """Read a document.

    Raises:
        ValueError: it is not YAML, has a value that JSON can't express, or has a name twice in one object; the message
            is one line.
    """
    try:
        return yaml.load(text, Loader=_OnceLoader)  # noqa: S506 (a safe loader's subclass)
    except Exception as error:
        # PyYAML also raises other errors that its scanner runs into: "\U00110000" is an OverflowError.
        raise ValueError(" ".join(str(error).split())) from error


class PlainLoader(yaml.SafeLoader):
    """Loads YAML without aliases, which can grow without bound, and without dates, which JSON can't express.

    libyaml's loader would be several times faster, but it recurses in C, so that deep nesting kills the process.
    """

    def compose_node(self, parent: yaml.Node | None, index: int) -> yaml.Node | None:
        """Compose a node.

        Raises:
            yaml.YAMLError: with its place; an alias is an error as well.
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
            # Reading a tagged scalar may raise anything: !!bool x is a KeyError.
            why = too_large() if node.tag == INT and len(node.value) > sys.get_int_max_str_digits() else error
            problem = f"{node.tag.removeprefix(_TAGS)} can't be read: {why}"
            raise yaml.constructor.ConstructorError(None, None, problem, node.start_mark) from error

    def _check_look(self, node: yaml.Node) -> None:
        """Refuse a tag such as `!!bool` on a text that does not match its pattern."""
        pattern = _LOOKS.get(node.tag)
        if isinstance(node, yaml.ScalarNode) and pattern is not None and not pattern.match(node.value):
            raise ValueError(f"{node.value[:VALUE_SHOWN]!r} is not one")


class _OnceLoader(PlainLoader):
    """Refuses an object that has a name twice, of which only the last value would count."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:  # noqa: FBT001, FBT002 (the base's signature)
        # A name that an object merges and also defines itself is no repetition.
        own = [key for key, _ in node.value if key.tag != MERGE]
        mapping: dict[Any, Any] = super().construct_mapping(node, deep)
        names: set[Any] = set()
        for key in own:
            name = self.construct_object(key, deep=True)
            # In Python 1, 1.0 and true are one key; in the document they are three names, none of which is a string.
            if (type(name), name) in names:
                problem = f"the name {name!r} is given twice in one object"
                raise yaml.constructor.ConstructorError(None, None, problem, key.start_mark)
            names.add((type(name), name))
        return mapping


PlainLoader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, firsts, pattern in _SCALARS if first in firsts]
    for first in {first for _, firsts, _ in _SCALARS for first in firsts}
}
