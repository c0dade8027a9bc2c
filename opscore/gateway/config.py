"""The settings of a server, and where they come from.

Sources, weakest first: defaults, a TOML file (table `[opscore]`), `OPSCORE_*` variables, options of the
command line. A variable that is set but empty counts as not set. Secrets have no option: a process list would
show them.
"""

import difflib
import functools
import ipaddress
from codecs import BOM_UTF8
from collections.abc import Callable, Iterable, Iterator, Mapping
from enum import StrEnum
from pathlib import Path
from types import MappingProxyType
from typing import Any, TypeVar

import attrs
import click
import typed_settings
from typed_settings import EnvLoader, SecretStr, SettingsState, TomlFormat
from typed_settings.cls_attrs import SECRET
from typed_settings.constants import CLICK_METADATA_KEY, METADATA_KEY
from typed_settings.dict_utils import merge_settings
from typed_settings.exceptions import InvalidSettingsError, TsError
from typed_settings.types import LoadedSettings, LoaderMeta, OptionList, SettingsDict

from opscore.gateway import dispatch_settings, setting
from opscore.gateway.keys import KeyRing

CONFIG_FILE_DEFAULT = "opscore.toml"
TABLE = "opscore"
VARIABLE_PREFIX = "OPSCORE_"
_CONFIG_VARIABLE = f"{VARIABLE_PREFIX}CONFIG"
DATA_THERE = MappingProxyType({"data": "Directory of the store; it must be there."})
"""What `data` is to a command that makes none."""

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


_WORDS = (bool, UnknownAgents, LogFormat, LogLevel)


@attrs.frozen(kw_only=True)
class Settings:
    """Everything that can be configured about a server; the help texts say what each is, with its unit."""

    data: Path = setting.option(
        Path("opscore-data"),
        "Directory of the store; made when missing.",
        metavar="PATH",
        expected="a path without control characters, and without spaces at its ends",
    )
    host: str = setting.option(
        "127.0.0.1",
        "Address to listen on; beyond loopback only with an API key.",
        metavar="HOST",
        expected="an IP address or a host name",
        validator=setting.check_host,
    )
    port: int = setting.whole_number(8080, 0, 65_535, "Port to listen on; 0 takes a free one.")
    api_key: SecretStr | None = setting.secret("An API key with every scope.")
    webhook_secret: SecretStr | None = setting.secret(
        "Secret that AgentKit signs its webhook with; when set, the signature is required."
    )
    webhook_unsigned: bool = setting.option(
        False, "Take the webhook without signature and without API key.", expected="true or false", shown="off"
    )
    agentkit_api_url: str = setting.option(
        "",
        "Base URL of AgentKit; empty when there is none.",
        metavar="URL",
        expected="a URL that starts with http:// or https://",
        validator=setting.check_url,
    )
    agentkit_poll_s: float = setting.seconds(
        30.0, 0, 86_400, "How often AgentKit is asked which agents it has, in seconds; 0 leaves that to its webhook."
    )
    push_allow: tuple[str, ...] = setting.option(
        (),
        "Hosts and networks that contact endpoints may be on; empty: any. Link-local and metadata never.",
        metavar="HOST,...",
        validator=setting.check_targets,
        expected="host names, *.domains, IP addresses or networks, separated by commas (in TOML a list)",
    )
    push_timeout_s: float = setting.seconds(30.0, 0.1, 3_600, "Time an agent has to answer a pushed task, in seconds.")
    lease_s: float = setting.seconds(
        900.0, 1, 604_800, "How long an agent may keep a task without a sign of life, in seconds."
    )
    drain_s: float = setting.seconds(
        10.0, 0, 3_600, "Time that open requests have to end when the server stops, in seconds."
    )
    connections_max: int = setting.whole_number(
        10_000, 1, 1_000_000, "Connections served at once, in number; one more is answered 503."
    )
    body_bytes_max: int = setting.byte_size(2**20, 2**10, 2**30, "Largest request body, in bytes.")
    header_bytes_max: int = setting.byte_size(2**16, 2**10, 2**24, "Largest request head, in bytes.")
    request_head_timeout_s: float = setting.seconds(
        10.0, 0.1, 3_600, "Time a client has to send the head of a request, in seconds."
    )
    idle_timeout_s: float = setting.seconds(
        60.0, 0.1, 86_400, "How long a connection may idle between requests, in seconds."
    )
    sessions_open_max: int = setting.whole_number(
        100_000, 1, 100_000_000, "Unfinished sessions beyond which triggers are refused."
    )
    runs_below_max: int = setting.whole_number(
        10_000, 1, 100_000_000, "Unfinished runs that one run may have begun, itself or through others; more fail."
    )
    dispatch_limits: tuple[str, ...] = setting.option(
        (),
        "What is given out at most: capability:NAME=N or workflow:NAME=N at once, N/s, N/min or N/h begun.",
        metavar="LIMIT,...",
        validator=dispatch_settings.check,
        expected=f"{dispatch_settings.EXPECTED} (in TOML a list)",
    )
    sessions_keep_s: float = setting.seconds(
        30 * 86_400.0, 0, 3_153_600_000, "How long a finished session is kept, in seconds; 0 keeps it for good."
    )
    sessions_ended_max: int = setting.whole_number(
        1_000_000, 0, 1_000_000_000, "Finished sessions beyond which the oldest are removed; 0 is no limit."
    )
    records_keep_s: float = setting.seconds(
        30 * 86_400.0, 0, 3_153_600_000, "How long a journal record is kept, in seconds; 0 keeps it for good."
    )
    records_max: int = setting.whole_number(
        10_000_000, 0, 10_000_000_000, "Journal records beyond which the oldest are removed; 0 is no limit."
    )
    agent_ttl_s: float = setting.seconds(
        0.0, 0, 31_536_000, "Age of an agent's last report, in seconds, beyond which it gets no work; 0 turns this off."
    )
    agents_unknown: UnknownAgents = setting.choice(
        UnknownAgents.REFUSE, "What a report from an unknown agent leads to."
    )
    log_format: LogFormat = setting.choice(
        LogFormat.AUTO, "Form of the log; auto: console on a terminal, else JSON lines."
    )
    log_level: LogLevel = setting.choice(LogLevel.INFO, "Least important records to log.")
    map_bytes: int = setting.byte_size(
        8 * 2**30, 2**24, 2**44, "Most that the store may grow to, in bytes; only what is used takes room on disk."
    )


def load(options: Mapping[str, object], *, directory: Path, config_file: Path | None = None) -> Settings:
    """Put the settings together from every source.

    Args:
        options: Options of the command line by the setting's name; None means not given.
        directory: Where relative paths of variables and options start, and where `opscore.toml` is looked for when
            no file is named.
        config_file: The TOML file; must exist when named.

    Raises:
        ConfigError: A file cannot be read, names an unknown setting, or a value is not allowed.
    """
    file = directory / (config_file or CONFIG_FILE_DEFAULT)
    state = SettingsState(Settings, (), (), setting.make_converter(), directory)
    given = [
        *(_from_file(file, state.options) if config_file or _is_there(file) else ()),
        *_from_variables(state.options, directory),
        *_from_options(options, directory),
    ]
    merged = merge_settings(state.options, given)
    for name, loaded in merged.items():
        # One by one, because typed-settings does not say whose value an attrs validator refused.
        try:
            typed_settings.convert({name: loaded}, state)
        except InvalidSettingsError:
            field = attrs.fields_dict(Settings)[name]
            shown = "[secret]" if field.repr is SECRET else repr(loaded.value)
            fault = f"is not valid: expected {field.metadata[setting.EXPECTED]}"
            raise ConfigError(f"{name} = {shown} ({loaded.loader_meta.name}) {fault}.") from None
    return typed_settings.convert(merged, state)


def variables(name: str) -> tuple[str, ...]:
    """The environment variables that set a setting, weakest first."""
    own = f"{VARIABLE_PREFIX}{name.upper()}"
    # Deployments of Ops-Core already set this one under AgentKit's own name.
    return ("AGENTKIT_API_URL", own) if name == "agentkit_api_url" else (own,)


def stray_variables(environment: Mapping[str, str]) -> str | None:
    """A sentence on variables that are written like settings and are none; nothing, where there are none.

    They are no reason to refuse: an orchestrator or another program may set what begins like ours.
    """
    names = [name for each in attrs.fields(Settings) for name in variables(each.name)]
    known = {*names, _CONFIG_VARIABLE}
    found = []
    for name in sorted(environment):
        if name.upper().startswith(VARIABLE_PREFIX) and name not in known and environment[name]:
            close = _nearest(name.upper(), sorted(known))
            found.append(f"{name} (did you mean {close}?)" if close else name)
    return f"variables that are no setting are ignored: {', '.join(found)}" if found else None


def _nearest(name: str, names: Iterable[str]) -> str | None:
    """The one of these names that comes near, if one does; what they all begin with makes none near."""
    bare = {each.removeprefix(VARIABLE_PREFIX): each for each in names}
    close = difflib.get_close_matches(name.removeprefix(VARIABLE_PREFIX), bare, n=1)
    return bare[close[0]] if close else None


def options(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a click command an option for every setting, and `--config`; it receives `settings: Settings`."""
    return options_for(*attrs.fields_dict(Settings))(command)


def options_for(
    *names: str, texts: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Callable[..., _R]], Callable[..., _R]]:
    """As `options`, but for these settings alone: `@options_for("data")` for a command that works offline.

    Args:
        names: The settings.
        texts: What some of them are to this command, in place of their own help.
    """

    def decorate(command: Callable[..., _R]) -> Callable[..., _R]:
        @functools.wraps(command)
        def wrapped(*args: Any, config_file: Path | None, **kwargs: Any) -> _R:
            taken = {name: kwargs.pop(name) for name in shown}
            try:
                settings = load(taken, directory=Path.cwd(), config_file=config_file)
            except ConfigError as error:
                raise _Refusal(str(error)) from error
            return command(*args, settings=settings, **kwargs)

        decorated: Callable[..., _R] = wrapped
        for name in reversed(shown):
            decorated = _option(name, texts.get(name))(decorated)
        return click.option(
            "--config",
            "config_file",
            type=click.Path(path_type=Path),
            envvar=_CONFIG_VARIABLE,
            metavar="FILE",
            help=f"TOML file with a table [{TABLE}].  [default: {CONFIG_FILE_DEFAULT} if there is one]",
        )(decorated)

    shown = [name for name in names if attrs.fields_dict(Settings)[name].repr is not SECRET]
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


def _is_there(file: Path) -> bool:
    """Whether a file can be seen; in a directory that may not be looked into there is none to us."""
    try:
        file.stat()
    except OSError:
        return False
    return True


def _from_file(file: Path, known: OptionList) -> Iterator[LoadedSettings]:
    try:
        document = TomlFormat(None)(file, Settings, known)
    except (OSError, UnicodeDecodeError, TsError) as error:
        cause = error.__cause__ or error
        fault = f"cannot be read: {cause.strerror}" if isinstance(cause, OSError) else f"is not valid TOML: {cause}"
        if not isinstance(cause, OSError) and file.read_bytes().startswith(BOM_UTF8):
            fault = "begins with a byte order mark: save it as UTF-8 without one"
        raise ConfigError(f"The configuration file {file} {fault}.") from error
    except RecursionError as error:
        raise ConfigError(f"The configuration file {file} is not valid TOML: it nests too deeply.") from error
    table: SettingsDict = document.pop(TABLE, {})
    if document or not isinstance(table, dict):
        stray = next(iter(document), TABLE)
        raise ConfigError(f"The configuration file {file} has {stray!r} where only a table [{TABLE}] is expected.")
    names = [each.name for each in known]
    for key in table:
        if key not in names:
            close = _nearest(key.replace("-", "_"), names)
            hint = f"did you mean {close}?" if close else f"the settings are {', '.join(names)}."
            raise ConfigError(f"The configuration file {file} sets {key!r}, which is no setting; {hint}")
    # A relative path in a file is meant from where the file is, not from where the server was started.
    yield LoadedSettings(table, LoaderMeta(f"file {file}", file.parent))


def _from_variables(known: OptionList, directory: Path) -> Iterator[LoadedSettings]:
    for each in known:
        for variable in variables(each.name):
            loaded = EnvLoader(variable.removesuffix(each.name.upper()))(Settings, (each,)).settings
            if attrs.fields_dict(Settings)[each.name].type in _WORDS:
                # As with a number, the space of a file of variables (NAME= value) is none of it.
                loaded = {name: str(value).strip() for name, value in loaded.items()}
            if loaded.get(each.name):
                yield LoadedSettings(loaded, LoaderMeta(f"variable {variable}", directory))


def _from_options(values: Mapping[str, object], directory: Path) -> Iterator[LoadedSettings]:
    for name, value in values.items():
        if value is not None:
            yield LoadedSettings({name: value}, LoaderMeta(f"option {_flag(name)}", directory))


def _flag(name: str) -> str:
    return f"--{name.replace('_', '-')}"


def _option(name: str, about: str | None = None) -> Callable[[Callable[..., _R]], Callable[..., _R]]:
    field = attrs.fields_dict(Settings)[name]
    # typed-settings' own click options would read files and variables when this module is imported.
    given = field.metadata[METADATA_KEY][CLICK_METADATA_KEY]
    text = f"{about or given['help']}  [default: {field.metadata[setting.SHOWN]}; {', '.join(variables(name))}]"
    flags = f"{_flag(name)}/--no-{name.replace('_', '-')}" if field.type is bool else _flag(name)
    return click.option(flags, name, default=None, **{**given, "help": text})


class _Refusal(click.ClickException):
    """Ends the command as click's own usage errors do, without the usage, which would not help."""

    exit_code = 2


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
