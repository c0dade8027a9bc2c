"""The commands on a data directory: back it up, check it, move it, look at it. All but `compact` go beside a server."""

import contextlib
import json
import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar

import attrs
import click

from opscore.gateway import config, interpreter
from opscore.gateway.config import Settings
from opscore.gateway.failures import EXIT_FAILED, EXIT_MISUSED, Failed, Misused, failing
from opscore.gateway.key_file import FILE_NAME
from opscore.gateway.output_file import written
from opscore.gateway.setting import about

if TYPE_CHECKING:
    from opscore.runtime.storage.lmdb_reader import LmdbReader

FINDINGS_SHOWN: Final = 50
BY_A_PAGE: Final = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV"})
"""What a damaged page may end a process with; any other signal came from somebody else."""
_CommandT = TypeVar("_CommandT", bound=Callable[..., Any])


def register(group: click.Group) -> None:
    """Add the commands to a group."""
    for command in (backup, verify, export, import_, compact, stats):
        group.add_command(command)


def _as_json(command: _CommandT) -> _CommandT:
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


@click.command()
@config.options_for("data", texts=config.DATA_THERE)
@click.argument("destination", type=click.Path(path_type=Path))
@_as_json
def backup(settings: Settings, destination: Path, as_json: bool) -> None:  # noqa: FBT001 (click passes options by name)
    """Copy the store to DESTINATION while it is in use: one commit, compact, with the API keys beside it.

    DESTINATION is a directory that is not there yet, and appears once everything in it is safe on the disk; or an
    empty one, where the data comes last. To restore, serve from it: `opscore serve --data DESTINATION`.

    Example: opscore backup backups/2026-11-25
    """
    from opscore.runtime.opening import open_reader
    from opscore.runtime.storage.copying import appearing, copy_compact
    from opscore.runtime.storage.files import LOCK_FILE, PRIVATE

    started = time.monotonic()
    with failing(), _progress("copying", "bytes") as progress, _opened(settings.data) as reader:
        with appearing(destination, mode=PRIVATE) as directory:
            copy_compact(reader, directory, progress)
            _copy_keys(settings.data / FILE_NAME, directory / FILE_NAME)
        with open_reader(destination) as copy, copy.snapshot() as view:
            sequence = view.last_sequence()
            size = copy.measure().file_bytes
        # To read a copy makes a lock file beside it, which is of no use in a backup.
        (destination / LOCK_FILE).unlink(missing_ok=True)
    seconds = time.monotonic() - started
    if as_json:
        _say_json({"path": str(destination), "sequence": sequence, "bytes": size, "seconds": round(seconds, 3)})
    else:
        click.echo(f"{click.format_filename(destination)} holds commit {sequence:,}: {about(size)}, in {seconds:.1f} s")


def _opened(path: Path) -> "LmdbReader":
    """Open a store to read it: as a process of another number, where the server in another container has this one's."""
    from opscore.runtime.errors import SameNumber
    from opscore.runtime.opening import open_reader

    try:
        return open_reader(path)
    except SameNumber:
        code = interpreter.begun_again()
        if code is None:
            raise
        sys.exit(code)


def _copy_keys(source: Path, copy: Path) -> None:
    try:
        source.open("rb").close()
    except FileNotFoundError:
        return
    except OSError as error:
        raise Failed(
            f"the API keys in {source} can't be read: {error.strerror}; a backup without them is none"
        ) from error
    shutil.copy2(source, copy)


@click.command()
@config.options_for("data", texts=config.DATA_THERE)
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@_as_json
@click.option("--in-process", is_flag=True, hidden=True)
def verify(settings: Settings, directory: Path | None, as_json: bool, in_process: bool) -> None:  # noqa: FBT001
    """Check every value, index and invariant of the store, or of the one in DIRECTORY, such as a backup.

    Exits with 1 when something is wrong, and says on the standard output what is wrong where; with 2 when another
    process keeps it from being read, or another release wrote it. What kept it from a verdict is said on the standard
    error. A damaged page may end the check, which then runs in a process of its own and is told by that. The server may
    run meanwhile.

    Example: opscore verify backups/2026-11-25
    """
    path = directory or settings.data
    if in_process:
        _verify_here(path)
        return
    at, findings, result = "its pages", [], None
    with failing(), _progress("checking", "rows") as progress:
        # No file of settings is read once more: it may be another one, or be wrong.
        settled = [f"--config={os.devnull}", f"--data={path.absolute()}"]
        command = interpreter.running("opscore", "verify", "--in-process", *settled)
        surroundings = interpreter.environment(os.environ)
        with subprocess.Popen(command, env=surroundings, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as child:
            assert child.stdout is not None
            assert child.stderr is not None
            try:
                for line in child.stdout:
                    said = json.loads(line)
                    at = said.get("at", at)
                    result = said.get("result", result)
                    findings += [said["finding"]] if "finding" in said else []
                    progress(said.get("rows", 0), 0)
            finally:
                child.kill()
            complaint = child.stderr.read().decode(errors="replace").strip()
    if result is None and child.returncode > 0:
        ended = Misused if child.returncode == EXIT_MISUSED else Failed
        raise ended(complaint.removeprefix("opscore: ") or "the check failed")
    if result is None:
        name = signal.Signals(-child.returncode).name
        if name not in BY_A_PAGE:
            raise Failed(f"{name} ended the check at {at}: it has to be done again")
        what = f"a page is damaged: reading it ended the check with {name}; restore a backup"
        findings.append({"where": f"{path}, at {at}", "what": what})
        result = {"rows": None, "findings": len(findings), "sequence": None, "format": None}
    _report(path, findings, result, as_json=as_json)
    sys.exit(EXIT_FAILED if findings else 0)


def _verify_here(path: Path) -> None:
    """Check in this process, and say line by line how it goes; it may end by a signal."""
    from opscore.runtime.errors import StoreDamaged
    from opscore.runtime.storage import formats
    from opscore.runtime.verification import Verification

    def at(table: str, rows: int) -> None:
        _say_json({"at": table, "rows": rows})

    count = 0
    about_all: dict[str, int | None]
    with failing():
        try:
            with _opened(path) as reader, reader.snapshot() as view:
                check = Verification(view, indexed=reader.format >= formats.ENTRIES_SINCE, on_progress=at)
                for finding in check.findings():
                    count += 1
                    if count <= FINDINGS_SHOWN:
                        _say_json({"finding": attrs.asdict(finding)})
                about_all = {"rows": check.rows, "sequence": view.last_sequence(), "format": reader.format}
        except StoreDamaged as error:
            # Of the whole: where one value is, that is a finding like any other.
            count += 1
            about_all = dict.fromkeys(("rows", "sequence", "format"))
            _say_json({"finding": {"where": str(path), "what": str(error)}})
    _say_json({"result": {"findings": count, **about_all}})


def _report(path: Path, findings: list[dict[str, str]], result: dict[str, Any], *, as_json: bool) -> None:
    if as_json:
        _say_json({"path": str(path), **result, "shown": findings})
        return
    for finding in findings:
        click.echo(f"{finding['where']}: {finding['what']}")
    if result["findings"] > len(findings):
        click.echo(f"and {result['findings'] - len(findings):,} more")
    if not findings:
        click.echo(
            f"{click.format_filename(path)} is sound: {result['rows']:,} values, up to commit {result['sequence']:,}"
        )


@click.command()
@config.options_for("data", texts=config.DATA_THERE)
@click.argument("file", type=click.Path(path_type=Path), default=Path("-"))
def export(settings: Settings, file: Path) -> None:
    """Write everything in the store as JSON lines to FILE, or to the standard output.

    FILE must not be there yet, and appears once it is whole; a pipe or a device is written to. The last line tells a
    whole export from one that was cut short. API keys are not in it. The server may run meanwhile; while it is read
    the store's file may grow.

    Example: opscore export - | gzip > opscore.jsonl.gz
    """
    from opscore.runtime import transfer

    with (
        failing(),
        _progress("exporting", "rows") as progress,
        _opened(settings.data) as reader,
        reader.snapshot() as view,
        written(file, anew=True) as out,
    ):
        total = transfer.count_of(view)
        for count, line in enumerate(transfer.exported(view)):
            out.write(line)
            if count % 1_000 == 0:
                progress(count, total)


@click.command("import")
@config.options_for("data", "map_bytes", texts={"data": "Directory to make; it must not be there yet, or be empty."})
@click.argument("file", type=click.Path(path_type=Path, exists=True, allow_dash=True))
def import_(settings: Settings, file: Path) -> None:
    """Make the data directory of FILE, which `opscore export` wrote; `-` is the standard input.

    The directory must not be there yet, or be empty. It, or the data in it, appears once everything is there.

    Example: opscore import opscore.jsonl --data opscore-data
    """
    from opscore.runtime import transfer

    with failing(), _progress("importing", "rows") as progress:
        stream: Any = contextlib.nullcontext(sys.stdin.buffer) if str(file) == "-" else file.open("rb")
        with stream as lines:
            rows = transfer.imported(
                lines, settings.data, map_bytes=settings.map_bytes, on_progress=lambda count: progress(count, 0)
            )
    click.echo(f"{click.format_filename(settings.data)} holds {rows:,} rows", err=True)


@click.command()
@config.options_for("data", texts=config.DATA_THERE)
def compact(settings: Settings) -> None:
    """Give the disk back what the store's file no longer needs, while no server runs.

    The file never shrinks by itself: what retention frees is used again. A compact copy takes its place, and until then
    both take room.
    """
    from opscore.runtime.storage import copying

    with failing(), _progress("copying", "bytes") as progress:
        before, after = copying.compact(settings.data, progress)
    click.echo(f"{click.format_filename(settings.data)} takes {about(after)}, before {about(before)}")


@click.command()
@config.options_for("data", texts=config.DATA_THERE)
@_as_json
def stats(settings: Settings, as_json: bool) -> None:  # noqa: FBT001 (click passes options by name)
    """Tell sizes, counts, rates and how long commits take. The server may run meanwhile."""
    from opscore.gateway.store_statistics import document, shown
    from opscore.runtime.survey import surveyed

    now = time.time()
    with failing(), _opened(settings.data) as reader:
        survey = surveyed(reader, now)
    if as_json:
        _say_json(document(survey, settings.data))
    else:
        click.echo(shown(survey, settings.data, now))


def _say_json(document: dict[str, Any]) -> None:
    # What no UTF-8 can say, such as a byte in a file's name, is said as JSON says it: \udcff.
    click.echo(json.dumps(document, ensure_ascii=False).encode(errors="backslashreplace"))


@contextlib.contextmanager
def _progress(doing: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Tell how far something is, on a terminal: of how much, where that is known."""
    if not sys.stderr.isatty():
        yield lambda _done, _total: None
        return

    def tell(done: int, total: int) -> None:
        amount = about(done) if unit == "bytes" else f"{done:,} {unit}"
        share = f", {min(done / total, 1.0):.0%}" if total else ""
        click.echo(f"\r\x1b[K{doing}: {amount}{share}", nl=False, err=True)

    try:
        yield tell
    finally:
        click.echo("\r\x1b[K", nl=False, err=True)
