"""The display of the demo: a live screen on a terminal, a transcript anywhere else."""

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

import attrs
from rich import box
from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.markup import escape
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from opscore.gateway.demo.progress import COMPLETED, AgentProgress, RunProgress, TaskProgress, count_tasks

LINES_MAX = 5
"""Lines of the log on the live screen."""
TRANSCRIPT_EVERY_S = 1.0
BAR_CELLS = 24
MARKS = {
    "pending": ("·", "bright_black"),
    "ready": ("○", "cyan"),
    "dispatched": ("◔", "yellow"),
    "running": ("◐", "bold yellow"),
    "pending_retry": ("↻", "magenta"),
    COMPLETED: ("●", "green"),
    "failed": ("✗", "bold red"),
    "skipped": ("–", "bright_black"),
    "cancelled": ("✗", "red"),
}
AGENT_STYLES = {"starting": "bright_black", "idle": "green", "working": "bold yellow", "retrying": "bold red"}
SERVER_STYLES = {
    "starting": "yellow",
    "up": "bold green",
    "killed": "bold white on red",
    "recovering": "yellow",
}


@attrs.frozen(kw_only=True)
class LogLine:
    """Something that happened."""

    at_s: float
    markup: str
    """In rich's markup."""
    passing: bool = False
    """Whether it is shown on the live screen only, and not in a transcript."""


@attrs.frozen(kw_only=True)
class Board:
    """Everything that is shown at one moment."""

    elapsed_s: float = 0.0
    server: str = "starting"
    pid: int = 0
    agents: tuple[AgentProgress, ...] = ()
    runs: tuple[RunProgress, ...] = ()
    lines: tuple[LogLine, ...] = ()
    banner: str = ""
    """What is highlighted for a while, such as the kill, in rich's markup."""


class Display(Protocol):
    """Something that can show a board."""

    def show(self, board: Board) -> None:
        """Show the board as it is now."""


class Screen:
    """A live screen."""

    def __init__(self, live: Live) -> None:
        self._live = live

    def show(self, board: Board) -> None:
        """Draw the board over the one before."""
        self._live.update(draw(board), refresh=True)


class Transcript:
    """Prints lines: each line of the log once, and the whole state every second.

    Args:
        write: Writes a line.
    """

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._shown = 0
        self._next_s = 0.0

    def show(self, board: Board) -> None:
        """Write what is new."""
        for line in board.lines[self._shown :]:
            if not line.passing:
                self._write(f"{line.at_s:5.1f} s  {Text.from_markup(line.markup).plain}")
        self._shown = len(board.lines)
        if board.runs and board.server == "up" and board.elapsed_s >= self._next_s:
            self._next_s = board.elapsed_s + TRANSCRIPT_EVERY_S
            self._write(f"{board.elapsed_s:5.1f} s  {state_line(board)}")


@contextmanager
def open_display(console: Console, *, plain: bool) -> Iterator[Display]:
    """Open the live screen, or with `plain` the transcript."""
    if plain:
        yield Transcript(lambda line: console.print(line, markup=False, highlight=False, soft_wrap=True))
        return
    with Live(console=console, auto_refresh=False, transient=False) as live:
        yield Screen(live)


def state_line(board: Board) -> str:
    """The whole state in one line: a bar, the count, and what each agent does."""
    counts = count_tasks(board.runs)
    total = counts.total()
    filled = BAR_CELLS * counts[COMPLETED] // total if total else 0
    bar = "█" * filled + "░" * (BAR_CELLS - filled)
    doing = " · ".join(f"{agent.agent_id}: {agent.task or agent.state}" for agent in board.agents)
    return f"{bar} {counts[COMPLETED]:>3}/{total}  {doing}"


def draw(board: Board) -> RenderableType:
    """Draw a board for the live screen; with five runs it fits into 24 lines."""
    log = Text("\n").join(
        Text.from_markup(f"[bright_black]{line.at_s:5.1f} s[/]  {line.markup}") for line in board.lines[-LINES_MAX:]
    )
    return Group(
        _headline(board),
        _agents(board.agents),
        "",
        _runs(board.runs),
        Panel(log, box=box.ROUNDED, border_style="bright_black", height=LINES_MAX + 2),
    )


def tell_name(name: str) -> str:
    """Format a name for a line of the log, whatever characters are in it."""
    return f"[bold]{escape(name)}[/]"


def _headline(board: Board) -> Panel:
    if board.banner:
        text = Text.from_markup(board.banner, justify="center")
        return Panel(text, box=box.HEAVY, border_style=SERVER_STYLES[board.server].removesuffix(" on red"))
    state = f"[{SERVER_STYLES[board.server]}] {board.server} [/]"
    words = f"[bold]opscore demo[/]   server {board.pid or ''} {state}   {board.elapsed_s:.1f} s"
    return Panel(Text.from_markup(words), box=box.ROUNDED, border_style="bright_black")


def _agents(agents: tuple[AgentProgress, ...]) -> Table:
    table = _table(("agent", 2), ("work comes by", 3), ("state", 2), ("task", 4))
    for agent in agents:
        state = Text(agent.state, style=AGENT_STYLES.get(agent.state, ""))
        table.add_row(Text(agent.agent_id, style="bold"), agent.way, state, Text(agent.task), str(agent.done))
    return table


def _runs(runs: tuple[RunProgress, ...]) -> Table:
    table = _table(("run", 4), ("tasks", 3), ("", 3))
    for run in runs:
        total = len(run.tasks)
        bar = ProgressBar(
            total=max(total, 1), completed=run.completed, complete_style="green", finished_style="bold green"
        )
        table.add_row(Text(run.title), task_marks(run.tasks), bar, f"{run.completed}/{total}")
    return table


def _table(*columns: tuple[str, int]) -> Table:
    table = Table(box=None, expand=True, padding=(0, 1), header_style="bright_black")
    for title, ratio in columns:
        table.add_column(title, ratio=ratio, no_wrap=True)
    table.add_column("done", justify="right", width=5)
    return table


def task_marks(tasks: tuple[TaskProgress, ...]) -> Text:
    """One mark for each task, coloured by its state."""
    return Text.assemble(*(MARKS.get(task.status, ("?", "red")) for task in tasks))


def summary(rows: list[tuple[str, str]]) -> Table:
    """The closing table."""
    table = Table(box=box.ROUNDED, show_header=False, border_style="green")
    table.add_column(style="bold")
    table.add_column()
    for name, value in rows:
        table.add_row(name, value)
    return table
