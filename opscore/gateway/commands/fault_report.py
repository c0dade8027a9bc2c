"""The faults of a workflow file, in the format of compilers, and as JSON for editors."""

from collections.abc import Iterator
from typing import Any, Final

from rich.cells import cell_len

from opscore.gateway.commands.workflow_file import PlacedFault, WorkflowFile
from opscore.gateway.parsing.document_positions import Lines, Span
from opscore.gateway.process.terminal import Terminal, cut, harmless

TAB: Final = "    "
BEFORE_SHARE: Final = 3
"""In a line that is cut, one cell in so many is for the text before the fault."""


def shown(file: WorkflowFile, terminal: Terminal) -> str:
    """Each fault with its place, its line, and a mark below it; or, for a valid file, one line with its content."""
    name = harmless(file.name)
    if file.definition is not None:
        count = len(file.definition.tasks)
        tasks = "1 task" if count == 1 else f"{count:,} tasks"
        well = terminal.styled("valid", fg="green")
        remark = "" if file.remark is None else f"; {file.remark}"
        return f"{name}: {well}, workflow {harmless(file.definition.workflow_id)}, {tasks}{remark}"
    lines = Lines(file.text)
    return "\n".join(line for fault in file.faults for line in _told(fault, name, file.text, lines, terminal))


def _told(fault: PlacedFault, name: str, text: str, lines: Lines, terminal: Terminal) -> Iterator[str]:
    message = terminal.styled(harmless(fault.message), bold=True)
    yield f"{_at(name, fault.span, lines, terminal)} {message}"
    yield from _excerpt(fault.span, text, lines, terminal, "^", "red")
    if fault.note is not None:
        yield f"{_at(name, fault.note.span, lines, terminal)} {harmless(fault.note.message)}"
        yield from _excerpt(fault.note.span, text, lines, terminal, "-", "blue")


def _at(name: str, span: Span, lines: Lines, terminal: Terminal) -> str:
    line, column = lines.place(span.start)
    return terminal.styled(f"{name}:{line}:{column}:", bold=True)


def _excerpt(span: Span, text: str, lines: Lines, terminal: Terminal, mark: str, colour: str) -> Iterator[str]:
    """The line of a span, and below it a mark, cut to the terminal's width."""
    line = lines.around(span.start)
    gutter = f" {lines.place(span.start)[0]} | "
    room = max(terminal.width - len(gutter), 1)
    before, meant, after = _fitted(span, line, text, room)
    width = max(cell_len(meant), 1)
    yield f"{terminal.styled(gutter, fg='blue')}{before}{meant}{after}".rstrip()
    below = f"{' ' * (len(gutter) - 2)}| "
    yield f"{terminal.styled(below, fg='blue')}{' ' * cell_len(before)}{terminal.styled(mark * width, fg=colour)}"


def _fitted(span: Span, line: Span, text: str, room: int) -> tuple[str, str, str]:
    """Split a line into the text before a span, the span, and the text after it, cut so that the span's start shows.

    Only as much of the line is read as can fit, because it may be the whole file.
    """
    # One more character of each part than there are cells shows whether that part has to be cut.
    before = _written(text[max(line.start, span.start - room - 1) : span.start])
    meant = _written(text[span.start : min(span.end, line.end, span.start + room + 1)])
    after = _written(text[min(max(span.end, span.start), line.end) : min(line.end, span.end + room + 1)])
    if cell_len(before + meant + after) <= room:
        return before, meant, after
    if cell_len(before + meant) >= room:
        kept = max(room // BEFORE_SHARE, room - cell_len(meant + after))
        before = cut(before[::-1], min(kept, room - 1))[::-1]
    meant = cut(meant, room - cell_len(before))
    return before, meant, cut(after, room - cell_len(before + meant))


def _written(text: str) -> str:
    return harmless(text.replace("\t", TAB))


def document(file: WorkflowFile) -> dict[str, Any]:
    """The same as JSON values; lines and columns count from 1, columns in characters, and ends are exclusive."""
    lines = Lines(file.text)
    definition = file.definition
    about: dict[str, Any] = {}
    if definition is not None:
        about = {"workflow": definition.workflow_id, "tasks": len(definition.tasks)}
    if file.remark is not None:
        about["remark"] = file.remark
    faults = [_document(fault, lines) for fault in file.faults]
    return {"file": file.name, "valid": definition is not None, **about, "faults": faults}


def _document(fault: PlacedFault, lines: Lines) -> dict[str, Any]:
    notes = [] if fault.note is None else [{"message": fault.note.message, **_place(fault.note.span, lines)}]
    return {"path": fault.path, "message": fault.message, **_place(fault.span, lines), "notes": notes}


def _place(span: Span, lines: Lines) -> dict[str, int]:
    line, column = lines.place(span.start)
    end_line, end_column = lines.place(span.end)
    return {"line": line, "column": column, "end_line": end_line, "end_column": end_column}
