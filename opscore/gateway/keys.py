"""API keys: whose they are and what they allow.

A key reads `opscore_<id>_<secret>`. The id is public and finds the row; the secret is 256 random bits. The
file holds the token's SHA-256, not a slow hash: slowness protects what people choose and others could guess;
nobody guesses 256 bits, and every request would pay for it.
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

from opscore.gateway import key_file
from opscore.gateway.key_file import Key, KeysError
from opscore.runtime.identity import unusable
from opscore.runtime.limits import Limits

__all__ = ["Key", "KeyRing", "KeysError", "Principal", "Scope", "parse_scope"]

KEYS_MAX = 10_000
NAME_LENGTH_MAX = 128
RELOAD_EVERY_S = 1.0
TOKEN_PREFIX = "opscore"  # noqa: S105 - the public part of every token.

_log = logging.getLogger("opscore.gateway.keys")


class Scope(StrEnum):
    """What a key is for, and what a request asks for."""

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
    """Who a request comes from, once its key is known."""

    name: str
    scope: Scope
    agent_id: str | None = None
    """The only agent that a key of scope `agent:<id>` may act as."""

    def allows(self, required: Scope, agent_id: str | None = None) -> bool:
        """Whether this principal may do what takes the scope `required`, to that agent if there is one."""
        if self.agent_id is not None and self.agent_id != agent_id:
            return False
        table = _ALLOWED if agent_id is None else _ALLOWED_ABOUT_AN_AGENT
        return required in table[self.scope]


def parse_scope(text: str) -> tuple[Scope, str | None]:
    """Take a scope as written apart: `agent:a7` is `(Scope.AGENT, "a7")`.

    Raises:
        KeysError: It is no scope.
    """
    name, colon, agent_id = text.partition(":")
    if name not in Scope.__members__.values() or (colon and (name != Scope.AGENT or not agent_id)):
        raise KeysError(f"{text!r} is no scope: expected admin, operator, agent, agent:<id> or viewer.")
    return Scope(name), agent_id or None


def _unusable(agent_id: str) -> str | None:
    """Say what keeps this from being an agent's id, if anything does; completes the sentence "an id that …"."""
    bytes_max = Limits().id_bytes_max
    return unusable(agent_id) or (f"has more than {bytes_max} bytes" if len(agent_id.encode()) > bytes_max else None)


class KeyRing:
    """The keys of one data directory, and the one given in the configuration.

    A running server reads the file again when it changed, looking at most once a second; `create` and
    `revoke` may run in another process meanwhile. A file that turns unusable is logged, and changes nothing
    until it can be used again.
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
            monotonic: The clock that spaces the looks at the file, in seconds.

        Raises:
            KeysError: The file is there and cannot be used.
        """
        self._file = directory / key_file.FILE_NAME
        self._configured = _digest(configured) if configured else None
        self._monotonic = monotonic
        self._looked_at_s = monotonic()
        self._fault: str | None = None  # What was wrong with the file at the last look: it is logged once.
        # The mark is taken before reading: a change in between is then seen at the next look, never missed.
        self._mark = key_file.mark(self._file)
        self._rows = _rows(key_file.load(self._file))

    def authenticate(self, token: str) -> Principal | None:
        """Find out whose key this is; None when it is nobody's."""
        self._reload_if_changed()
        digest = _digest(token)
        if self._configured is not None and hmac.compare_digest(digest, self._configured):
            return Principal(name="configured", scope=Scope.ADMIN)
        # The id only finds the row; what decides is compared in constant time.
        row = self._rows.get(_id_in(token))
        if row is None or not hmac.compare_digest(digest, row.digest):
            return None
        return row.principal

    def any(self) -> bool:
        """Whether there is a key at all, in the file or configured."""
        self._reload_if_changed()
        return self._configured is not None or bool(self._rows)

    def list(self) -> tuple[Key, ...]:
        """The keys in the file, oldest first, read anew.

        Raises:
            KeysError: The file cannot be used.
        """
        return key_file.load(self._file)

    def create(self, name: str, scope: str) -> str:
        """Add a key to the file, durably.

        Returns:
            The token. It is not kept anywhere: this is the only time it can be shown.

        Raises:
            KeysError: The scope or name is not allowed, or the file cannot be used.
        """
        _, agent_id = parse_scope(scope)
        why = None if agent_id is None else _unusable(agent_id)
        if why is not None:
            raise KeysError(f"{scope!r} is no scope: no agent has an id that {why}.")
        if not name.strip() or len(name) > NAME_LENGTH_MAX:
            raise KeysError(f"A key takes a name of 1 to {NAME_LENGTH_MAX} characters that says who holds it.")
        with key_file.locked(self._file):
            keys = key_file.load(self._file)
            if len(keys) >= KEYS_MAX:
                raise KeysError(f"{self._file} holds {KEYS_MAX} keys, which is the most: revoke some first.")
            key, token = _new_key(name, scope)
            self._replace((*keys, key))
        return token

    def create_first(self) -> str | None:
        """Add a key of scope `admin` unless there is any key, so that a fresh server can be used at all.

        Returns:
            The token, to be shown once; None when there was a key already.

        Raises:
            KeysError: The file cannot be used.
        """
        return None if self.any() else self.create("first", Scope.ADMIN)

    def revoke(self, key_id: str) -> Key:
        """Take a key out of the file, durably; a running server stops accepting it within a second.

        Raises:
            KeysError: There is no such key, or the file cannot be used.
        """
        with key_file.locked(self._file):
            keys = key_file.load(self._file)
            gone = next((key for key in keys if key.id == key_id), None)
            if gone is None:
                raise KeysError(f"There is no key {key_id!r} in {self._file}: `opscore key list` shows what there is.")
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
                # Not before it was read: what could not be is read again at the next look, for the reason may pass.
                self._mark = mark
            self._fault = None
        except KeysError as error:
            # Dropping every key for a slip of an editor would lock everyone out of a server that works.
            if str(error) != self._fault:
                _log.error("the key file changed and cannot be used, the keys stay as they were: %s", error)
            self._fault = str(error)


@attrs.frozen(kw_only=True)
class _Row:
    """A key as it is asked for: who holds it, and the digest its token must have."""

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
