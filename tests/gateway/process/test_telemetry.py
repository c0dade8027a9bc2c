import io
import json
import logging
import subprocess
import sys
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import structlog
import trio
from hypothesis import given
from hypothesis import strategies as st
from typed_settings import SecretStr

from opscore.gateway.process import telemetry
from opscore.gateway.settings.config import LogFormat, LogLevel, Settings


class Terminal(io.StringIO):
    def isatty(self) -> bool:
        return True


@pytest.fixture(autouse=True)
def _logging_as_before() -> Iterator[None]:
    root = logging.getLogger()
    handlers, level = root.handlers[:], root.level
    yield
    root.handlers[:] = handlers
    root.setLevel(level)
    logging.captureWarnings(capture=False)
    structlog.reset_defaults()


@pytest.fixture
def out() -> io.StringIO:
    return io.StringIO()


def records(out: io.StringIO) -> list[dict[str, Any]]:
    return [json.loads(line) for line in out.getvalue().splitlines()]


def test_a_standard_record_becomes_one_json_line(out: io.StringIO) -> None:
    telemetry.configure(Settings(), stream=out)
    logging.getLogger("opscore.actors").warning("%s was restarted", "/journal", extra={"incarnation": 2})
    (record,) = records(out)
    assert record.pop("timestamp").endswith("Z")
    assert record == {
        "event": "/journal was restarted",
        "incarnation": 2,
        "level": "warning",
        "logger": "opscore.actors",
    }


def test_structlog_uvicorn_and_warnings_take_the_same_way(out: io.StringIO) -> None:
    telemetry.configure(Settings(), stream=out)
    structlog.get_logger("opscore.gateway.app").info("request", status=202)
    logging.getLogger("uvicorn.error").info("started")
    with warnings.catch_warnings():
        warnings.simplefilter("always")
        telemetry.configure(Settings(), stream=out)
        warnings.warn("old", DeprecationWarning, stacklevel=1)
    listed = [(record["logger"], record["level"]) for record in records(out)]
    assert listed == [("opscore.gateway.app", "info"), ("uvicorn.error", "info"), ("py.warnings", "warning")]
    assert records(out)[0]["status"] == 202


def test_fields_are_bound_to_every_record_within_and_gone_after(out: io.StringIO) -> None:
    telemetry.configure(Settings(), stream=out)
    log = logging.getLogger("opscore.runtime")
    with telemetry.fields(request_id="r1", agent_id="a7"):
        log.info("one")
        with telemetry.fields(session_id="s1"):
            structlog.get_logger("x").info("two")
    log.info("three")
    one, two, three = records(out)
    assert (one["request_id"], one["agent_id"]) == ("r1", "a7")
    assert (two["request_id"], two["session_id"]) == ("r1", "s1")
    assert not {"request_id", "agent_id", "session_id"} & set(three)


async def test_fields_follow_into_tasks_and_do_not_leak_between_them(out: io.StringIO) -> None:
    telemetry.configure(Settings(), stream=out)

    async def request(number: int) -> None:
        with telemetry.fields(request_id=f"r{number}"):
            async with trio.open_nursery() as nursery:
                nursery.start_soon(trio.lowlevel.checkpoint)
                nursery.start_soon(work, number)

    async def work(number: int) -> None:
        await trio.lowlevel.checkpoint()
        logging.getLogger("opscore.x").info("working", extra={"number": number})

    async with trio.open_nursery() as nursery:
        for number in range(5):
            nursery.start_soon(request, number)
    assert sorted((r["number"], r["request_id"]) for r in records(out)) == [(n, f"r{n}") for n in range(5)]


def test_a_terminal_gets_readable_lines_and_a_pipe_json(out: io.StringIO, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("NO_COLOR", raising=False)
    monkeypatch.setenv("TERM", "xterm")
    terminal = Terminal()
    telemetry.configure(Settings(), stream=terminal)
    logging.getLogger("opscore").info("hello", extra={"agent_id": "a7"})
    assert "hello" in terminal.getvalue()
    assert "\x1b[" in terminal.getvalue()
    assert not terminal.getvalue().startswith("{")
    telemetry.configure(Settings(log_format=LogFormat.JSON), stream=(json_terminal := Terminal()))
    logging.getLogger("opscore").info("hello")
    assert records(json_terminal)[0]["event"] == "hello"
    telemetry.configure(Settings(log_format=LogFormat.CONSOLE), stream=out)
    logging.getLogger("opscore").info("hello")
    assert "hello" in out.getvalue()
    assert "\x1b[" not in out.getvalue()
    assert not out.getvalue().startswith("{")


@pytest.mark.parametrize(("name", "value"), [("NO_COLOR", "1"), ("TERM", "dumb")])
def test_a_terminal_that_is_to_have_no_colours_gets_none(
    name: str, value: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    telemetry.configure(Settings(), stream=(terminal := Terminal()))
    logging.getLogger("opscore").info("hello", extra={"agent_id": "a7"})
    assert "hello" in terminal.getvalue()
    assert "\x1b" not in terminal.getvalue()


def test_records_below_the_level_are_not_written(out: io.StringIO) -> None:
    telemetry.configure(Settings(log_level=LogLevel.WARNING), stream=out)
    logging.getLogger("opscore").info("quiet")
    structlog.get_logger("opscore").info("quiet")
    logging.getLogger("opscore").warning("loud")
    structlog.get_logger("opscore").warning("loud")
    assert [record["event"] for record in records(out)] == ["loud", "loud"]


def test_requests_that_we_make_ourselves_are_not_logged_one_by_one(out: io.StringIO) -> None:
    telemetry.configure(Settings(log_level=LogLevel.DEBUG), stream=out)
    logging.getLogger("httpx").info("HTTP Request: POST http://agent.example/run")
    assert out.getvalue() == ""


def test_configuring_twice_does_not_log_twice(out: io.StringIO) -> None:
    telemetry.configure(Settings(), stream=out)
    telemetry.configure(Settings(), stream=out)
    logging.getLogger("opscore").info("once")
    assert len(records(out)) == 1


@pytest.mark.parametrize("log_format", [LogFormat.JSON, LogFormat.CONSOLE])
def test_secrets_are_blacked_out_wherever_they_stand(out: io.StringIO, log_format: LogFormat) -> None:
    settings = Settings(
        api_key=SecretStr('hush-"\\-key'), webhook_secret=SecretStr("hush-webhook"), log_format=log_format
    )
    telemetry.configure(settings, stream=out)
    log = logging.getLogger("opscore")
    log.info("the key is %s", settings.api_key)
    log.info("headers", extra={"headers": {"Authorization": "Bearer hush-unknown", "accept": "*/*"}})
    log.info("nested", extra={"body": [{"webhook-secret": "hush-other"}], "API_KEY": "hush-field"})
    log.info("sent Authorization: Bearer hush-in-text to it")
    structlog.get_logger("x").info("made opscore_0123abcd_hushhushhushhushhushhush-hush_hushhushhus")
    try:
        raise RuntimeError(f"hush-webhook in an error, and {settings.api_key}")  # noqa: TRY301 - its traceback is tested
    except RuntimeError:
        log.exception("failed")
    assert "hush" not in out.getvalue()
    assert out.getvalue().count(telemetry.REDACTED) == 9
    assert "*/*" in out.getvalue()
    assert "RuntimeError" in out.getvalue()


def test_a_traceback_shows_no_local_variables(out: io.StringIO) -> None:
    telemetry.configure(Settings(log_format=LogFormat.CONSOLE), stream=out)
    local_value = "hush" + "-local"
    try:
        raise ValueError(len(local_value))  # noqa: TRY301 - its traceback is tested
    except ValueError:
        logging.getLogger("opscore").exception("failed")
    assert "ValueError: 10" in out.getvalue()
    assert local_value not in out.getvalue()


@given(
    secret=st.text(st.sampled_from('abc"\\-_/n'), min_size=4, max_size=40),
    before=st.text(st.sampled_from('xyz é\n\\"'), max_size=20),
)
def test_no_secret_survives_in_a_record_which_stays_well_formed(secret: str, before: str) -> None:
    out = io.StringIO()
    telemetry.configure(Settings(api_key=SecretStr(secret)), stream=out)
    logging.getLogger("opscore").info("%s%s", before, secret, extra={"field": {secret: [f"{before}{secret}"]}})
    (record,) = records(out)
    assert telemetry.REDACTED in record["event"]
    assert secret not in record["event"].replace(telemetry.REDACTED, "")
    assert record["field"] == {telemetry.REDACTED: [record["event"]]}


def test_values_that_json_does_not_know_are_written_as_text_and_numbers_stay_numbers(
    out: io.StringIO,
) -> None:
    telemetry.configure(Settings(), stream=out)
    extra = {
        "path": Path("store"),
        "seconds": 1.5,
        "open": True,
        "nothing": None,
        "names": ("a", "b"),
        "token": 7,
    }
    logging.getLogger("opscore").info("mixed", extra=extra)
    written = {name: records(out)[0][name] for name in extra}
    assert written == {**extra, "path": "store", "names": ["a", "b"]}


def test_uvicorns_message_is_not_repeated_in_a_field(out: io.StringIO) -> None:
    telemetry.configure(Settings(), stream=out)
    logging.getLogger("uvicorn.error").info("Started [%d]", 7, extra={"color_message": "Started [\x1b[36m%d\x1b[0m]"})
    assert records(out)[0]["event"] == "Started [7]"
    assert "color_message" not in records(out)[0]


def test_importing_telemetry_changes_nothing_and_configuring_writes_to_standard_error() -> None:
    program = """
import logging
from opscore.gateway.process import telemetry
from opscore.gateway.settings.config import Settings
assert logging.getLogger().handlers == []
telemetry.configure(Settings())
logging.getLogger("opscore").info("hello")
"""
    result = subprocess.run([sys.executable, "-c", program], check=True, capture_output=True, text=True)
    assert result.stdout == ""
    assert json.loads(result.stderr)["event"] == "hello"


def test_a_secret_of_a_few_characters_does_not_black_out_half_of_every_sentence() -> None:
    assert telemetry.Redaction(["k"]).text("took up 3 sessions") == "took up 3 sessions"
    assert telemetry.Redaction(["sesame-42"]).text("key sesame-42") == f"key {telemetry.REDACTED}"
