"""Logs: one stream to standard error, readable on a terminal, else JSON lines, with secrets redacted.

The code below the gateway logs through the standard library alone. Its records, uvicorn's and those of structlog
loggers go through the same formatter, and have the fields that `fields` binds around a request.
"""

import logging
import re
import sys
from collections.abc import Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, TextIO

import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

from opscore.gateway.process.log_writer import LogWriter
from opscore.gateway.process.terminal import shows_colours
from opscore.gateway.settings.config import LogFormat, Settings

REDACTED = "[redacted]"
SECRET_CHARACTERS_MIN = 4

# Fields whose value is always a secret; names are compared without case, hyphens and underscores.
_SECRET_FIELDS = frozenset({
    "apikey", "authorization", "cookie", "password", "secret", "setcookie", "token", "webhooksecret",
    "xagentkitsignature", "xapikey",
})  # fmt: skip
# Anything anywhere that looks like an opscore key, or follows the word Bearer.
_SECRET_SHAPES = re.compile(r"(?<=opscore_)[0-9a-f]{8}_[\w-]{20,}|(?<=bearer )[^\s\"']+", re.IGNORECASE)
_QUIETED = ("httpcore", "httpx")


def configure(settings: Settings, *, stream: TextIO | None = None) -> None:
    """Send the log records of this process to `stream`, with the format and level of the settings.

    It replaces earlier handlers, so calling it twice does not log twice. A stream with a descriptor, such as standard
    error, is written by a thread of its own, so that logging never blocks.

    Args:
        settings: Level, format, and the secrets that must not be written.
        stream: The stream; standard error by default.
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
        # Their line for each outgoing request adds nothing to the gateway's own records.
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
    """Wait until everything logged is written, for a second at most; `False` if nobody seems to read it."""
    writers = [handler for handler in logging.getLogger().handlers if isinstance(handler, LogWriter)]
    return all(writer.written() for writer in writers)


def _handler(stream: TextIO) -> logging.Handler:
    try:
        descriptor = stream.fileno()
    except OSError:
        # A stream in memory never blocks.
        return logging.StreamHandler(stream)
    return LogWriter(descriptor, encoding=stream.encoding or "utf-8")


def fields(**values: str) -> AbstractContextManager[Any]:
    """Bind fields such as `request_id`, `agent_id` and `session_id` to every record that is logged in the block.

    They follow the context, into tasks that are started there and across the bridge from asyncio to trio.
    """
    return structlog.contextvars.bound_contextvars(**values)


class Redaction:
    """A structlog processor that redacts secrets in a finished record, tracebacks included.

    It works on values, not on the rendered line, where a replacement could cut through a JSON escape.
    """

    def __init__(self, secrets: Sequence[str]) -> None:
        # A shorter one is guessed faster than read in a log, and redacting it would make the log unreadable.
        self._secrets = tuple(secret for secret in secrets if len(secret) >= SECRET_CHARACTERS_MIN)

    def __call__(self, _logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        """Return the record without its secrets."""
        return {name: self.value(name, value) for name, value in event.items()}

    def value(self, name: str, value: Any) -> Any:
        """Redact the whole value if its field is named like a secret, else the secrets in it."""
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
        """Redact the known secrets, and whatever looks like one."""
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
        # The plain traceback, because the decorated one prints local variables, which may hold secrets.
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
