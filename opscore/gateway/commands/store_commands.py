"""The commands on a data directory: back up, verify, export, import, compact, stats.

All but `compact` and `import` may run while a server uses the directory.
"""

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

from opscore.gateway.commands.failures import EXIT_FAILED, EXIT_MISUSED, Failed, Misused, failing
from opscore.gateway.commands.output_file import written
from opscore.gateway.keys.key_file import FILE_NAME
from opscore.gateway.process import interpreter
from opscore.gateway.settings import config
from opscore.gateway.settings.config import Settings
from opscore.gateway.settings.setting import about

if TYPE_CHECKING:
    from opscore.runtime.storage.lmdb_reader import LmdbReader

FINDINGS_SHOWN: Final = 50
BY_A_PAGE: Final = frozenset({"SIGABRT", "SIGBUS", "SIGFPE", "SIGILL", "SIGSEGV"})
"""Signals by which a damaged page may end a process; any other signal has another cause."""
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
    """Copy the store to DESTINATION, also while it is in use: compact, as of one commit, and with the API keys.

    DESTINATION must not exist yet, or be an empty directory. A new directory appears once everything in it is synced
    to disk; in an empty one the data appears last. To restore, serve from it: `opscore serve --data DESTINATION`.

    Example: opscore backup backups/2026-11-25
    """
    from opscore.runtime.journal.opening import open_reader
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
        # Reading the copy made a lock file beside it, which is of no use in a backup.
        (destination / LOCK_FILE).unlink(missing_ok=True)
    seconds = time.monotonic() - started
    if as_json:
        _say_json({"path": str(destination), "sequence": sequence, "bytes": size, "seconds": round(seconds, 3)})
    else:
        click.echo(f"{click.format_filename(destination)} holds commit {sequence:,}: {about(size)}, in {seconds:.1f} s")


def _opened(path: Path) -> "LmdbReader":
    """Open a store to read it; if a server in another container has this process id, start again under another one."""
    from opscore.runtime.errors import SameNumber
    from opscore.runtime.journal.opening import open_reader

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
            f"the API keys in {source} can't be read: {error.strerror}; a backup has to contain them"
        ) from error
    shutil.copy2(source, copy)


@click.command()
@config.options_for("data", texts=config.DATA_THERE)
@click.argument("directory", required=False, type=click.Path(path_type=Path))
@_as_json
@click.option("--in-process", is_flag=True, hidden=True)
def verify(settings: Settings, directory: Path | None, as_json: bool, in_process: bool) -> None:  # noqa: FBT001
    """Check every value, index and invariant of the store, or of the one in DIRECTORY, such as a backup.

    Exits with 1 if something is wrong, and lists on standard output what is wrong and where; with 2 if another
    process keeps it from being read, or another release wrote it. Standard error says why a check could not be
    finished. Reading a damaged page may kill a process, so the check runs in one of its own, and reports that as
    well. The server may run meanwhile.

    Example: opscore verify backups/2026-11-25
    """
    path = directory or settings.data
    if in_process:
        _verify_here(path)
        return
    at, findings, result = "its pages", [], None
    with failing(), _progress("checking", "rows") as progress:
        # The child reads no configuration file: this may be another one by now, or be wrong.
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
            raise Failed(f"{name} ended the check at {at}: run it again")
        what = f"a page is damaged: reading it ended the check with {name}; restore a backup"
        findings.append({"where": f"{path}, at {at}", "what": what})
        result = {"rows": None, "findings": len(findings), "sequence": None, "format": None}
    _report(path, findings, result, as_json=as_json)
    sys.exit(EXIT_FAILED if findings else 0)


def _verify_here(path: Path) -> None:
    """Check in this process, which a signal may end, and print progress and findings line by line."""
    from opscore.runtime.errors import StoreDamaged
    from opscore.runtime.storage import formats
    from opscore.runtime.upkeep.verification import Verification

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
            # The store as a whole is damaged; a single damaged value is a finding like any other.
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
    """Write everything in the store as JSON lines to FILE, or to standard output.

    FILE must not exist yet, and appears once it is complete; a pipe or a device is written to directly. The last line
    marks a complete export. API keys are not included. The server may run meanwhile; the store's file may grow during
    the export.

    Example: opscore export - | gzip > opscore.jsonl.gz
    """
    from opscore.runtime.upkeep import transfer

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
@config.options_for("data", "map_bytes", texts={"data": "Directory to create; it must not exist yet, or be empty."})
@click.argument("file", type=click.Path(path_type=Path, exists=True, allow_dash=True))
def import_(settings: Settings, file: Path) -> None:
    """Create a data directory from FILE, which `opscore export` wrote; `-` is standard input.

    The directory must not exist yet, or be empty. It appears, or the data in it does, once the import is complete.

    Example: opscore import opscore.jsonl --data opscore-data
    """
    from opscore.runtime.upkeep import transfer

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
    """Shrink the store's file to what it needs, while no server runs.

    The file never shrinks by itself: space that retention frees is reused. A compact copy replaces the file, and until
    then both take room on disk.
    """
    from opscore.runtime.storage import copying

    with failing(), _progress("copying", "bytes") as progress:
        before, after = copying.compact(settings.data, progress)
    click.echo(f"{click.format_filename(settings.data)} takes {about(after)}, before {about(before)}")


@click.command()
@config.options_for("data", texts=config.DATA_THERE)
@_as_json
def stats(settings: Settings, as_json: bool) -> None:  # noqa: FBT001 (click passes options by name)
    """Show sizes, counts, rates and the duration of commits. The server may run meanwhile."""
    from opscore.gateway.commands.store_statistics import document, shown
    from opscore.runtime.upkeep.survey import surveyed

    now = time.time()
    with failing(), _opened(settings.data) as reader:
        survey = surveyed(reader, now)
    if as_json:
        _say_json(document(survey, settings.data))
    else:
        click.echo(shown(survey, settings.data, now))


def _say_json(document: dict[str, Any]) -> None:
    # What UTF-8 can't encode, such as a stray byte in a file's name, is escaped as in JSON: \udcff.
    click.echo(json.dumps(document, ensure_ascii=False).encode(errors="backslashreplace"))


@contextlib.contextmanager
def _progress(doing: str, unit: str) -> Iterator[Callable[[int, int], None]]:
    """Show progress on a terminal, with a percentage if the total is known."""
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
