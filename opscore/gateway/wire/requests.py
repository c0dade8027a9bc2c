"""One request: who sent it, what it contains, and what it may do."""

import asyncio
import math
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

import attrs
from starlette.requests import ClientDisconnect, Request

from opscore.gateway.keys.keys import KeyRing, Principal, Scope
from opscore.gateway.outbound.contacts import ContactPolicy
from opscore.gateway.parsing import plain_yaml
from opscore.gateway.server.server import Drain
from opscore.gateway.settings.config import Settings
from opscore.gateway.wire import checks
from opscore.gateway.wire.checks import DocumentT
from opscore.gateway.wire.problems import HttpRefusal
from opscore.runtime import codec
from opscore.runtime.errors import Fault, InvalidDocument
from opscore.runtime.hosting import Guest
from opscore.runtime.node import Node
from opscore.runtime.runs.triggering import KEY_BYTES_MAX

T = TypeVar("T")

_JSON: Final = frozenset({"", "application/json"})
_YAML: Final = frozenset({"application/yaml", "application/x-yaml", "text/yaml", "text/x-yaml"})
NAME_BYTES_MAX: Final = 511
"""The longest name in a path, in bytes: the longest key of the store."""
DIGITS_MAX: Final = 18


@attrs.frozen(kw_only=True)
class Gateway:
    """What every request needs to be answered."""

    guest: Guest[Node]
    drain: Drain
    keys: KeyRing
    settings: Settings
    contacts: ContactPolicy = attrs.field(init=False)
    """Where agents' contact endpoints may point."""
    yaml_turn: asyncio.Lock = attrs.field(init=False, factory=asyncio.Lock)
    """Held while a body is parsed as YAML, because several at once would leave the event loop little time."""

    @contacts.default
    def _contacts(self) -> ContactPolicy:
        return ContactPolicy(self.settings.push_allow)

    @property
    def node(self) -> Node:
        """The node; its plain methods may be called here, its async ones through `Call.run`."""
        return self.guest.value


@attrs.define
class Call:
    """A request and the gateway that answers it."""

    request: Request
    gateway: Gateway
    principal: Principal | None = None

    @property
    def node(self) -> Node:
        """The node behind the gateway."""
        return self.gateway.node

    async def run(self, function: Callable[..., Awaitable[T]], *args: object, **kwargs: object) -> T:
        """Call one of the node's async methods."""
        return await self.gateway.guest.call(function, *args, **kwargs)

    async def run_while_client_stays(self, function: Callable[..., Awaitable[T]], *args: object, **kwargs: object) -> T:
        """Call one of the node's async methods that waits; it is cancelled as soon as the client leaves.

        Raises:
            ClientDisconnect: the client has left, even if there was an answer at the same moment.
            HttpRefusal: 401 if there is an answer, but the key was revoked meanwhile.
        """
        working = asyncio.create_task(self.run(function, *args, **kwargs))
        leaving = asyncio.create_task(self._client_left())
        try:
            await asyncio.wait({working, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if leaving.done():
                raise ClientDisconnect
            result = working.result()
        finally:
            for task in (working, leaving):
                task.cancel()
            await asyncio.gather(working, leaving, return_exceptions=True)
        self.authenticate()
        return result

    async def _client_left(self) -> None:
        while (await self.request.receive())["type"] != "http.disconnect":
            pass

    def path(self, name: str) -> str:
        """A part of the path.

        Raises:
            HttpRefusal: 404 if it is too long to be the name of anything.
        """
        part = str(self.request.path_params[name])
        if len(part.encode()) > NAME_BYTES_MAX:
            raise HttpRefusal(404, "not_found", f"Nothing has a name of more than {NAME_BYTES_MAX} bytes.")
        return part

    def require(self, scope: Scope, agent_id: str | None = None) -> None:
        """Refuse a key that lacks the scope.

        Raises:
            HttpRefusal: 403.
        """
        if self.principal is not None and not self.principal.allows(scope, agent_id):
            about = f" for agent {agent_id!r}" if agent_id is not None else ""
            raise HttpRefusal(403, "forbidden", f"This key lacks the scope {scope.value!r}{about}.")

    def require_agent(self) -> None:
        """Refuse a key that may not act for any agent; the agent itself is checked once it is known.

        Raises:
            HttpRefusal: 403.
        """
        self.require(Scope.AGENT, self.principal.agent_id if self.principal is not None else None)

    def authenticate(self) -> None:
        """Find out whose request it is.

        Raises:
            HttpRefusal: 401.
        """
        scheme, _, token = self.request.headers.get("authorization", "").partition(" ")
        principal = self.gateway.keys.authenticate(token.strip()) if scheme.lower() == "bearer" and token else None
        if principal is None:
            detail = "The API key is wrong." if token else "An API key is needed: Authorization: Bearer <key>."
            raise HttpRefusal(401, "unauthorized", detail, headers={"WWW-Authenticate": 'Bearer realm="opscore"'})
        self.principal = principal

    def idempotency_key(self) -> str | None:
        """The request's idempotency key, if it has one.

        Raises:
            HttpRefusal: 400 for one that is empty or too long.
        """
        header = self.request.headers.get("idempotency-key")
        key = None if header is None else _said(header)
        if key is not None and not 0 < len(key.encode()) <= KEY_BYTES_MAX:
            detail = f"The Idempotency-Key must have 1 to {KEY_BYTES_MAX} bytes."
            raise HttpRefusal(400, "bad_idempotency_key", detail)
        return key

    async def json(self, *, optional: bool = False, also: str = "", names_once: bool = False) -> Any:
        """Read the body as JSON.

        Args:
            optional: Read an empty body as `{}`, whatever its content type: many clients name that of a form then.
            also: Other content types, for the refusal's text.
            names_once: Refuse an object that has a name twice, so that no part of a workflow is lost unnoticed.

        Raises:
            HttpRefusal: 415 for another content type, 400 if it is not JSON.
        """
        if optional and not (await self._body()).strip():
            return {}
        kind = self._content_type()
        if kind not in _JSON and not kind.endswith("+json"):
            raise HttpRefusal(415, "unsupported_media_type", f"Expected {also}application/json, found {kind}.")
        body = await self._body()
        try:
            return codec.decode_json(body, names_once=names_once)
        except ValueError as error:
            raise HttpRefusal(400, "malformed_json", f"The body is not JSON: {error}.") from error

    async def json_or_yaml(self) -> Any:
        """Read a workflow from the body, as JSON, or as YAML if the content type says so.

        Raises:
            HttpRefusal: as for `json`; 413 for too much YAML, 400 if it is not YAML.
        """
        if self._content_type() not in _YAML:
            return await self.json(also="application/yaml or ", names_once=True)
        body = await self._body()
        if len(body) > plain_yaml.BYTES_MAX:
            detail = f"A body in YAML may have {plain_yaml.BYTES_MAX:,} bytes; one in JSON may be larger."
            raise HttpRefusal(413, "yaml_too_large", detail)
        async with self.gateway.yaml_turn:
            return await asyncio.to_thread(_read_yaml, body)

    async def _body(self) -> bytes:
        """Read the body; because that may take a while, the key is checked again.

        Raises:
            HttpRefusal: 401 if the key was revoked meanwhile.
        """
        body = await self.request.body()
        if self.principal is not None:
            self.authenticate()
        return body

    async def document(self, kind: type[DocumentT], *, optional: bool = False) -> DocumentT:
        """Read the body as a strict value.

        Raises:
            HttpRefusal: as for `json`.
            InvalidDocument: with every fault.
        """
        return self.structured(await self.json(optional=optional), kind)

    def structured(self, document: Any, kind: type[DocumentT]) -> DocumentT:
        """Turn a body that was read into a strict value.

        Raises:
            InvalidDocument: with every fault.
        """
        rules = checks.Rules(limits=self.node.limits, contacts=self.gateway.contacts)
        return checks.structured(document, kind, rules, "request")

    def seconds(self, name: str, *, most: float) -> float:
        """Read a query parameter that is a number of seconds, cut to `most`; 0 if it is not given."""
        text = self.request.query_params.get(name)
        if text is None:
            return 0.0
        try:
            value = float(text)
        except ValueError:
            value = math.nan
        if not 0 <= value < math.inf:
            expected = f"expected a number of seconds from 0 on (more than {most:g} counts as {most:g})"
            raise _bad_parameter(name, f"{expected}, found {text[:64]!r}")
        return min(value, most)

    def count(self, name: str, *, default: int, most: int) -> int:
        """Read a query parameter that is a whole number from 1 to `most`."""
        text = self.request.query_params.get(name)
        if text is None:
            return default
        # The length is checked first, because Python refuses to read thousands of digits.
        plain = text.isascii() and text.isdigit() and len(text) <= DIGITS_MAX
        if not plain or not 1 <= int(text) <= most:
            raise _bad_parameter(name, f"expected a whole number from 1 to {most}, found {text[:64]!r}")
        return int(text)

    def _content_type(self) -> str:
        return self.request.headers.get("content-type", "").partition(";")[0].strip().lower()


class QueryFaults:
    """Collects the faults of a query, so that all are reported at once: each part is read, also after a faulty one."""

    def __init__(self) -> None:
        self._found: list[Fault] = []

    def or_else(self, otherwise: T, read: Callable[[], T]) -> T:
        """Read a part; if it is faulty, return `otherwise`, so that the rest can be read."""
        try:
            return read()
        except InvalidDocument as error:
            self._found += error.faults
            return otherwise

    def last(self, read: Callable[[], T]) -> T:
        """Run the query.

        Raises:
            InvalidDocument: with the faults of all parts.
        """
        found = self.or_else(None, read)
        if found is None or self._found:
            raise InvalidDocument("query", tuple(self._found))
        return found


def _said(header: str) -> str:
    """Decode a header field, which arrives decoded as Latin-1: most clients write UTF-8, and some really Latin-1."""
    try:
        return header.encode("latin-1").decode()
    except UnicodeDecodeError:
        return header


def within(field: str, error: InvalidDocument) -> InvalidDocument:
    """The same faults, with paths below the field of the request that contains the document."""
    faults = (attrs.evolve(fault, path=f"{field}{_going_on(fault.path)}") for fault in error.faults)
    return InvalidDocument(error.what, tuple(faults))


def _going_on(path: str) -> str:
    return f".{path}" if path and not path.startswith("[") else path


def _bad_parameter(name: str, message: str) -> InvalidDocument:
    return InvalidDocument("query", (Fault(path=name, message=message),))


def _read_yaml(body: bytes) -> Any:
    try:
        return plain_yaml.read(body)
    except ValueError as error:
        raise HttpRefusal(400, "malformed_yaml", f"The body is not YAML: {error}.") from error
