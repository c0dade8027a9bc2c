"""The house rules that no linter knows: sizes, names, who may touch what, what pages point at."""

import ast
import re
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent
CODE = ("opscore", "tests", "bench")
TEXTS = {
    ".c",
    ".cfg",
    ".css",
    ".html",
    ".ini",
    ".js",
    ".json",
    ".md",
    ".py",
    ".sh",
    ".toml",
    ".txt",
    ".yaml",
    ".yml",
    "",
}
LEFT_BY_TOOLS = {"__pycache__", "build", "dist", "htmlcov", "node_modules", "site"}
MODULE_LINES_MAX = 400
FUNCTION_LINES_MAX = 70
SAYS_NOTHING = {"common", "helper", "helpers", "manager", "misc", "util", "utils"}

OUTSIDE_WORLD = {
    *("os.environ", "os.getenv", "os.putenv"),
    *("sys.argv", "sys.stdin", "sys.stdout", "sys.stderr", "print", "input"),
    *(
        "urllib.request",
        "socket",
        "trio.socket",
        "trio.open_tcp_stream",
        "trio.open_tcp_listeners",
        "trio.serve_tcp",
    ),
}

# A path below one person's or one machine's own directories; what may not stand before it keeps URLs and
# globs out.
MACHINE_PATH = re.compile(r"(?<![\w.*:)}>-])/(?:builds|home|root|Users|work|workspace)/[A-Za-z_.]")
LEFT_FOR_LATER = re.compile(r"\b(?:TO" + r"DO|FIX" + r"ME|X" + r"XX)\b")
LINK = re.compile(r"\[[^\]]*\]\(([^)\s]+)\)")
TEST_NAME = re.compile(r"\btest_\w+")


def modules(*folders: str) -> Iterator[tuple[Path, ast.Module]]:
    for folder in folders:
        for file in sorted((ROOT / folder).rglob("*.py")):
            yield file, ast.parse(file.read_text(encoding="utf-8"), filename=str(file))


def texts(folder: Path = ROOT) -> Iterator[tuple[Path, str]]:
    for entry in sorted(folder.iterdir()):
        if entry.is_dir():
            # Of what begins with a dot, only the CI's folder is ours: the rest belongs to tools.
            if entry.name not in LEFT_BY_TOOLS and (not entry.name.startswith(".") or entry.name == ".ci"):
                yield from texts(entry)
        elif entry.suffix in TEXTS:
            yield entry, entry.read_text(encoding="utf-8")


def pages() -> list[Path]:
    return [
        *sorted(ROOT.glob("*.md")),
        *sorted((ROOT / "docs").rglob("*.md")),
        *sorted((ROOT / "changelog.d").glob("*.md")),
    ]


def place(file: Path, line: int) -> str:
    return f"{file.relative_to(ROOT)}:{line}"


def found(pattern: re.Pattern[str]) -> list[str]:
    return [
        f"{place(file, number)}: {line.strip()}"
        for file, text in texts()
        for number, line in enumerate(text.splitlines(), start=1)
        if pattern.search(line)
    ]


def test_every_part_of_the_code_is_looked_at() -> None:
    seen = {file.relative_to(ROOT).parts[0] for file, _ in modules(*CODE)}
    assert {"opscore", "tests"} <= seen
    assert Path(__file__) in {file for file, _ in texts()}
    assert ROOT / ".ci" / "run" in {file for file, _ in texts()}


def test_no_module_is_longer_than_400_lines() -> None:
    lengths = {file: len(file.read_text(encoding="utf-8").splitlines()) for file, _ in modules(*CODE)}
    assert [f"{place(file, count)}" for file, count in lengths.items() if count > MODULE_LINES_MAX] == []


def test_no_function_is_longer_than_70_lines() -> None:
    too_long = [
        f"{place(file, node.lineno)} {node.name}: {node.end_lineno - node.lineno + 1} lines"
        for file, tree in modules(*CODE)
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef)
        and node.end_lineno is not None
        and node.end_lineno - node.lineno >= FUNCTION_LINES_MAX
    ]
    assert too_long == []


def test_every_package_but_those_users_import_from_holds_a_docstring_and_nothing_else() -> None:
    names = ("opscore", "opscore/actors", "opscore/actors/testkit", "opscore/runtime/simulation")
    imported_from = {ROOT / name / "__init__.py" for name in names}
    packages = {
        file: tree for file, tree in modules("opscore") if file.name == "__init__.py" and file not in imported_from
    }
    assert len(packages) >= 3
    for file, tree in packages.items():
        assert ast.get_docstring(tree), f"{place(file, 1)} has no docstring"
        assert len(tree.body) == 1, f"{place(file, 1)} holds more than a docstring"


def test_every_module_has_a_name_that_says_something() -> None:
    assert [place(file, 1) for file, _ in modules(*CODE) if file.stem.strip("_") in SAYS_NOTHING] == []


def test_every_test_module_stands_where_its_layer_does() -> None:
    layers = {folder.name for folder in (ROOT / "opscore").iterdir() if (folder / "__init__.py").exists()}
    folders = {
        file.relative_to(ROOT / "tests").parts[0] for file, _ in modules("tests") if file.parent != ROOT / "tests"
    }
    # Benchmarks are no layer; kills, losses of power and long loads go through all of them.
    assert folders <= layers | {"bench", "crash", "powerloss", "soak"}


def test_no_file_knows_the_machine_it_was_written_on() -> None:
    assert found(MACHINE_PATH) == []


@pytest.mark.parametrize("folder", ["ho" + "me", "ro" + "ot", "Us" + "ers"])
def test_a_path_of_one_machine_is_recognised_and_a_url_or_glob_is_not(folder: str) -> None:
    assert MACHINE_PATH.search(f"see '/{folder}/ada/opscore'")
    assert MACHINE_PATH.search(f"file:///{folder}/ada")
    assert not MACHINE_PATH.search(f"http://host.example/{folder}/ada")
    assert not MACHINE_PATH.search(f"**/{folder}/ada")


def test_nothing_is_left_for_later() -> None:
    assert found(LEFT_FOR_LATER) == []


def test_the_environment_the_terminal_and_sockets_stay_outside_actors_and_runtime() -> None:
    touched = [
        f"{place(file, node.lineno)} {what}"
        for file, tree in modules("opscore/actors", "opscore/runtime")
        for node in ast.walk(tree)
        if isinstance(node, ast.expr | ast.stmt) and (what := outside_world(node))
    ]
    assert touched == []


def outside_world(node: ast.AST) -> str:
    """Name what a node reaches for that only the gateway may: an empty string if nothing."""
    match node:
        case ast.Import(names=names):
            reached = {name.name for name in names}
        case ast.ImportFrom(module=str(module), names=names):
            reached = {module, *(f"{module}.{name.name}" for name in names)}
        case ast.Attribute(value=ast.Name(id=module), attr=name):
            reached = {f"{module}.{name}"}
        case ast.Call(func=ast.Name(id=name)):
            reached = {name}
        case _:
            return ""
    return ", ".join(sorted(reached & OUTSIDE_WORLD))


@pytest.mark.parametrize(
    "line",
    [
        "import socket",
        "from os import environ",
        "from socket import socketpair",
        "from urllib import request",
        "x = os.environ['HOME']",
        "os.getenv('HOME')",
        "print('x')",
        "sys.stdout.write('x')",
        "trio.socket.socket()",
    ],
)
def test_what_reaches_outside_is_recognised(line: str) -> None:
    assert any(outside_world(node) for node in ast.walk(ast.parse(line)))


def loaded_by(imports: str) -> set[str]:
    program = f"import sys\n{imports}\nprint('\\n'.join(sys.modules))"
    command = [sys.executable, "-c", program]
    result = subprocess.run(command, check=False, capture_output=True, text=True, cwd=ROOT)
    assert result.returncode == 0, result.stderr
    return set(result.stdout.split())


def every_module_of(package: str) -> str:
    folder = ROOT / package.replace(".", "/")
    names = [file.relative_to(ROOT).with_suffix("").as_posix().replace("/", ".") for file in folder.rglob("*.py")]
    return "\n".join(f"import {name.removesuffix('.__init__')}" for name in names)


def test_the_actors_load_neither_storage_nor_http_nor_the_domain() -> None:
    loaded = loaded_by(every_module_of("opscore.actors"))
    assert "opscore.actors" in loaded
    assert loaded & {"asyncio", "cattrs", "httpx", "lmdb", "starlette", "structlog", "uvicorn", "yaml"} == set()
    assert {name for name in loaded if name.startswith(("opscore.runtime", "opscore.gateway"))} == set()


def test_the_runtime_loads_no_http_and_no_terminal() -> None:
    loaded = loaded_by(every_module_of("opscore.runtime"))
    assert "opscore.runtime" in loaded
    assert loaded & {"click", "httpx", "rich", "starlette", "structlog", "typed_settings", "uvicorn"} == set()
    assert {name for name in loaded if name.startswith("opscore.gateway")} == set()


def test_importing_opscore_alone_loads_nothing_yet() -> None:
    loaded = loaded_by("import opscore")
    assert {name for name in loaded if name.startswith("opscore.")} == set()
    assert loaded & {"attrs", "cattrs", "httpx", "lmdb", "starlette", "trio", "uvicorn"} == set()


def test_little_is_loaded_before_a_command_takes_its_interrupts() -> None:
    loaded = loaded_by("import opscore.__main__") - loaded_by("")
    assert loaded >= {"opscore", "opscore.__main__"}
    assert loaded & {"typing", "re", "importlib.util", "inspect", "logging"} == set()


def test_every_relative_link_of_a_page_points_at_something() -> None:
    broken = [
        f"{place(page, number)}: {target}"
        for page in pages()
        for number, line in enumerate(page.read_text(encoding="utf-8").splitlines(), start=1)
        for target in LINK.findall(line)
        if "://" not in target and not target.startswith(("#", "mailto:"))
        if not (page.parent / target.partition("#")[0]).exists()
    ]
    assert broken == []


def test_every_test_that_a_page_names_exists() -> None:
    tests = {
        node.name
        for _, tree in modules("tests")
        for node in ast.walk(tree)
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_")
    }
    files = {file.stem for file, _ in modules("tests")}
    named = {
        (page.relative_to(ROOT).as_posix(), name)
        for page in pages()
        # A workflow of Ops-Core's load test carries a capability of that name.
        for name in set(TEST_NAME.findall(page.read_text(encoding="utf-8"))) - {"test_capability"}
    }
    assert sorted((page, name) for page, name in named if name not in tests | files) == []
