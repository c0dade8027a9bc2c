import io

import attrs
import pytest
from rich.console import Console

from opscore.gateway.demo.progress import AgentProgress, RunProgress, TaskProgress
from opscore.gateway.demo.screen import (
    MARKS,
    SERVER_STYLES,
    Board,
    LogLine,
    Transcript,
    draw,
    open_display,
    state_line,
    tell_name,
)

TASKS = tuple(TaskProgress(task_id=status, key=status, status=status) for status in MARKS)
BOARD = Board(
    elapsed_s=3.21,
    server="up",
    pid=4242,
    agents=(
        AgentProgress(
            agent_id="scout",
            way="push",
            capabilities=("look",),
            state="working",
            task="Look [around]",
            done=7,
        ),
        AgentProgress(agent_id="scribe", way="long-poll", capabilities=("write",), state="idle"),
    ),
    runs=(RunProgress(session_id="s-1", title="A run [of sorts]", status="running", tasks=TASKS),),
    lines=(
        LogLine(at_s=1.0, markup="[bold]scout[/] is idle"),
        LogLine(at_s=2.0, markup="a detail", passing=True),
    ),
)


def drawn(board: Board, width: int = 80) -> str:
    console = Console(file=io.StringIO(), width=width, force_terminal=True, color_system=None)
    with console.capture() as capture:
        console.print(draw(board))
    return capture.get()


def test_the_screen_shows_agents_runs_and_what_happened() -> None:
    text = drawn(BOARD)
    for words in (
        "4242",
        "3.2 s",
        "scout",
        "Look [around]",
        "A run [of sorts]",
        "1/9",
        "scout is idle",
        "a detail",
    ):
        assert words in text
    assert "".join(mark for mark, _ in MARKS.values()) in text


@pytest.mark.parametrize("server", SERVER_STYLES)
@pytest.mark.parametrize("width", [20, 80, 200])
def test_the_screen_can_be_drawn_in_every_state_and_width(server: str, width: int) -> None:
    for banner in ("", "[bold]kill[/]"):
        text = drawn(attrs.evolve(BOARD, server=server, banner=banner), width)
        assert all(len(line) <= width for line in text.splitlines())


def test_five_runs_three_agents_and_a_full_log_fit_into_24_lines() -> None:
    board = attrs.evolve(BOARD, runs=BOARD.runs * 5, agents=(*BOARD.agents, *BOARD.agents[:1]), lines=BOARD.lines * 20)
    assert len(drawn(board).splitlines()) <= 24
    assert len(drawn(attrs.evolve(board, banner="kill")).splitlines()) == len(drawn(board).splitlines())


def test_the_state_in_one_line_says_how_much_is_done_and_who_does_what() -> None:
    runs = (attrs.evolve(BOARD.runs[0], tasks=(TASKS[0], TASKS[5])),)
    assert (
        state_line(attrs.evolve(BOARD, runs=runs)) == f"{'█' * 12}{'░' * 12}   1/2  scout: Look [around] · scribe: idle"
    )


def test_a_transcript_writes_each_lasting_line_once_and_the_state_now_and_then() -> None:
    written: list[str] = []
    transcript = Transcript(written.append)
    for elapsed_s in (3.2, 3.3, 4.1, 4.3):
        transcript.show(attrs.evolve(BOARD, elapsed_s=elapsed_s))
    assert written[0] == "  1.0 s  scout is idle"
    assert [line[:7] for line in written] == ["  1.0 s", "  3.2 s", "  4.3 s"]
    assert not any("a detail" in line for line in written)


def test_a_transcript_is_silent_about_the_state_while_the_server_is_dead() -> None:
    written: list[str] = []
    Transcript(written.append).show(attrs.evolve(BOARD, server="killed", lines=()))
    assert written == []


@pytest.mark.parametrize("plain", [True, False])
def test_both_displays_take_a_board(plain: bool) -> None:
    console = Console(file=io.StringIO(), width=80, force_terminal=not plain)
    with open_display(console, plain=plain) as display:
        display.show(BOARD)
    assert isinstance(console.file, io.StringIO)
    assert "scout" in console.file.getvalue()
    assert ("\x1b" in console.file.getvalue()) is not plain


def test_a_name_cannot_smuggle_markup_into_the_log() -> None:
    transcript: list[str] = []
    lines = (LogLine(at_s=0.0, markup=tell_name("[red]name[/]")),)
    Transcript(transcript.append).show(Board(lines=lines))
    assert transcript == ["  0.0 s  [red]name[/]"]
