"""A client whose every byte the test decides on, over a real socket."""

import json
import select
import socket
from contextlib import suppress
from typing import Any, Self

import attrs

from opscore.gateway.server.server import Address

PATIENCE_S = 30.0
"""How long a test waits for what must happen; nothing takes this long when it works, even beside other work."""
GET = b"GET / HTTP/1.1\r\nhost: test\r\n\r\n"


@attrs.frozen(kw_only=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes

    def problem(self) -> dict[str, Any]:
        assert self.headers["content-type"] == "application/problem+json"
        assert self.headers["connection"] == "close"
        document: dict[str, Any] = json.loads(self.body)
        assert set(document) == {"type", "title", "status", "detail", "code"}
        assert document["status"] == self.status
        return document


class Client:
    """A connection whose every byte the test decides on."""

    def __init__(self, address: Address) -> None:
        self.socket = socket.create_connection((address.host, address.port), timeout=PATIENCE_S)
        self._stream = self.socket.makefile("rb")

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._stream.close()
        self.socket.close()

    def send(self, data: bytes) -> None:
        self.socket.sendall(data)

    def answer(self) -> Answer:
        status = int(self._stream.readline().split()[1])
        headers: dict[str, str] = {}
        while line := self._stream.readline().strip():
            name, _, value = line.decode().partition(": ")
            headers[name] = value
        return Answer(status=status, headers=headers, body=self._stream.read(int(headers["content-length"])))

    def ask(self, data: bytes) -> Answer:
        self.send(data)
        return self.answer()

    def take(self, size: int) -> bytes:
        """Read so many bytes, or fewer if the server closes before."""
        return self._stream.read(size)

    def rest(self) -> bytes:
        """Read until the server closes; a reset ends it as well."""
        with suppress(ConnectionResetError):
            return self._stream.read()
        return b""

    def flood(self, data: bytes, bytes_max: int) -> int:
        """Send the same again and again until an answer comes; return how much the server took."""
        sent = 0
        while sent < bytes_max:
            readable, writable, _ = select.select([self.socket], [self.socket], [], PATIENCE_S)
            if readable or not writable:
                break
            sent += self.socket.send(data)
        return sent

    def flood_rudely(self, data: bytes, bytes_max: int) -> int:
        """Send the same again and again whatever comes back; return how much the server took."""
        sent = 0
        with suppress(OSError):
            while sent < bytes_max:
                sent += self.socket.send(data)
        return sent


def post(path: str, body: bytes, *more: str) -> bytes:
    fields = "".join(f"{field}\r\n" for field in more)
    head = f"POST {path} HTTP/1.1\r\nhost: test\r\ncontent-length: {len(body)}\r\n{fields}\r\n"
    return head.encode() + body
