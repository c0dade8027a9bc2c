"""Where contact endpoints may point: untrusted input that this server is asked to connect to."""

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

import trio

from opscore.runtime.errors import Fault, InvalidDocument

URL_CHARACTERS_MAX: Final = 2_048
_PORTS: Final = {"http": 80, "https": 443}
_METADATA: Final = frozenset({ipaddress.ip_address("fd00:ec2::254"), ipaddress.ip_address("100.100.100.200")})
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenContact(Exception):
    """An endpoint points to where this server never connects."""


class ContactPolicy:
    """Which endpoints may be contacted.

    Args:
        allow: hosts and networks; empty allows any. Link-local and metadata addresses are never allowed.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._networks = [network for text in allow if (network := _network(text)) is not None]
        self._hosts = {text.lower() for text in allow if _network(text) is None}

    def check(self, url: str, path: str) -> None:
        """Refuse at registration what could never be contacted.

        Raises:
            InvalidDocument: naming the path.
        """
        try:
            parts = _split(url)
            address = _address(parts.hostname or "")
            if address is not None:
                self._check_address(parts.hostname or "", address)
        except ForbiddenContact as error:
            raise InvalidDocument("request", (Fault(path=path, message=str(error)),)) from error

    async def resolve(self, url: str) -> tuple[SplitResult, list[str]]:
        """Look up the endpoint's addresses and check each, so that a name can't lead past the policy.

        Returns:
            the parts of the URL, and the addresses to try in order.

        Raises:
            ForbiddenContact: the URL or an address of it is not allowed.
            OSError: the name is unknown.
        """
        parts = _split(url)
        host = parts.hostname or ""
        port = parts.port or _PORTS[parts.scheme]
        found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for text in addresses:
            self._check_address(host, ipaddress.ip_address(text.partition("%")[0]))
        return parts, addresses

    def _check_address(self, host: str, address: _Address) -> None:
        address = getattr(address, "ipv4_mapped", None) or address
        if address.is_link_local or address.is_multicast or address.is_unspecified or address in _METADATA:
            raise ForbiddenContact(f"{address} is an address that is never contacted")
        if not self._networks and not self._hosts:
            return
        if host.lower() not in self._hosts and not any(address in network for network in self._networks):
            raise ForbiddenContact(f"{host} ({address}) is not in push_allow")


def _split(url: str) -> SplitResult:
    refusal = ForbiddenContact("expected an http or https URL with a host")
    if len(url) > URL_CHARACTERS_MAX or not url.isprintable():
        raise refusal
    try:
        parts = urlsplit(url)
        usable = parts.scheme in _PORTS and bool(parts.hostname) and parts.port != 0
    except ValueError as error:
        raise refusal from error
    if not usable:
        raise refusal
    return parts


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
