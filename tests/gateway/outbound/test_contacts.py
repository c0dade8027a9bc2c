"""Where contact endpoints may point, and where never."""

from collections.abc import Iterator
from typing import Any

import pytest
import trio

from opscore.gateway.outbound import contacts
from opscore.gateway.outbound.contacts import ADDRESSES_MAX, ContactPolicy, ForbiddenContact

METADATA = "169.254.169.254"
# Ways to write addresses that are never contacted; those that are no plain address are left to the lookup.
NEVER = [
    METADATA,
    "169.254.0.1",
    "0.0.0.0",  # noqa: S104 (nothing listens there)
    "0.1.2.3",
    "224.0.0.1",
    "255.255.255.255",
    "100.100.100.200",
    "168.63.129.16",
    "192.0.0.192",
    "[::]",
    "[fe80::1]",
    "[ff02::1]",
    "[fd00:ec2::254]",
    f"[::ffff:{METADATA}]",
    "[::ffff:a9fe:a9fe]",
    "[64:ff9b::a9fe:a9fe]",
    "[2002:a9fe:a9fe::1]",
]
DISGUISED = ["2852039166", "0xa9fea9fe", "0251.0376.0251.0376", "169.16689662", "169.254.43518", "0xa9.0xfe.0xa9.0xfe"]


class Resolver(trio.abc.HostnameResolver):
    """Answers lookups from a table, and remembers what was asked."""

    def __init__(self, **names: list[str]) -> None:
        self.names = {name.replace("_", "."): addresses for name, addresses in names.items()}
        self.asked: list[str] = []

    async def getaddrinfo(
        self,
        host: Any,
        port: Any,
        family: int = 0,
        type: int = 0,  # noqa: A002 (trio's name)
        proto: int = 0,
        flags: int = 0,
    ) -> Any:
        self.asked.append(host.decode())
        if not self.names.get(host.decode()):
            raise OSError("unknown name")
        return [(family, type, proto, "", (address, port)) for address in self.names[host.decode()]]

    async def getnameinfo(self, sockaddr: Any, flags: int) -> Any:
        raise NotImplementedError


class Silent(Resolver):
    async def getaddrinfo(self, *_: Any, **__: Any) -> Any:
        await trio.sleep_forever()


def some_names() -> Resolver:
    """Names that this trio run alone knows."""
    names = Resolver(
        agents_example_com=["192.0.2.10", "192.0.2.11"],
        sly_example_com=["192.0.2.10", METADATA],
        mapped_example_com=[f"::ffff:{METADATA}"],
        scoped_example_com=["fe80::1%eth0"],
        many_example_com=[f"192.0.2.{last}" for last in range(1, 40)],
        internal_test=["10.1.2.3"],
    )
    trio.socket.set_custom_hostname_resolver(names)
    return names


@pytest.mark.parametrize("host", NEVER)
async def test_forbidden_addresses_are_refused_at_registration_and_at_delivery(host: str) -> None:
    policy = ContactPolicy()
    with pytest.raises(ForbiddenContact, match="never contacted"):
        policy.check(f"http://{host}/run")
    with pytest.raises(ForbiddenContact, match="never contacted"):
        await policy.resolve(f"http://{host}:8080/run")


@pytest.mark.parametrize("host", DISGUISED)
async def test_an_address_written_as_a_number_is_seen_through_when_it_is_looked_up(host: str) -> None:
    with pytest.raises(ForbiddenContact, match=METADATA):
        await ContactPolicy().resolve(f"http://{host}/latest/meta-data")


@pytest.mark.parametrize("allow", [[METADATA], ["169.254.0.0/16"], ["0.0.0.0/0", "::/0"], ["sly.example.com"]])
async def test_the_allow_list_does_not_allow_what_is_never_contacted(allow: list[str]) -> None:
    some_names()
    policy = ContactPolicy(allow)
    for host in (METADATA, f"[::ffff:{METADATA}]", "sly.example.com"):
        with pytest.raises(ForbiddenContact):
            await policy.resolve(f"http://{host}/")


@pytest.mark.parametrize("name", ["sly.example.com", "mapped.example.com", "scoped.example.com"])
async def test_one_forbidden_address_of_a_name_forbids_the_name(name: str) -> None:
    some_names()
    with pytest.raises(ForbiddenContact, match="never contacted"):
        await ContactPolicy().resolve(f"https://{name}/")


async def test_a_name_is_looked_up_once_and_its_addresses_are_given_back() -> None:
    resolver = some_names()
    parts, addresses = await ContactPolicy().resolve("https://Agents.Example.com:8443/run?x=1")
    assert (parts.hostname, parts.port, parts.path) == ("agents.example.com", 8443, "/run")
    assert addresses == ["192.0.2.10", "192.0.2.11"]
    assert resolver.asked == ["agents.example.com"]


async def test_of_a_name_with_many_addresses_some_are_tried() -> None:
    some_names()
    _, addresses = await ContactPolicy().resolve("http://many.example.com/")
    assert len(addresses) == ADDRESSES_MAX


async def test_a_name_that_nobody_knows_is_an_os_error() -> None:
    some_names()
    with pytest.raises(OSError, match="unknown name"):
        await ContactPolicy().resolve("http://nowhere.example.com/")


async def test_a_lookup_that_never_ends_is_given_up(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(contacts, "RESOLVE_TIMEOUT_S", 0.1)
    trio.socket.set_custom_hostname_resolver(Silent())
    with pytest.raises(trio.TooSlowError):
        await ContactPolicy().resolve("http://agents.example.com/")


@pytest.mark.parametrize(
    ("allow", "url", "allowed"),
    [
        (["agents.example.com"], "http://agents.example.com/", True),
        (["AGENTS.example.com"], "http://agents.EXAMPLE.com./", True),
        (["example.com"], "http://agents.example.com/", False),
        (["*.example.com"], "http://agents.example.com/", True),
        (["*.example.com"], "http://internal.test/", False),
        (["*.example.com"], "http://127.0.0.1/", False),
        (["192.0.2.0/24"], "http://agents.example.com/", True),
        (["10.0.0.0/8"], "http://internal.test/", True),
        (["10.0.0.0/8"], "http://agents.example.com/", False),
        (["127.0.0.1"], "http://127.0.0.1:9/", True),
        (["127.0.0.1"], "http://[::ffff:127.0.0.1]:9/", True),
        (["127.0.0.1"], "http://[::1]:9/", False),
        (["::1"], "http://[::1]:9/", True),
    ],
)
async def test_push_allow_admits_its_hosts_domains_and_networks_alone(
    allow: list[str], url: str, allowed: bool
) -> None:
    resolver = some_names()
    resolver.names["agents.example.com."] = resolver.names["agents.example.com"]
    policy = ContactPolicy(allow)
    if allowed:
        await policy.resolve(url)
    else:
        with pytest.raises(ForbiddenContact, match="not in push_allow"):
            await policy.resolve(url)


async def test_an_empty_allow_list_admits_every_other_address() -> None:
    some_names()
    for url in ("http://127.0.0.1:80/", "http://[::1]/", "http://10.0.0.1/", "https://internal.test/"):
        ContactPolicy().check(url)
        await ContactPolicy().resolve(url)


def schemes() -> Iterator[str]:
    for scheme in ("ftp", "file", "gopher", "javascript", "unix", "ws", ""):
        yield f"{scheme}://host/"


@pytest.mark.parametrize(
    "url",
    [
        *schemes(),
        "host/run",
        "http:",
        "http:///run",
        "http://:80/",
        "http://host:0/",
        "http://host:65536/",
        "http://host:x/",
        "http://[::1/",
        "http://ho st\r\nX-Injected: 1/",
        "http://host/\x00",
        "http://host/" + "x" * 2_048,
        "",
    ],
    ids=lambda text: ascii(text)[:24],
)
async def test_what_is_no_http_url_with_a_host_is_refused(url: str) -> None:
    with pytest.raises(ForbiddenContact, match="expected an http or https URL"):
        ContactPolicy().check(url)
    with pytest.raises(ForbiddenContact):
        await ContactPolicy().resolve(url)


@pytest.mark.parametrize(
    "url",
    [
        f"http://allowed.example.com@{METADATA}/",
        f"http://allowed.example.com:80@{METADATA}/",
        f"http://a:b@{METADATA}/",
    ],
)
async def test_a_user_in_front_of_the_host_hides_nothing(url: str) -> None:
    with pytest.raises(ForbiddenContact):
        ContactPolicy(["allowed.example.com"]).check(url)
    with pytest.raises(ForbiddenContact):
        await ContactPolicy(["allowed.example.com"]).resolve(url)


@pytest.mark.parametrize("user", ["user", "user:secret", ":secret", "", ":", "a@b"])
async def test_a_url_with_a_user_or_a_password_is_refused(user: str) -> None:
    some_names()
    with pytest.raises(ForbiddenContact, match="without user name and password"):
        ContactPolicy().check(f"http://{user}@agents.example.com/run")
    with pytest.raises(ForbiddenContact, match="without user name and password"):
        await ContactPolicy().resolve(f"http://{user}@agents.example.com/run")


@pytest.mark.parametrize("host", ["bücher.example", "例え.jp", "agents.example。com", "\uff11\uff12\uff17.0.0.1"])
async def test_a_host_that_is_not_written_in_ascii_is_refused(host: str) -> None:
    for url in (f"http://{host}/run", f"https://{host}:8443/run"):
        with pytest.raises(ForbiddenContact, match="expected a host in ASCII"):
            ContactPolicy().check(url)
        with pytest.raises(ForbiddenContact, match="expected a host in ASCII"):
            await ContactPolicy().resolve(url)


async def test_an_international_name_is_taken_as_the_name_service_knows_it() -> None:
    resolver = some_names()
    resolver.names["xn--bcher-kva.example"] = ["192.0.2.10"]
    url = "http://xn--bcher-kva.example/bücher?q=ü"
    ContactPolicy().check(url)
    _, addresses = await ContactPolicy(["xn--bcher-kva.example"]).resolve(url)
    assert addresses == ["192.0.2.10"]
