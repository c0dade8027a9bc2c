"""Offers to go on in another protocol, such as HTTP/2: a server may serve the request as if there were none.

The parser stops behind a head that offers one, and reads no body. Where there is one, the same head is read again
without the offer (RFC 9110, section 7.8). Java's own client makes one with every request until it is answered.
"""

from collections.abc import Iterable
from typing import Final

Fields = Iterable[tuple[bytes, bytes]]
"""Header fields, their names in lower case."""

OFFER: Final = b"upgrade"


def may_be_ignored(fields: Fields) -> bool:
    """Whether a request may be served as if it offered nothing.

    What asks for a WebSocket could do nothing with another answer, and CONNECT offers without a field that could be
    left out, so that what it sends along would be misread.
    """
    offered = dict(fields).get(OFFER)
    return not has_body(fields) if offered is None else offered.lower() != b"websocket"


def has_body(fields: Fields) -> bool:
    """Whether a request has a body."""
    named = dict(fields)
    return b"transfer-encoding" in named or named.get(b"content-length", b"0") != b"0"


def head_without(method: bytes, url: bytes, version: str, fields: Fields) -> bytes:
    """Write a head that was read, without what it offers."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    lines.extend(b"%s: %s" % field for field in fields if field[0] != OFFER)
    return b"\r\n".join([*lines, b"", b""])
