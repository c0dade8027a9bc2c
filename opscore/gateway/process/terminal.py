"""The terminal: its width, whether it shows colours, and text that can do it no harm."""

import contextlib
import os
import shutil
import sys
from typing import Any, Final, TextIO

import attrs
import click
from rich.cells import cell_len

WIDTH: Final = 80
"""The width if the output is no terminal, unless COLUMNS says otherwise."""
WIDTH_MIN: Final = 20


@attrs.frozen(kw_only=True)
class Terminal:
    """The destination of standard output."""

    width: int = WIDTH
    """In cells."""
    coloured: bool = False
    draws: bool = True
    """Whether it has characters for boxes and lines."""

    @classmethod
    def of_output(cls) -> "Terminal":
        """Inspect standard output, COLUMNS, TERM and NO_COLOR (https://no-color.org)."""
        show_all_signs()
        encoding = getattr(sys.stdout, "encoding", None) or "utf-8"
        width = shutil.get_terminal_size((WIDTH, 1)).columns
        return cls(
            width=max(width, WIDTH_MIN),
            coloured=shows_colours(sys.stdout),
            draws="┌▼▽┄".encode(encoding, errors="ignore").decode(encoding) == "┌▼▽┄",
        )

    def styled(self, text: str, **style: Any) -> str:
        """Give text a colour or weight, with the arguments of `click.style`, if colours are shown."""
        return click.style(text, **style) if self.coloured else text


def shows_colours(stream: TextIO) -> bool:
    """Whether a stream is a terminal with colours, and the user wants them."""
    return stream.isatty() and not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"


def show_all_signs() -> None:
    """Replace characters that the terminal lacks, instead of failing."""
    with contextlib.suppress(AttributeError):
        sys.stdout.reconfigure(errors="replace")  # type: ignore[union-attr]


def harmless(text: str) -> str:
    """Replace characters that a terminal would obey: control characters, and those that change the text direction."""
    return "".join(each if each.isprintable() else "�" for each in text)


def cut(text: str, room: int) -> str:
    """The beginning of a text that fits into so many cells, with an ellipsis if it was cut."""
    if cell_len(text) <= room:
        return text
    kept, width = [], 0
    for each in text:
        width += cell_len(each)
        if width > room - 1:
            break
        kept.append(each)
    return "".join(kept) + "…" if room > 0 else ""
