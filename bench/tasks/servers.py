"""The servers that contenders need: each is started in a folder of its own, on a socket there, and stopped again.

Redis syncs its append-only file before it answers a write (`appendfsync always`). PostgreSQL syncs its write-ahead log
before it answers a commit (`fsync`, `synchronous_commit`); it refuses to run as root, so root runs it as `postgres`.
"""

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
import time
from abc import ABC, abstractmethod
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any, ClassVar, Final

START_S: Final = 30.0
END_S: Final = 30.0
CONNECTIONS_MAX: Final = 200
SYSTEM_USER: Final = "postgres"


class ServerError(Exception):
    """A server did not start."""


class Server(ABC):
    """One server's process.

    Args:
        folder: an empty folder, which its socket's path has to fit in.
    """

    name: ClassVar[str]
    install: ClassVar[str]

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None

    @classmethod
    @abstractmethod
    def missing(cls) -> str | None:
        """Return what is not installed, or None."""

    @abstractmethod
    def begin(self) -> None:
        """Start the server, and wait until it answers."""

    @abstractmethod
    def answers(self) -> bool:
        """Return whether the server answers."""

    @abstractmethod
    def fresh(self) -> str:
        """Return the address of an empty database in the server."""

    @abstractmethod
    def version(self) -> str: ...

    @property
    def pid(self) -> int:
        assert self._process is not None, "it has begun"
        return self._process.pid

    def end(self) -> None:
        if self._process is None:
            return
        # To PostgreSQL this signal means a fast but orderly shutdown.
        self._process.send_signal(signal.SIGINT)
        try:
            self._process.wait(END_S)
        except subprocess.TimeoutExpired:
            self._process.kill()
            self._process.wait()

    def _start(self, command: Sequence[str], **as_user: Any) -> None:
        with (self._folder / "log").open("wb") as log:
            self._process = subprocess.Popen(command, stdout=log, stderr=log, cwd=self._folder, **as_user)
        until = time.monotonic() + START_S
        while not self.answers():
            if self._process.poll() is not None or time.monotonic() > until:
                raise ServerError((self._folder / "log").read_text(encoding="utf-8", errors="replace"))
            time.sleep(0.05)


class Redis(Server):
    """Redis, every write synced."""

    name = "Redis"
    install = "apt-get install redis-server"

    @classmethod
    def missing(cls) -> str | None:
        return next((name for name in ("redis-server", "redis-cli") if shutil.which(name) is None), None)

    @property
    def _socket(self) -> str:
        return str(self._folder / "redis.sock")

    def begin(self) -> None:
        durable = ("--appendonly", "yes", "--appendfsync", "always", "--save", "")
        place = ("--dir", str(self._folder), "--port", "0", "--unixsocket", self._socket)
        self._start(("redis-server", *place, *durable))

    def answers(self) -> bool:
        return self._said("ping") == "PONG"

    def fresh(self) -> str:
        if self._said("flushall") != "OK":
            raise ServerError("Redis was not emptied")
        return self._socket

    def version(self) -> str:
        said = subprocess.check_output(["redis-server", "--version"], text=True)
        return said.partition("v=")[2].split()[0]

    def _said(self, *words: str) -> str:
        return _said(("redis-cli", "-s", self._socket, *words))


class Postgres(Server):
    """PostgreSQL, every commit synced."""

    name = "PostgreSQL"
    install = "apt-get install postgresql"

    def __init__(self, folder: Path) -> None:
        super().__init__(folder)
        self._names = itertools.count(1)

    @classmethod
    def missing(cls) -> str | None:
        if _postgres_programs() is None:
            return "postgres"
        return None if _as_user() is not None else f"a user {SYSTEM_USER!r}"

    def begin(self) -> None:
        as_user = _as_user() or {}
        if as_user:
            shutil.chown(self._folder, SYSTEM_USER)
        data = str(self._folder / "data")
        made = ("-D", data, "-U", SYSTEM_USER, "-A", "trust", "-E", "UTF8", "--locale=C")
        subprocess.run(
            [self.program("initdb"), *made], check=True, cwd=self._folder, stdout=subprocess.DEVNULL, **as_user
        )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self._folder),
            "max_connections": str(CONNECTIONS_MAX),
            "fsync": "on",
            "synchronous_commit": "on",
        }
        options = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
        self._start((self.program("postgres"), "-D", data, *options), **as_user)

    def answers(self) -> bool:
        return _ended_well((self.program("pg_isready"), "-h", str(self._folder)))

    def fresh(self) -> str:
        name = f"measured_{next(self._names)}"
        if not _ended_well((self.program("createdb"), "-h", str(self._folder), "-U", SYSTEM_USER, name)):
            raise ServerError(f"PostgreSQL made no database {name}")
        return f"postgresql://{SYSTEM_USER}@/{name}?host={self._folder}"

    def version(self) -> str:
        return subprocess.check_output([self.program("postgres"), "--version"], text=True).split()[2]

    @staticmethod
    def program(name: str) -> str:
        """Return the path of a program that comes with the server."""
        programs = _postgres_programs()
        assert programs is not None, "it was asked for"
        return str(programs / name)


SERVERS: Final[dict[str, type[Server]]] = {"redis": Redis, "postgres": Postgres}


@contextlib.contextmanager
def running(name: str, parent: Path) -> Iterator[Server]:
    """Run a server in a folder of its own inside the parent.

    Raises:
        ServerError: it did not start.
    """
    with tempfile.TemporaryDirectory(dir=parent, prefix=f"{name}-") as folder:
        server = SERVERS[name](Path(folder))
        try:
            server.begin()
            yield server
        finally:
            server.end()


def _postgres_programs() -> Path | None:
    found = shutil.which("initdb")
    if found is not None:
        return Path(found).resolve().parent
    folders = sorted(Path("/usr/lib/postgresql").glob("*/bin/initdb"), key=lambda program: int(program.parts[-3]))
    return folders[-1].parent if folders else None


def _as_user() -> dict[str, Any] | None:
    """Return the arguments of `Popen` for a user that PostgreSQL runs as; None if there is none."""
    if os.geteuid() != 0:
        return {}
    try:
        user = pwd.getpwnam(SYSTEM_USER)
    except KeyError:
        return None
    return {"user": user.pw_uid, "group": user.pw_gid, "extra_groups": []}


def _said(command: Sequence[str]) -> str:
    return subprocess.run(command, check=False, capture_output=True, text=True).stdout.strip()


def _ended_well(command: Sequence[str]) -> bool:
    return subprocess.run(command, check=False, capture_output=True).returncode == 0
