"""API keys: who holds them and what they allow.

A key has the form `opscore_<id>_<secret>`. The id is public and finds the row; the secret is 256 random bits. The
file stores the token's SHA-256, not a slow hash. A slow hash protects secrets that people choose and others can
guess; nobody guesses 256 bits, and every request would pay for it.
"""

import hashlib
import hmac
import logging
import secrets
import time
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType

import attrs

from opscore.gateway.keys import key_file
from opscore.gateway.keys.key_file import Key, KeysError
from opscore.runtime.identity import unusable
from opscore.runtime.limits import Limits

__all__ = ["Key", "KeyRing", "KeysError", "Principal", "Scope", "parse_scope"]

KEYS_MAX = 10_000
NAME_LENGTH_MAX = 128
RELOAD_EVERY_S = 1.0
TOKEN_PREFIX = "opscore"  # noqa: S105 - the public part of every token.

_log = logging.getLogger("opscore.gateway.keys")


class Scope(StrEnum):
    """What a key allows, and what a request requires."""

    ADMIN = "admin"
    OPERATOR = "operator"
    AGENT = "agent"
    VIEWER = "viewer"


# What each scope allows: `operator` triggers and steers, and may stand in for an agent.
_ALLOWED: Mapping[Scope, frozenset[Scope]] = MappingProxyType(
    {
        Scope.ADMIN: frozenset(Scope),
        Scope.OPERATOR: frozenset({Scope.OPERATOR, Scope.AGENT, Scope.VIEWER}),
        Scope.AGENT: frozenset({Scope.AGENT}),
        Scope.VIEWER: frozenset({Scope.VIEWER}),
    }
)
# The same for a request about one agent: an agent may read about agents, but not about everything.
_ALLOWED_ABOUT_AN_AGENT: Mapping[Scope, frozenset[Scope]] = MappingProxyType(
    {
        **_ALLOWED,
        Scope.AGENT: frozenset({Scope.AGENT, Scope.VIEWER}),
    }
)


@attrs.frozen(kw_only=True)
class Principal:
    """The sender of a request, known by its key."""

    name: str
    scope: Scope
    agent_id: str | None = None
    """The only agent that a key of scope `agent:<id>` may act as."""

    def allows(self, required: Scope, agent_id: str | None = None) -> bool:
        """Whether this principal may do what requires this scope, to that agent if one is given."""
        if self.agent_id is not None and self.agent_id != agent_id:
            return False
        table = _ALLOWED if agent_id is None else _ALLOWED_ABOUT_AN_AGENT
        return required in table[self.scope]


def parse_scope(text: str) -> tuple[Scope, str | None]:
    """Parse a scope: `agent:a7` is `(Scope.AGENT, "a7")`.

    Raises:
        KeysError: It is not a scope.
    """
    name, colon, agent_id = text.partition(":")
    if name not in Scope.__members__.values() or (colon and (name != Scope.AGENT or not agent_id)):
        raise KeysError(f"{text!r} is not a scope: expected admin, operator, agent, agent:<id> or viewer.")
    return Scope(name), agent_id or None


def _unusable(agent_id: str) -> str | None:
    """Why this can't be an agent's id, or None; completes the sentence "an id that …"."""
    bytes_max = Limits().id_bytes_max
    return unusable(agent_id) or (f"has more than {bytes_max} bytes" if len(agent_id.encode()) > bytes_max else None)


class KeyRing:
    """The keys of one data directory, and the one given in the configuration.

    A running server checks at most once a second whether the file has changed, and reads it again if so; `create` and
    `revoke` may run in another process. If the file becomes unusable, that is logged, and the keys stay as they were
    until it is usable again.
    """

    def __init__(
        self,
        directory: Path,
        *,
        configured: str | None = None,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        """Read the keys.

        Args:
            directory: The data directory; the file is `keys.json` in it, and need not exist.
            configured: A key with every scope that is not in the file: `OPSCORE_API_KEY`.
            monotonic: The clock for the interval between checks of the file, in seconds.

        Raises:
            KeysError: The file exists and cannot be used.
        """
        self._file = directory / key_file.FILE_NAME
        self._configured = _digest(configured) if configured else None
        self._monotonic = monotonic
        self._looked_at_s = monotonic()
        self._fault: str | None = None  # What was wrong with the file at the last check, so that it is logged once.
        # The mark is taken before reading, so that a change in between is noticed at the next check and not missed.
        self._mark = key_file.mark(self._file)
        keys = key_file.load(self._file)
        self._rows = _rows(keys)
        for key in keys:
            if bytes.fromhex(key.sha256) == self._configured and key.scope != Scope.ADMIN:
                # Clients read their keys from a variable of the same name, and a server may be started beside them.
                _log.warning(
                    "OPSCORE_API_KEY is key %s (%s) of scope %s; as the server's own key it has every scope, "
                    "also when it is revoked",
                    *(key.id, key.name, key.scope),
                )

    def authenticate(self, token: str) -> Principal | None:
        """Find out whose key this is; None if it is not valid."""
        self._reload_if_changed()
        digest = _digest(token)
        if self._configured is not None and hmac.compare_digest(digest, self._configured):
            return Principal(name="configured", scope=Scope.ADMIN)
        # The id only finds the row; the digest decides, compared in constant time.
        row = self._rows.get(_id_in(token))
        if row is None or not hmac.compare_digest(digest, row.digest):
            return None
        return row.principal

    def any(self) -> bool:
        """Whether there is any key, in the file or configured."""
        self._reload_if_changed()
        return self._configured is not None or bool(self._rows)

    def list(self) -> tuple[Key, ...]:
        """Read the keys in the file, oldest first.

        Raises:
            KeysError: The file cannot be used.
        """
        return key_file.load(self._file)

    def create(self, name: str, scope: str) -> str:
        """Add a key to the file, durably.

        Returns:
            The token. It is not stored, so this is the only time that it can be shown.

        Raises:
            KeysError: The scope or name is not allowed, or the file cannot be used.
        """
        _, agent_id = parse_scope(scope)
        why = None if agent_id is None else _unusable(agent_id)
        if why is not None:
            raise KeysError(f"{scope!r} is not a scope: no agent can have an id that {why}.")
        if not name.strip() or len(name) > NAME_LENGTH_MAX:
            raise KeysError(f"A key needs a name of 1 to {NAME_LENGTH_MAX} characters that says who holds it.")
        with key_file.locked(self._file):
            keys = key_file.load(self._file)
            if len(keys) >= KEYS_MAX:
                raise KeysError(f"{self._file} holds {KEYS_MAX} keys, which is the maximum: revoke some first.")
            key, token = _new_key(name, scope)
            self._replace((*keys, key))
        return token

    def create_first(self) -> str | None:
        """Add a key of scope `admin` if there is no key yet, so that a new server can be used at all.

        Returns:
            The token, to be shown once; None if there was a key already.

        Raises:
            KeysError: The file cannot be used.
        """
        return None if self.any() else self.create("first", Scope.ADMIN)

    def revoke(self, key_id: str) -> Key:
        """Remove a key from the file, durably; a running server stops accepting it within a second.

        Raises:
            KeysError: There is no such key, or the file cannot be used.
        """
        with key_file.locked(self._file):
            keys = key_file.load(self._file)
            gone = next((key for key in keys if key.id == key_id), None)
            if gone is None:
                raise KeysError(f"There is no key {key_id!r} in {self._file}: `opscore key list` shows all keys.")
            self._replace(tuple(key for key in keys if key is not gone))
        return gone

    def _replace(self, keys: tuple[Key, ...]) -> None:
        key_file.store(self._file, keys)
        self._rows = _rows(keys)
        self._mark = key_file.mark(self._file)

    def _reload_if_changed(self) -> None:
        now_s = self._monotonic()
        if now_s - self._looked_at_s < RELOAD_EVERY_S:
            return
        self._looked_at_s = now_s
        try:
            mark = key_file.mark(self._file)
            if mark != self._mark:
                self._rows = _rows(key_file.load(self._file))
                # Only after reading: if that failed, the next check tries again, because the cause may pass.
                self._mark = mark
            self._fault = None
        except KeysError as error:
            # Dropping every key because of an editing mistake would lock everyone out of a working server.
            if str(error) != self._fault:
                _log.error("the key file changed and cannot be used; the keys stay as they were: %s", error)
            self._fault = str(error)


@attrs.frozen(kw_only=True)
class _Row:
    """A key for authentication: who holds it, and the digest that its token must have."""

    principal: Principal
    digest: bytes


def _rows(keys: tuple[Key, ...]) -> dict[str, _Row]:
    rows = {}
    for key in keys:
        scope, agent_id = parse_scope(key.scope)
        principal = Principal(name=key.name, scope=scope, agent_id=agent_id)
        rows[key.id] = _Row(principal=principal, digest=bytes.fromhex(key.sha256))
    return rows


def _new_key(name: str, scope: str) -> tuple[Key, str]:
    key_id = secrets.token_hex(4)
    token = f"{TOKEN_PREFIX}_{key_id}_{secrets.token_urlsafe(32)}"
    created_at = datetime.now(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")
    return Key(id=key_id, name=name, scope=scope, sha256=_digest(token).hex(), created_at=created_at), token


def _digest(token: str) -> bytes:
    return hashlib.sha256(token.encode("utf-8", "surrogateescape")).digest()


def _id_in(token: str) -> str:
    prefix, _, rest = token.partition("_")
    return rest.partition("_")[0] if prefix == TOKEN_PREFIX else ""
