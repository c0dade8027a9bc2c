"""Where contact endpoints may point: they are untrusted input to which this server connects."""

import ipaddress
from collections.abc import Sequence
from typing import Final
from urllib.parse import SplitResult, urlsplit

import trio

URL_CHARACTERS_MAX: Final = 2_048
_PORTS: Final = {"http": 80, "https": 443}
ADDRESSES_MAX: Final = 8
"""How many addresses of one name are tried."""
RESOLVE_TIMEOUT_S: Final = 5.0
_NEVER: Final = tuple(
    ipaddress.ip_network(text)
    for text in (
        "0.0.0.0/8", "169.254.0.0/16", "224.0.0.0/4", "240.0.0.0/4", "::/128", "fe80::/10", "ff00::/8",
        # Addresses outside the link-local networks where clouds serve metadata: Alibaba, Azure, Oracle, AWS.
        "100.100.100.200/32", "168.63.129.16/32", "192.0.0.192/32", "fd00:ec2::254/128",
    )
)  # fmt: skip
_NAT64: Final = ipaddress.IPv6Network("64:ff9b::/96")
_Address = ipaddress.IPv4Address | ipaddress.IPv6Address


class ForbiddenContact(Exception):
    """An endpoint points to an address to which this server does not connect."""


class ContactPolicy:
    """Which endpoints may be contacted.

    Args:
        allow: hosts, `*.domains` and networks; empty allows any. Link-local and metadata addresses are never allowed.
    """

    def __init__(self, allow: Sequence[str] = ()) -> None:
        self._networks = [network for text in allow if (network := _network(text)) is not None]
        names = [text.lower() for text in allow if _network(text) is None]
        self._hosts = frozenset(name for name in names if not name.startswith("*."))
        self._domains = tuple(name.removeprefix("*") for name in names if name.startswith("*."))

    def check(self, url: str) -> None:
        """Refuse, at registration, an endpoint that could never be contacted; names are looked up only at contact.

        Raises:
            ForbiddenContact: with what is wrong.
        """
        parts = _split(url)
        address = _address(parts.hostname or "")
        if address is not None:
            self._check_address(parts.hostname or "", address)

    async def resolve(self, url: str) -> tuple[SplitResult, list[str]]:
        """Look up the endpoint's addresses and check each, so that a name can't get around the policy.

        Returns:
            the parts of the URL, and the addresses to try, in order.

        Raises:
            ForbiddenContact: the URL, or one of its addresses, is not allowed.
            OSError, UnicodeError: the name is unknown, or not a name.
            trio.TooSlowError: the look-up took too long.
        """
        parts = _split(url)
        host = parts.hostname or ""
        port = parts.port or _PORTS[parts.scheme]
        with trio.fail_after(RESOLVE_TIMEOUT_S):
            found = await trio.socket.getaddrinfo(host, port, type=trio.socket.SOCK_STREAM)
        addresses = list(dict.fromkeys(str(entry[4][0]) for entry in found))
        for text in addresses:
            self._check_address(host, ipaddress.ip_address(text.partition("%")[0]))
        return parts, addresses[:ADDRESSES_MAX]

    def _check_address(self, host: str, address: _Address) -> None:
        address = _meant(address)
        if any(address in network for network in _NEVER):
            raise ForbiddenContact(f"{address} is an address that is never contacted")
        if not self._networks and not self._hosts and not self._domains:
            return
        name = host.lower().removesuffix(".")
        if name in self._hosts or name.endswith(self._domains):
            return
        if not any(address in network for network in self._networks):
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
    if "@" in parts.netloc:
        raise ForbiddenContact("expected a URL without user name and password, which are never sent")
    if not parts.netloc.isascii():
        raise ForbiddenContact("expected a host in ASCII; an international name is written as xn--...")
    return parts


def _network(text: str) -> ipaddress.IPv4Network | ipaddress.IPv6Network | None:
    try:
        return ipaddress.ip_network(text, strict=False)
    except ValueError:
        return None


def _meant(address: _Address) -> _Address:
    """The IPv4 address that an IPv6 one stands for: mapped, 6to4 or NAT64; else the address itself."""
    if isinstance(address, ipaddress.IPv4Address):
        return address
    if address in _NAT64:
        return ipaddress.IPv4Address(int(address) & 0xFFFFFFFF)
    return address.ipv4_mapped or address.sixtofour or address


def _address(host: str) -> _Address | None:
    try:
        return ipaddress.ip_address(host)
    except ValueError:
        return None
