"""Offers to switch to another protocol, such as HTTP/2; a server may ignore them (RFC 9110, section 7.8).

The parser stops after a head with an offer, and reads no body. If the request has a body, the same head is read again
without the offer. Java's own client makes an offer with every request until one is answered.
"""

from collections.abc import Iterable
from typing import Final

Fields = Iterable[tuple[bytes, bytes]]
"""Header fields, their names in lower case."""

OFFER: Final = b"upgrade"


def may_be_ignored(fields: Fields) -> bool:
    """Whether a request may be served as if it offered nothing.

    A client that asks for a WebSocket can't use another answer. CONNECT has no header field with its offer that could
    be left out, so the data that comes with it would be misread.
    """
    offered = dict(fields).get(OFFER)
    return not has_body(fields) if offered is None else offered.lower() != b"websocket"


def has_body(fields: Fields) -> bool:
    """Whether a request has a body."""
    named = dict(fields)
    return b"transfer-encoding" in named or named.get(b"content-length", b"0") != b"0"


def head_without(method: bytes, url: bytes, version: str, fields: Fields) -> bytes:
    """Write a head that was read, without its offer."""
    lines = [b"%s %s HTTP/%s" % (method, url, version.encode())]
    lines.extend(b"%s: %s" % field for field in fields if field[0] != OFFER)
    return b"\r\n".join([*lines, b"", b""])
