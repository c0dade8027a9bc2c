"""The settings of a server, and where they come from.

Sources, from the weakest to the strongest: defaults, a TOML file (table `[opscore]`), `OPSCORE_*` variables,
command-line options. A variable that is set but empty counts as not set. Secrets have no option, because a
process list would show them.
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

from opscore.gateway.keys.keys import KeyRing
from opscore.gateway.settings import dispatch_settings, setting

CONFIG_FILE_DEFAULT = "opscore.toml"
TABLE = "opscore"
VARIABLE_PREFIX = "OPSCORE_"
_CONFIG_VARIABLE = f"{VARIABLE_PREFIX}CONFIG"
_CLIENTS_VARIABLE = f"{VARIABLE_PREFIX}URL"
"""Where the guide's agents find the server. It is no setting, but a server may be started in their environment."""
DATA_THERE = MappingProxyType({"data": "Directory of the store; it must exist."})
"""The help of `data` for commands that don't create the directory."""

_R = TypeVar("_R")


class ConfigError(Exception):
    """A setting that cannot be used; the message says which one, where it was set, and what was expected."""


class UnknownAgents(StrEnum):
    """What happens when an agent that never registered sends a report."""

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
    """Everything that can be configured about a server; each help text gives the meaning and the unit."""

    data: Path = setting.option(
        Path("opscore-data"),
        "Directory of the store; created if it is missing.",
        metavar="PATH",
        expected="a path without control characters, and without spaces at its ends",
    )
    host: str = setting.option(
        "127.0.0.1",
        "Address to listen on; any but loopback requires an API key.",
        metavar="HOST",
        expected="an IP address or a host name",
        validator=setting.check_host,
    )
    port: int = setting.whole_number(8080, 0, 65_535, "Port to listen on; 0 picks a free one.")
    api_key: SecretStr | None = setting.secret("An API key with every scope.")
    webhook_secret: SecretStr | None = setting.secret(
        "Secret with which AgentKit signs its webhook; if set, the signature is required."
    )
    webhook_unsigned: bool = setting.option(
        False, "Accept the webhook without signature and API key.", expected="true or false", shown="off"
    )
    agentkit_api_url: str = setting.option(
        "",
        "Base URL of AgentKit; empty if there is none.",
        metavar="URL",
        expected="a URL that starts with http:// or https://",
        validator=setting.check_url,
    )
    agentkit_poll_s: float = setting.seconds(
        30.0, 0, 86_400, "Interval at which AgentKit's list of agents is fetched, in seconds; 0 relies on its webhook."
    )
    push_allow: tuple[str, ...] = setting.option(
        (),
        "Hosts and networks that contact endpoints may be on; empty: any. Never link-local and metadata addresses.",
        metavar="HOST,...",
        validator=setting.check_targets,
        expected="host names, *.domains, IP addresses or networks, separated by commas (in TOML a list)",
    )
    push_timeout_s: float = setting.seconds(
        30.0, 0.1, 3_600, "Time that an agent has to answer a pushed task, in seconds."
    )
    lease_s: float = setting.seconds(
        900.0, 1, 604_800, "Time that an agent may be silent before its task goes to another, in seconds."
    )
    drain_s: float = setting.seconds(
        10.0, 0, 3_600, "Time that open requests have to finish when the server stops, in seconds."
    )
    connections_max: int = setting.whole_number(
        10_000, 1, 1_000_000, "Number of connections served at once; any beyond are answered 503."
    )
    body_bytes_max: int = setting.byte_size(2**20, 2**10, 2**30, "Largest request body, in bytes.")
    header_bytes_max: int = setting.byte_size(2**16, 2**10, 2**24, "Largest request head, in bytes.")
    request_head_timeout_s: float = setting.seconds(
        10.0, 0.1, 3_600, "Time that a client has to send the head of a request, in seconds."
    )
    idle_timeout_s: float = setting.seconds(
        60.0, 0.1, 86_400, "Time that a connection may be idle between requests, in seconds."
    )
    sessions_open_max: int = setting.whole_number(
        100_000, 1, 100_000_000, "Number of unfinished sessions at which triggers are refused."
    )
    runs_below_max: int = setting.whole_number(
        10_000, 1, 100_000_000, "Unfinished runs that one run may have below it; a task that would begin more fails."
    )
    dispatch_limits: tuple[str, ...] = setting.option(
        (),
        "Limits of open attempts, capability:NAME=N or workflow:NAME=N, and of how many begin: N/s, N/min or N/h.",
        metavar="LIMIT,...",
        validator=dispatch_settings.check,
        expected=f"{dispatch_settings.EXPECTED} (in TOML a list)",
    )
    sessions_keep_s: float = setting.seconds(
        30 * 86_400.0, 0, 3_153_600_000, "Time that a finished session is kept, in seconds; 0: for ever."
    )
    sessions_ended_max: int = setting.whole_number(
        1_000_000, 0, 1_000_000_000, "Number of finished sessions beyond which the oldest are removed; 0: no limit."
    )
    records_keep_s: float = setting.seconds(
        30 * 86_400.0, 0, 3_153_600_000, "Time that a journal record is kept, in seconds; 0: for ever."
    )
    records_max: int = setting.whole_number(
        10_000_000, 0, 10_000_000_000, "Number of journal records beyond which the oldest are removed; 0: no limit."
    )
    agent_ttl_s: float = setting.seconds(
        0.0,
        0,
        31_536_000,
        "Time since an agent was last heard after which it gets no work, in seconds; 0 turns this off.",
    )
    agents_unknown: UnknownAgents = setting.choice(
        UnknownAgents.REFUSE, "Whether a report from an unknown agent is refused or registers the agent."
    )
    log_format: LogFormat = setting.choice(
        LogFormat.AUTO, "Format of the log; auto: console on a terminal, else JSON lines."
    )
    log_level: LogLevel = setting.choice(LogLevel.INFO, "Lowest level of records that are logged.")
    map_bytes: int = setting.byte_size(
        8 * 2**30, 2**24, 2**44, "Maximum size of the store, in bytes; only what is used takes room on disk."
    )


def load(options: Mapping[str, object], *, directory: Path, config_file: Path | None = None) -> Settings:
    """Merge the settings of every source.

    Args:
        options: Command-line options, by the setting's name; None means not given.
        directory: The base of relative paths in variables and options, and the directory of `opscore.toml` if no file
            is named.
        config_file: The TOML file; if named, it must exist.

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
        # One by one, because typed-settings does not say which setting's value an attrs validator refused.
        try:
            typed_settings.convert({name: loaded}, state)
        except InvalidSettingsError:
            field = attrs.fields_dict(Settings)[name]
            shown = "[secret]" if field.repr is SECRET else repr(loaded.value)
            fault = f"is not valid: expected {field.metadata[setting.EXPECTED]}"
            raise ConfigError(f"{name} = {shown} ({loaded.loader_meta.name}) {fault}.") from None
    return typed_settings.convert(merged, state)


def variables(name: str) -> tuple[str, ...]:
    """The environment variables of a setting, the weakest first."""
    own = f"{VARIABLE_PREFIX}{name.upper()}"
    # Deployments of Ops-Core already set this variable, which has AgentKit's own name.
    return ("AGENTKIT_API_URL", own) if name == "agentkit_api_url" else (own,)


def stray_variables(environment: Mapping[str, str]) -> str | None:
    """A sentence that names the variables that begin like settings but are none; None if there are none.

    They are no reason to refuse to start: an orchestrator or another program may set variables with this prefix.
    """
    names = [name for each in attrs.fields(Settings) for name in variables(each.name)]
    known = {*names, _CONFIG_VARIABLE, _CLIENTS_VARIABLE}
    found = []
    for name in sorted(environment):
        if name.upper().startswith(VARIABLE_PREFIX) and name not in known and environment[name]:
            close = _nearest(name.upper(), sorted(known))
            found.append(f"{name} (did you mean {close}?)" if close else name)
    return f"variables that are no setting are ignored: {', '.join(found)}" if found else None


def _nearest(name: str, names: Iterable[str]) -> str | None:
    """The most similar of these names, if one is similar; the common prefix does not count."""
    bare = {each.removeprefix(VARIABLE_PREFIX): each for each in names}
    close = difflib.get_close_matches(name.removeprefix(VARIABLE_PREFIX), bare, n=1)
    return bare[close[0]] if close else None


def options(command: Callable[..., _R]) -> Callable[..., _R]:
    """Give a click command an option for every setting, and `--config`; the command receives `settings: Settings`."""
    return options_for(*attrs.fields_dict(Settings))(command)


def options_for(
    *names: str, texts: Mapping[str, str] = MappingProxyType({})
) -> Callable[[Callable[..., _R]], Callable[..., _R]]:
    """Do the same as `options`, for these settings alone: `@options_for("data")` for a command that works offline.

    Args:
        names: The settings.
        texts: Help texts of this command, by setting, in place of the settings' own.
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
    """Refuse to listen beyond loopback while there is no API key.

    Raises:
        ConfigError: The host is not loopback, and there is neither `api_key` nor a stored key.
    """
    if not _is_loopback(settings.host) and not keys.any():
        raise ConfigError(
            f"host = {settings.host!r} listens beyond this machine, which requires an API key: "
            f"set {VARIABLE_PREFIX}API_KEY or create one with `opscore key create`."
        )


def _is_there(file: Path) -> bool:
    """Whether a file can be seen; a file in a directory that may not be searched counts as missing."""
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
    # A relative path in a file starts at the file's directory, not where the server was started.
    yield LoadedSettings(table, LoaderMeta(f"file {file}", file.parent))


def _from_variables(known: OptionList, directory: Path) -> Iterator[LoadedSettings]:
    for each in known:
        for variable in variables(each.name):
            loaded = EnvLoader(variable.removesuffix(each.name.upper()))(Settings, (each,)).settings
            if attrs.fields_dict(Settings)[each.name].type in _WORDS:
                # As with a number, the space that a file of variables may have (NAME= value) is not part of the value.
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
    # The click options of typed-settings would read files and variables when this module is imported.
    given = field.metadata[METADATA_KEY][CLICK_METADATA_KEY]
    text = f"{about or given['help']}  [default: {field.metadata[setting.SHOWN]}; {', '.join(variables(name))}]"
    flags = f"{_flag(name)}/--no-{name.replace('_', '-')}" if field.type is bool else _flag(name)
    return click.option(flags, name, default=None, **{**given, "help": text})


class _Refusal(click.ClickException):
    """Ends the command like click's usage errors, but without printing the usage, which would not help."""

    exit_code = 2


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host.lower() == "localhost"
