"""The settings of a server, and where they come from.

Sources, weakest first: defaults, a TOML file (table `[opscore]`), `OPSCORE_*` variables, options of the
command line. A variable that is set but empty counts as not set. Secrets have no option: a process list would
show them.
"""

import difflib
import functools
import ipaddress
import os
import tomllib
from collections.abc import Callable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from typing import Any, TypeVar

import attrs
import click
from typed_settings import SecretStr

from opscore.gateway import setting
from opscore.gateway.keys import KeyRing
from opscore.gateway.setting import Kind

CONFIG_FILE_DEFAULT = "opscore.toml"
TABLE = "opscore"
VARIABLE_PREFIX = "OPSCORE_"

_KIND = "opscore.kind"
_HELP = "opscore.help"

_R = TypeVar("_R")


class ConfigError(Exception):
    """A setting that cannot be used; its one sentence says which, from where, and what was expected."""


class UnknownAgents(StrEnum):
    """What a report from an agent that never registered leads to."""

    REFUSE = "refuse"
    REGISTER = "register"


class LogFormat(StrEnum):
    """How log records are written."""

    AUTO = "auto"
    CONSOLE = "console"
    JSON = "json"


class LogLevel(StrEnum):
    """The least important records that are still written."""

    DEBUG = "debug"
    INFO = "info"
    WARNING = "warning"
    ERROR = "error"


def _field(default: object, kind: Kind, text: str) -> Any:
    return attrs.field(default=default, metadata={_KIND: kind, _HELP: text})


@attrs.frozen(kw_only=True)
class Settings:
    """Everything that can be configured about a server; the help texts say what each is, with its unit."""

    data: Path = _field(Path("opscore-data"), setting.path(), "Directory of the store; made when missing.")
    host: str = _field(
        "127.0.0.1", setting.host(), "Address to listen on; beyond loopback only with an API key."
    )
    port: int = _field(8080, setting.whole_number(0, 65_535), "Port to listen on; 0 takes a free one.")
    api_key: SecretStr | None = _field(None, setting.secret(), "An API key with every scope.")
    webhook_secret: SecretStr | None = _field(
        None,
        setting.secret(),
        "Secret that AgentKit signs its webhook with; when set, the signature is required.",
    )
    webhook_unsigned: bool = _field(
        default=False,
        kind=setting.switch(),
        text="Take the webhook without signature and without API key.",
    )
    agentkit_api_url: str = _field("", setting.url(), "Base URL of AgentKit; empty when there is none.")
    push_allow: tuple[str, ...] = _field(
        (),
        setting.targets(),
        "Hosts and networks that contact endpoints may be on; empty: any. Link-local and metadata never.",
    )
    push_timeout_s: float = _field(
        30.0, setting.seconds(0.1, 3_600), "Time an agent has to answer a pushed task, in seconds."
    )
    lease_s: float = _field(
        900.0,
        setting.seconds(1, 604_800),
        "How long an agent may keep a task without a sign of life, in seconds.",
    )
    drain_s: float = _field(
        10.0,
        setting.seconds(0, 3_600),
        "Time that open requests have to end when the server stops, in seconds.",
    )
    body_bytes_max: int = _field(2**20, setting.byte_size(2**10, 2**30), "Largest request body, in bytes.")
    header_bytes_max: int = _field(2**16, setting.byte_size(2**10, 2**24), "Largest request head, in bytes.")
    request_head_timeout_s: float = _field(
        10.0, setting.seconds(0.1, 3_600), "Time a client has to send the head of a request, in seconds."
    )
    idle_timeout_s: float = _field(
        60.0, setting.seconds(0.1, 86_400), "How long a connection may idle between requests, in seconds."
    )
    sessions_open_max: int = _field(
        100_000,
        setting.whole_number(1, 100_000_000),
        "Unfinished sessions beyond which triggers are refused.",
    )
    agent_ttl_s: float = _field(
        0.0,
        setting.seconds(0, 31_536_000),
        "Age of an agent's last report, in seconds, beyond which it gets no work; 0 turns this off.",
    )
    agents_unknown: UnknownAgents = _field(
        UnknownAgents.REFUSE, setting.choice(UnknownAgents), "What a report from an unknown agent leads to."
    )
    log_format: LogFormat = _field(
        LogFormat.AUTO,
        setting.choice(LogFormat),
        "Form of the log; auto: console on a terminal, else JSON lines.",
    )
    log_level: LogLevel = _field(LogLevel.INFO, setting.choice(LogLevel), "Least important records to log.")
    map_bytes: int = _field(
        8 * 2**30,
        setting.byte_size(2**24, 2**44),
        "Most that the store may grow to, in bytes; only what is used takes room on disk.",
    )


@attrs.frozen(kw_only=True)
class _Given:
    """A value as one source gave it, before it is read."""

    value: object
    source: str
    is_text: bool
    directory: Path | None = None


def load(
    options: Mapping[str, object],
    *,
    environ: Mapping[str, str],
    directory: Path,
    config_file: Path | None = None,
) -> Settings:
    """Put the settings together from every source.

    Args:
        options: Options of the command line by the setting's name; None means not given.
        environ: The environment's variables.
        directory: The working directory: `opscore.toml` is looked for there when no file is named.
        config_file: The TOML file; must exist when named.

    Raises:
        ConfigError: A file cannot be read, names an unknown setting, or a value is not allowed.
    """
    given = {**_from_file(config_file, directory), **_from_environ(environ), **_from_options(options)}
    values: dict[str, Any] = {name: _read(name, value) for name, value in given.items()}
    return Settings(**values)


def variables(name: str) -> tuple[str, ...]:
    """The environment variables that set a setting, weakest first."""
    own = f"{VARIABLE_PREFIX}{name.upper()}"
    # Deployments of Ops-Core already set this one under AgentKit's own name.
    return ("AGENTKIT_API_URL", own) if name == "agentkit_api_url" else (own,)


def options(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a click command an option for every setting, and `--config`; it receives `settings: Settings`."""
    return options_for(*(name for name, _ in _kinds()))(command)


def options_for(*names: str) -> Callable[[Callable[..., _R]], Callable[..., _R]]:
    """As `options`, but for these settings alone: `@options_for("data")` for a command that works offline."""

    def decorate(command: Callable[..., _R]) -> Callable[..., _R]:
        @functools.wraps(command)
        def wrapped(*args: Any, config_file: Path | None, **kwargs: Any) -> _R:
            taken = {name: kwargs.pop(name) for name in shown}
            try:
                settings = load(taken, environ=os.environ, directory=Path.cwd(), config_file=config_file)
            except ConfigError as error:
                raise _Refusal(str(error)) from error
            return command(*args, settings=settings, **kwargs)

        decorated: Callable[..., _R] = wrapped
        for name in reversed(shown):
            decorated = _option(name)(decorated)
        return click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            envvar=f"{VARIABLE_PREFIX}CONFIG",
            metavar="FILE",
            help=f"TOML file with a table [{TABLE}].  [default: {CONFIG_FILE_DEFAULT} if there is one]",
        )(decorated)

    shown = [name for name, kind in _kinds() if name in names and not kind.secret]
    return decorate


def check_exposure(settings: Settings, keys: KeyRing) -> None:
    """Refuse to listen beyond loopback as long as there is no API key.

    Raises:
        ConfigError: The host is not loopback, and there is neither `api_key` nor a stored key.
    """
    if not _is_loopback(settings.host) and not keys.any():
        raise ConfigError(
            f"host = {settings.host!r} listens beyond this machine, which takes an API key: "
            f"set {VARIABLE_PREFIX}API_KEY or create one with `opscore key create`."
        )


def _kinds() -> Iterator[tuple[str, Kind]]:
    for field in attrs.fields(Settings):
        yield field.name, field.metadata[_KIND]


def _from_options(values: Mapping[str, object]) -> dict[str, _Given]:
    return {
        name: _Given(value=value, source=f"option {_flag(name)}", is_text=isinstance(value, str))
        for name, value in values.items()
        if value is not None
    }


def _from_environ(environ: Mapping[str, str]) -> dict[str, _Given]:
    return {
        name: _Given(value=environ[variable], source=f"variable {variable}", is_text=True)
        for name, _ in _kinds()
        for variable in variables(name)
        if environ.get(variable)
    }


def _from_file(named: Path | None, directory: Path) -> dict[str, _Given]:
    file = directory / (named or CONFIG_FILE_DEFAULT)
    if named is None and not file.exists():
        return {}
    try:
        document = tomllib.loads(file.read_text(encoding="utf-8"))
    except OSError as error:
        raise ConfigError(f"The configuration file {file} cannot be read: {error.strerror}.") from error
    except ValueError as error:
        raise ConfigError(f"The configuration file {file} is not valid TOML: {error}.") from error
    table = document.pop(TABLE, {})
    if document or not isinstance(table, dict):
        stray = next(iter(document), TABLE)
        raise ConfigError(
            f"The configuration file {file} has {stray!r} where only a table [{TABLE}] is expected."
        )
    known = [name for name, _ in _kinds()]
    for key in table:
        if key not in known:
            close = difflib.get_close_matches(key.replace("-", "_"), known, n=1)
            hint = f"did you mean {close[0]}?" if close else f"the settings are {', '.join(known)}."
            raise ConfigError(f"The configuration file {file} sets {key!r}, which is no setting; {hint}")
    return {
        key: _Given(value=value, source=f"file {file}", is_text=False, directory=file.parent)
        for key, value in table.items()
    }


def _read(name: str, given: _Given) -> object:
    kind = dict(_kinds())[name]
    try:
        value = kind.check(kind.read(str(given.value)) if given.is_text else given.value)
    except (TypeError, ValueError):
        shown = "[secret]" if kind.secret else repr(given.value)
        raise ConfigError(
            f"{name} = {shown} ({given.source}) is not valid: expected {kind.expected}."
        ) from None
    # A relative path in a file is meant from where the file is, not from where the server was started.
    return given.directory / value if isinstance(value, Path) and given.directory else value


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(name: str) -> Callable[[Callable[..., _R]], Callable[..., _R]]:
    field = attrs.fields_dict(Settings)[name]
    kind: Kind = field.metadata[_KIND]
    text = f"{field.metadata[_HELP]}  [default: {_shown(field.default, kind)}; {', '.join(variables(name))}]"
    if not kind.metavar:
        flags = f"{_flag(name)}/--no-{name.replace('_', '-')}"
        return click.option(flags, name, default=None, help=text)
    return click.option(_flag(name), name, type=str, default=None, metavar=kind.metavar, help=text)


def _shown(default: object, kind: Kind) -> str:
    if isinstance(default, bool):
        return "on" if default else "off"
    if isinstance(default, int):
        return kind.show(default)
    if isinstance(default, float):
        return f"{default:g}"
    return str(default) if default else "none"


class _Refusal(click.ClickException):
    """Ends the command as click's own usage errors do, without the usage, which would not help."""

    exit_code = 2


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
