import math
from collections.abc import Mapping
from pathlib import Path

import attrs
import click
import pytest
from click.testing import CliRunner
from hypothesis import given
from hypothesis import strategies as st

from opscore.gateway.keys.keys import KeyRing
from opscore.gateway.settings import config, setting
from opscore.gateway.settings.config import ConfigError, LogFormat, LogLevel, Settings, UnknownAgents, check_exposure


def load(
    directory: Path,
    *,
    options: Mapping[str, object] | None = None,
    environ: Mapping[str, str] | None = None,
    config_file: Path | None = None,
) -> Settings:
    with pytest.MonkeyPatch.context() as patch:
        for variable, text in (environ or {}).items():
            patch.setenv(variable, text)
        return config.load(options or {}, directory=directory, config_file=config_file)


def write(directory: Path, text: str, name: str = "opscore.toml") -> Path:
    file = directory / name
    file.write_text(text)
    return file


def refusal(directory: Path, **sources: Mapping[str, object]) -> str:
    with pytest.raises(ConfigError) as caught:
        load(directory, **sources)  # type: ignore[arg-type]
    return str(caught.value)


def test_without_any_source_the_defaults_stand(tmp_path: Path) -> None:
    assert load(tmp_path) == Settings()


def test_a_file_overrides_defaults_a_variable_the_file_and_an_option_the_variable(tmp_path: Path) -> None:
    write(tmp_path, "[opscore]\nport = 1001\nlease_s = 11\ndrain_s = 21\n")
    settings = load(
        tmp_path,
        environ={"OPSCORE_LEASE_S": "12", "OPSCORE_DRAIN_S": "22"},
        options={"drain_s": "23", "port": None},
    )
    assert (settings.port, settings.lease_s, settings.drain_s) == (1001, 12.0, 23.0)


def test_a_named_file_replaces_the_one_of_the_working_directory(tmp_path: Path) -> None:
    write(tmp_path, "[opscore]\nport = 1001\nlease_s = 11\n")
    named = write(tmp_path, "[opscore]\nport = 1002\n", name="other.toml")
    settings = load(tmp_path, config_file=named)
    assert (settings.port, settings.lease_s) == (1002, Settings().lease_s)


def test_a_relative_path_in_a_file_starts_from_the_file_and_any_other_from_the_working_directory(
    tmp_path: Path,
) -> None:
    (tmp_path / "etc").mkdir()
    named = write(tmp_path / "etc", '[opscore]\ndata = "store"\n')
    assert load(tmp_path, config_file=named).data == tmp_path / "etc" / "store"
    assert load(tmp_path, environ={"OPSCORE_DATA": "store"}).data == tmp_path / "store"


def test_a_path_may_start_from_the_home_directory(tmp_path: Path) -> None:
    write(tmp_path, '[opscore]\ndata = "~/store"\n')
    assert load(tmp_path, environ={"HOME": str(tmp_path)}).data == tmp_path / "store"


def test_every_setting_can_be_given_by_a_variable(tmp_path: Path) -> None:
    given_texts = {
        "data": "elsewhere",
        "host": "::1",
        "port": "0",
        "api_key": "k3y",
        "webhook_secret": "s3cret",
        "webhook_unsigned": "yes",
        "agentkit_api_url": "http://kit.example:8000/",
        "agentkit_poll_s": "2.5",
        "push_allow": "10.0.0.0/8, *.Example.com,::1",
        "push_timeout_s": "2.5",
        "lease_s": "60",
        "drain_s": "0",
        "connections_max": "8",
        "body_bytes_max": "2MiB",
        "header_bytes_max": "32 KiB",
        "request_head_timeout_s": "1",
        "idle_timeout_s": "5",
        "sessions_open_max": "7",
        "runs_below_max": "8",
        "dispatch_limits": "capability:gpu=4, workflow:mail=100/min",
        "sessions_keep_s": "86400",
        "sessions_ended_max": "0",
        "records_keep_s": "0",
        "records_max": "1000",
        "agent_ttl_s": "90",
        "agents_unknown": "register",
        "log_format": "json",
        "log_level": "debug",
        "map_bytes": "1 GiB",
    }
    assert set(given_texts) == {field.name for field in attrs.fields(Settings)}
    settings = load(tmp_path, environ={f"OPSCORE_{name.upper()}": text for name, text in given_texts.items()})
    for field in attrs.fields(Settings):
        assert getattr(settings, field.name) != field.default, field.name
    assert settings.push_allow == ("10.0.0.0/8", "*.Example.com", "::1")
    assert settings.agentkit_api_url == "http://kit.example:8000/"
    assert (settings.body_bytes_max, settings.header_bytes_max, settings.map_bytes) == (2**21, 2**15, 2**30)
    assert (settings.agents_unknown, settings.log_format) == (UnknownAgents.REGISTER, LogFormat.JSON)


def test_agentkits_own_variable_is_accepted_and_ours_is_stronger(tmp_path: Path) -> None:
    theirs = {"AGENTKIT_API_URL": "http://kit.example"}
    assert load(tmp_path, environ=theirs).agentkit_api_url == "http://kit.example"
    both = {**theirs, "OPSCORE_AGENTKIT_API_URL": "http://ours.example"}
    assert load(tmp_path, environ=both).agentkit_api_url == "http://ours.example"


def test_the_spaces_around_a_value_in_a_variable_are_none_of_it(tmp_path: Path) -> None:
    environ = {
        "OPSCORE_PORT": " 81 ",
        "OPSCORE_HOST": " 127.0.0.2 ",
        "OPSCORE_WEBHOOK_UNSIGNED": " true ",
        "OPSCORE_LOG_LEVEL": " debug ",
        "OPSCORE_PUSH_ALLOW": " a.example , b.example ",
        "OPSCORE_AGENTS_UNKNOWN": " ",
    }
    found = load(tmp_path, environ=environ)
    assert (found.port, found.host, found.webhook_unsigned) == (81, "127.0.0.2", True)
    assert (found.log_level, found.push_allow) == (LogLevel.DEBUG, ("a.example", "b.example"))


def test_an_empty_variable_counts_as_not_set(tmp_path: Path) -> None:
    assert load(tmp_path, environ={"OPSCORE_API_KEY": "", "OPSCORE_PORT": ""}) == Settings()


@pytest.mark.parametrize(
    ("name", "text"),
    [
        ("port", "http"),
        ("port", "65536"),
        ("port", "-1"),
        ("port", "80.5"),
        ("host", "no such host"),
        ("host", "*"),
        ("api_key", "with space"),
        ("data", "store\r"),
        ("data", "store\n"),
        ("data", " store"),
        ("data", "store "),
        ("webhook_unsigned", "maybe"),
        ("agentkit_api_url", "kit.example"),
        ("agentkit_api_url", "ftp://kit.example"),
        ("agentkit_api_url", "http://kit.example:port"),
        ("push_allow", "10.0.0.1/8"),
        ("push_allow", "10.0.0"),
        ("push_allow", "a.example, b/c"),
        ("dispatch_limits", "gpu=4"),
        ("dispatch_limits", "capability:gpu"),
        ("dispatch_limits", "capability:gpu=0"),
        ("dispatch_limits", "capability:gpu=-1"),
        ("dispatch_limits", "capability:gpu=4,capability:gpu=5"),
        ("dispatch_limits", "workflow:mail=5/min,workflow:mail=1/s"),
        ("dispatch_limits", "workflow:mail=5/day"),
        ("dispatch_limits", "workflow:mail=5/0s"),
        ("push_timeout_s", "0"),
        ("lease_s", "nan"),
        ("lease_s", "inf"),
        ("lease_s", "15m"),
        ("connections_max", "0"),
        ("connections_max", "10k"),
        ("body_bytes_max", "1MB"),
        ("body_bytes_max", "1"),
        ("header_bytes_max", "many"),
        ("agents_unknown", "Ignore"),
        ("log_level", "loud"),
    ],
)
def test_a_bad_value_is_answered_with_one_sentence_naming_it_its_source_and_what_was_expected(
    tmp_path: Path, name: str, text: str
) -> None:
    variable = f"OPSCORE_{name.upper()}"
    sentence = refusal(tmp_path, environ={variable: text})
    assert sentence.startswith(f"{name} = ")
    assert f"(variable {variable})" in sentence
    assert "expected " in sentence
    assert sentence.count("\n") == 0
    assert sentence.endswith(".")


def test_a_sentence_names_file_and_option_as_sources_too(tmp_path: Path) -> None:
    sentence = "port = 'x' (option --port) is not valid: expected a whole number from 0 to 65535."
    assert refusal(tmp_path, options={"port": "x"}) == sentence
    file = write(tmp_path, "[opscore]\nlog_level = 7\n")
    assert f"log_level = 7 (file {file})" in refusal(tmp_path)


@pytest.mark.parametrize(
    "line",
    [
        "port = 8080.0",
        "port = true",
        'webhook_unsigned = "maybe"',
        "lease_s = true",
        "host = 1",
        "data = 5",
        'data = " "',
        "push_allow = [1]",
        "agentkit_api_url = 1",
        "api_key = 12345",
        "api_key = ['hush']",
        "map_bytes = 1.5",
    ],
)
def test_a_value_of_another_type_in_a_file_is_refused_rather_than_bent(tmp_path: Path, line: str) -> None:
    write(tmp_path, f"[opscore]\n{line}\n")
    assert "is not valid: expected " in refusal(tmp_path)


def test_a_file_may_write_sizes_with_units_and_lists_as_lists(tmp_path: Path) -> None:
    write(
        tmp_path,
        '[opscore]\nmap_bytes = "2 GiB"\nbody_bytes_max = 4096\npush_allow = ["a.example"]\nlease_s = 5\n',
    )
    settings = load(tmp_path)
    assert (settings.map_bytes, settings.body_bytes_max) == (2**31, 4096)
    assert (settings.push_allow, settings.lease_s) == (("a.example",), 5.0)


def test_a_variable_that_is_no_setting_is_named_with_the_nearest_one() -> None:
    known = {name: "1" for each in attrs.fields(Settings) for name in config.variables(each.name)}
    known |= {"OPSCORE_CONFIG": "a.toml", "OPSCORE_URL": "http://127.0.0.1:8080"}
    assert config.stray_variables({**known, "OPSCOREX": "1", "HOME": "/", "": "x"}) is None
    assert config.stray_variables({"OPSCORE_LEASE": "", **known}) is None, "an empty one counts as not set"
    strange = {"OPSCORE_WORKERS": "4", "OPSCORE_APIKEY": "secret", "OPSCORE_lease_s": "5", "OPSCORE_DRIAN_S": "1"}
    assert config.stray_variables({**known, **strange}) == (
        "variables that are no setting are ignored: OPSCORE_APIKEY (did you mean OPSCORE_API_KEY?), "
        "OPSCORE_DRIAN_S (did you mean OPSCORE_DRAIN_S?), OPSCORE_WORKERS, "
        "OPSCORE_lease_s (did you mean OPSCORE_LEASE_S?)"
    )


def test_an_unknown_key_in_a_file_is_refused_with_the_nearest_name(tmp_path: Path) -> None:
    write(tmp_path, "[opscore]\nlease-seconds = 5\n")
    assert refusal(tmp_path).endswith("sets 'lease-seconds', which is no setting; did you mean lease_s?")
    write(tmp_path, "[opscore]\nzzz = 5\n")
    assert "'zzz', which is no setting; the settings are data, host, port" in refusal(tmp_path)


@pytest.mark.parametrize(
    ("text", "words"),
    [
        ("\ufeff[opscore]\nport = 1\n", "begins with a byte order mark: save it as UTF-8 without one"),
        ("port = 8080\n", "has 'port' where only a table [opscore] is expected"),
        ("opscore = 1\n", "has 'opscore' where only a table [opscore] is expected"),
        ("[opscore\n", "is not valid TOML"),
        ("[opscore]\nhost = '\x01'\n", "is not valid TOML"),
        pytest.param("a = " + "[" * 20_000, "is not valid TOML: it nests too deeply", id="nests too deeply"),
    ],
)
def test_a_file_that_is_not_what_it_should_be_is_refused(tmp_path: Path, text: str, words: str) -> None:
    write(tmp_path, text)
    assert words in refusal(tmp_path)


def test_a_named_file_has_to_exist_and_be_readable_text(tmp_path: Path) -> None:
    with pytest.raises(ConfigError, match=r"absent\.toml cannot be read: No such file or directory\."):
        load(tmp_path, config_file=tmp_path / "absent.toml")
    with pytest.raises(ConfigError, match=r"cannot be read: Is a directory\."):
        load(tmp_path, config_file=tmp_path)
    (tmp_path / "bytes.toml").write_bytes(b"\xff\xfe")
    with pytest.raises(ConfigError, match="is not valid TOML"):
        load(tmp_path, config_file=tmp_path / "bytes.toml")


def test_a_secret_shows_in_no_repr_and_no_refusal(tmp_path: Path) -> None:
    settings = load(tmp_path, environ={"OPSCORE_API_KEY": "hush-hush", "OPSCORE_WEBHOOK_SECRET": "mum's-the-word"})
    assert (settings.api_key, settings.webhook_secret) == ("hush-hush", "mum's-the-word")
    assert "hush" not in repr(settings)
    assert "mum" not in repr(settings)
    assert "hush" not in refusal(tmp_path, environ={"OPSCORE_API_KEY": "hush hush"})
    write(tmp_path, "[opscore]\napi_key = ['hush']\n")
    assert "hush" not in refusal(tmp_path)


@given(size=st.integers(min_value=0, max_value=2**44))
def test_a_size_reads_back_as_it_was_written(size: int) -> None:
    assert setting.size_bytes(setting.in_units(size)) == size


@given(value=st.floats() | st.integers())
def test_seconds_are_always_finite_and_within_bounds(value: float) -> None:
    try:
        taken = Settings(push_timeout_s=value).push_timeout_s
    except ValueError:
        assert not (math.isfinite(value) and 0.1 <= value <= 3_600)
    else:
        assert 0.1 <= taken <= 3_600


@click.command()
@config.options
def _serve(settings: Settings) -> None:
    click.echo(f"{settings.port} {settings.host} {settings.webhook_unsigned} {settings.lease_s}")


@click.command()
@config.options_for("data")
@click.argument("name")
def _list_keys(settings: Settings, name: str) -> None:
    click.echo(f"{settings.data} {settings.port} {name}")


def test_a_command_with_options_receives_the_settings(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    file = write(tmp_path, "[opscore]\nlease_s = 5\n", name="mine.toml")
    arguments = ["--port", "99", "--webhook-unsigned", "--config", str(file)]
    result = CliRunner().invoke(_serve, arguments, env={"OPSCORE_HOST": "::1", "OPSCORE_PORT": "98"})
    assert result.output == "99 ::1 True 5.0\n"


def test_a_command_can_take_the_options_of_some_settings_only(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(_list_keys, ["--data", "there", "mine"], env={"OPSCORE_PORT": "98"})
    assert result.output == f"{tmp_path / 'there'} 98 mine\n"
    assert CliRunner().invoke(_list_keys, ["--port", "99", "mine"]).exit_code == 2


def test_the_command_line_ends_with_code_2_and_the_sentence_alone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    result = CliRunner().invoke(_serve, ["--port", "x"])
    assert result.exit_code == 2
    assert result.stderr == "Error: port = 'x' (option --port) is not valid: expected a whole number from 0 to 65535.\n"


def test_help_shows_each_setting_with_default_and_variable_but_no_secret(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    environ = {"OPSCORE_API_KEY": "hush-hush", "OPSCORE_WEBHOOK_SECRET": "hush-hush"}
    result = CliRunner(env=environ).invoke(_serve, ["--help"], terminal_width=400)
    for field in attrs.fields(Settings):
        secret = field.name in ("api_key", "webhook_secret")
        assert (f"--{field.name.replace('_', '-')}" in result.output) is not secret
        assert (f"OPSCORE_{field.name.upper()}" in result.output) is not secret
    assert "[default: 8GiB; OPSCORE_MAP_BYTES]" in result.output
    assert "hush" not in result.output


@pytest.mark.parametrize("host", ["127.0.0.1", "127.8.8.8", "::1", "localhost"])
def test_loopback_needs_no_key(tmp_path: Path, host: str) -> None:
    check_exposure(Settings(host=host), KeyRing(tmp_path))


@pytest.mark.parametrize("host", ["0.0.0.0", "::", "10.1.2.3", "ops.example.com"])  # noqa: S104 - what is refused
def test_listening_beyond_loopback_without_any_key_is_refused(tmp_path: Path, host: str) -> None:
    with pytest.raises(ConfigError, match="set OPSCORE_API_KEY or create one"):
        check_exposure(Settings(host=host), KeyRing(tmp_path))
    check_exposure(Settings(host=host), KeyRing(tmp_path, configured="k3y"))
    KeyRing(tmp_path).create("operator", "operator")
    check_exposure(Settings(host=host), KeyRing(tmp_path))
