"""`opscore demo`: the play on its stage, and the summary at its end."""

import io
import os
import shutil
import signal
import sys
from pathlib import Path

import trio
from rich.console import Console

from opscore.gateway.demo.play import SERVER, Play, PlayFailed
from opscore.gateway.demo.progress import COMPLETED, OPEN, Outcome, count_tasks
from opscore.gateway.demo.screen import open_display, summary
from opscore.gateway.demo.stage import KeeperEnded, Stage, open_stage

RUNS = 3
"""How many incident reports are run by default."""
EXIT_FAILED = 1
EXIT_INTERRUPTED = 128 + signal.SIGINT
LOG_LINES = 15
LOG_BYTES = 16_384
NEXT_STEPS = """\
Next steps:
  {command} serve --data ./opscore-data   start a server of your own
  {command} demo --keep                   look at what a demo leaves behind
  {command} --help                        everything else"""


def main(*, keep: bool = False, plain: bool = False, runs: int = RUNS) -> int:
    """Perform the demo.

    Args:
        keep: Keep the demo's directory, and print its path.
        plain: Print a transcript instead of the live screen, as is done anyway without a terminal.
        runs: How many incident reports are run beside Ops-Core's sample workflow.

    Returns:
        The exit code: 0 if every run completed and nothing was lost or repeated, 1 if not, 130 after SIGINT or
        SIGTERM. In every case all processes have ended and the directory is removed, unless it is kept.

    Raises:
        OSError: the output can't be written.
    """
    if isinstance(sys.stdout, io.TextIOWrapper):
        # A terminal without the character for "completed" shows another one, and the demo goes on.
        sys.stdout.reconfigure(errors="replace")
    code = EXIT_INTERRUPTED
    unwritten: BaseException | None = None
    try:
        code = trio.run(_perform_until_stopped, Console(), keep, plain, runs)
    except* KeyboardInterrupt:
        # Ctrl-C came while the signal receiver was not open: before the first process, or after the last.
        code = EXIT_INTERRUPTED
    except* SystemExit:
        # Rich exits when nobody reads the output any more, as in `opscore demo | head`.
        code = EXIT_FAILED
    except* OSError as failures:
        unwritten = failures
    while isinstance(unwritten, BaseExceptionGroup):
        # Raise only the first of them, as a command without nurseries would, so that it is reported like theirs.
        unwritten = unwritten.exceptions[0]
    if unwritten is not None:
        raise unwritten
    return code


async def _perform_until_stopped(console: Console, keep: bool, plain: bool, runs: int) -> int:  # noqa: FBT001
    code = EXIT_INTERRUPTED
    with trio.open_signal_receiver(signal.SIGINT, signal.SIGTERM) as signals:
        async with trio.open_nursery() as nursery:
            performance = trio.CancelScope()

            async def stop() -> None:
                # All signals are received, because a second Ctrl-C must not interrupt the cleaning up.
                async for _ in signals:
                    performance.cancel()

            nursery.start_soon(stop)
            with performance:
                code = await _perform(console, keep=keep, plain=plain or not console.is_terminal, runs=runs)
            nursery.cancel_scope.cancel()
    if performance.cancelled_caught:
        _say(console, "Interrupted. Every process of the demo has ended.")
    return code


async def _perform(console: Console, *, keep: bool, plain: bool, runs: int) -> int:
    try:
        async with open_stage(keep=keep) as stage:
            try:
                code = await _show(console, stage, plain=plain, runs=runs)
            finally:
                if keep:
                    _say(console, f"Kept: {stage.directory}")
                    _say(console, f"Its store: {stage.directory}/data")
    except KeeperEnded as failure:
        _say(console, f"The demo failed: {failure}")
        return EXIT_FAILED
    if code == os.EX_OK:
        _say(console, NEXT_STEPS.format(command=_command()))
    return code


async def _show(console: Console, stage: Stage, *, plain: bool, runs: int) -> int:
    outcome: Outcome | None = None
    reasons: list[str] = []
    try:
        with open_display(console, plain=plain) as display:
            outcome = await Play(stage, display, runs).perform()
    except* PlayFailed as failures:
        reasons += [str(failure) for failure in failures.exceptions]
    if outcome is not None:
        console.print(summary(outcome_rows(outcome)))
        reasons += [f"Task {task_id} was finished, and no longer is." for task_id in sorted(outcome.lost)]
        reasons += outcome.faults
    if not reasons:
        return os.EX_OK
    _say(console, "The demo failed: " + " ".join(reasons))
    _say(console, f"The end of the server's log:\n{tail(stage.log_path(SERVER))}")
    return EXIT_FAILED


def outcome_rows(outcome: Outcome) -> list[tuple[str, str]]:
    """The rows of the closing table."""
    tasks = [task for run in outcome.runs for task in run.tasks]
    completed = sum(run.completed for run in outcome.runs)
    attempts = sum(task.attempt for task in tasks)
    before = len(outcome.finished_before_kill)
    open_at_kill = sum(count_tasks(outcome.at_kill)[status] for status in OPEN)
    done = ", ".join(f"{agent.agent_id} {agent.done}" for agent in outcome.agents)
    return [
        ("runs", f"{sum(run.status == COMPLETED for run in outcome.runs)} of {len(outcome.runs)} completed"),
        ("tasks", f"{completed} of {len(tasks)} completed, in {attempts} attempts"),
        ("agents", f"{len(outcome.agents)} ({done})"),
        ("finished before the kill", f"{before}, of which {len(outcome.lost)} were lost"),
        ("with an agent at the kill", f"{open_at_kill}"),
        ("finished after it", f"{completed - before}"),
        (
            "recovery",
            f"{outcome.recovery_s:.2f} s from start to ready ({outcome.outage_s:.1f} s of outage)",
        ),
        ("done twice or not at all", f"{len(outcome.faults)}"),
        ("all in all", f"{outcome.took_s:.1f} s"),
    ]


def tail(log: Path) -> str:
    """The last lines of a log file."""
    try:
        text = log.read_bytes()[-LOG_BYTES:].decode(errors="replace")
    except FileNotFoundError:
        return "(there is none)"
    return "\n".join(text.splitlines()[-LOG_LINES:]) or "(it is empty)"


def _command() -> str:
    """How to call `opscore` from here: by its name if the shell finds it, else by the path that it was called by."""
    return "opscore" if shutil.which("opscore") or not sys.argv[0].endswith("opscore") else sys.argv[0]


def _say(console: Console, text: str) -> None:
    console.print(text, markup=False, highlight=False, soft_wrap=True)
