"""Logs: one stream to standard error, readable on a terminal, JSON lines otherwise, with secrets blacked out.

The code below the gateway logs through the standard library alone. Its records, uvicorn's and those of
structlog loggers take the same way out, and carry the fields that `fields` binds around a request.
"""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from opscore.gateway.config import LogFormat, Settings
from opscore.gateway.log_writer import LogWriter
from opscore.gateway.terminal import shows_colours

REDACTED = "[redacted]"
SECRET_CHARACTERS_MIN = 4

# Field names whose value is a secret whatever it looks like, compared without case, hyphens and underscores.
_SECRET_FIELDS = frozenset({
    "apikey", "authorization", "cookie", "password", "secret", "setcookie", "token", "webhooksecret",
    "xagentkitsignature", "xapikey",
})  # fmt: skip
# Anything that is shaped like one of our keys, or follows the word Bearer, wherever it stands.
_SECRET_SHAPES = re.compile(r"(?<=opscore_)[0-9a-f]{8}_[\w-]{20,}|(?<=bearer )[^\s\"']+", re.IGNORECASE)
_QUIETED = ("httpcore", "httpx")


def configure(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send every log record of this process to `stream`, in the form and from the level that are set.

    It replaces what was set up before, so calling it twice does not log twice. A stream with a descriptor, such as
    standard error, is written to by a thread: nobody who logs waits for it.

    Args:
        settings: Level, format, and the secrets that must not be written.
        stream: Where to; standard error by default.
    """
    stream = stream if stream is not None else sys.stderr
    on_console = settings.log_format is LogFormat.CONSOLE or (settings.log_format is LogFormat.AUTO and stream.isatty())
    secrets = [secret for secret in (settings.api_key, settings.webhook_secret) if secret]
    handler = _handler(stream)
    handler.setFormatter(_formatter(secrets, on_console=on_console, colors=shows_colours(stream)))
    root = logging.getLogger()
    for old in root.handlers[:]:
        root.removeHandler(old)
    root.addHandler(handler)
    root.setLevel(settings.log_level.value.upper())
    for name in _QUIETED:
        # One line for each request that we make ourselves says nothing that our own records do not.
        logging.getLogger(name).setLevel(logging.WARNING)
    logging.captureWarnings(capture=True)
    structlog.configure(
        processors=[
            structlog.stdlib.filter_by_level,
            *_shared(),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.stdlib.BoundLogger,
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=False,
    )


def flush() -> bool:
    """Wait until what was logged is written, for a second at most; `False` where nobody seems to read it."""
    writers = [handler for handler in logging.getLogger().handlers if isinstance(handler, LogWriter)]
    return all(writer.written() for writer in writers)


def _handler(stream: TextIO) -> logging.Handler:
    try:
        descriptor = stream.fileno()
    except OSError:
        # Memory takes everything at once.
        return logging.StreamHandler(stream)
    return LogWriter(descriptor, encoding=stream.encoding or "utf-8")


def fields(**values: str) -> AbstractContextManager[Any]:
    """Bind fields such as `request_id`, `agent_id` and `session_id` to every record that is logged within.

    They follow the context: into tasks started within, and across the bridge from asyncio to trio.
    """
    return structlog.contextvars.bound_contextvars(**values)


class Redaction:
    """A structlog processor that blacks out secrets in a finished record, tracebacks included.

    It works on values, not on the rendered line: a replacement there could cut through an escape of JSON.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        # One so short is guessed faster than read in a log, and would black out half of every sentence.
        self._secrets = tuple(secret for secret in secrets if len(secret) >= SECRET_CHARACTERS_MIN)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Give back the record without its secrets."""
        return {name: self.value(name, value) for name, value in event.items()}

    def value(self, name: str, value: Any) -> Any:
        """Black out a value whole if its field is named like a secret, else the secrets within it."""
        if value is None or isinstance(value, bool | int | float):
            return value
        if name.lower().replace("_", "").replace("-", "") in _SECRET_FIELDS:
            return REDACTED
        if isinstance(value, Mapping):
            return {self.text(str(key)): self.value(str(key), inner) for key, inner in value.items()}
        if isinstance(value, list | tuple | set | frozenset):
            return [self.value("", inner) for inner in value]
        return self.text(str(value))

    def text(self, text: str) -> str:
        """Black out the known secrets, and whatever is shaped like one."""
        for secret in self._secrets:
            text = text.replace(secret, REDACTED)
        return _SECRET_SHAPES.sub(REDACTED, text)


def _shared() -> list[Processor]:
    return [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.stdlib.PositionalArgumentsFormatter(),
        structlog.stdlib.ExtraAdder(),
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
    ]


def _formatter(secrets: Sequence[str], *, on_console: bool, colors: bool) -> logging.Formatter:
    renderer: Processor
    if on_console:
        # The plain traceback: the decorated one prints local variables, and with them whatever they hold.
        plain = structlog.dev.plain_traceback
        renderer = structlog.dev.ConsoleRenderer(colors=colors, exception_formatter=plain)
    else:
        renderer = structlog.processors.JSONRenderer()
    return structlog.stdlib.ProcessorFormatter(
        foreign_pre_chain=_shared(),
        processors=[
            structlog.stdlib.ProcessorFormatter.remove_processors_meta,
            _drop_duplicates,
            structlog.processors.format_exc_info,
            Redaction(secrets),
            renderer,
        ],
    )


def _drop_duplicates(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    # uvicorn repeats its message, with colours, in a field.
    event.pop("color_message", None)
    return event
