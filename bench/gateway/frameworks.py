"""Compares ASGI frameworks on the project's own server: `python -m bench.gateway.frameworks [--rounds N] ...`.

All servers run at once on the first core and idle until their turn; `wrk` loads them from the second, one after
the other in an order that rotates with each round. A round counts only if every answer was 2xx and the actor behind
the server handled as many requests as wrk counted. Beside the rate it shows the server's processor time per request,
which other load on the machine affects far less. Needs `wrk`, two cores, and the peers: `pip install litestar`.
"""

import argparse
import importlib.metadata
import json
import os
import platform
import re
import statistics
import subprocess
import sys
import tempfile
import urllib.request
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import attrs

KINDS = ("bare", "starlette", "litestar", "starlette-loop", "starlette-uvicorn")
PACKAGES = ("starlette", "litestar", "msgspec", "cattrs", "uvicorn", "uvloop", "httptools", "trio")
REPORT = {
    "agentId": "agent-0042",
    "timestamp": "2025-01-01T12:00:00Z",
    "state": "idle",
    "details": {"opscore_task_id": "b2f1c0de", "result": {"rows": 128, "note": "a result of usual size"}},
}
SCRIPT = """
wrk.method = "POST"
wrk.path = "/v1/opscore/agent/agent-0042/state"
wrk.headers["content-type"] = "application/json"
wrk.body = [[%s]]
"""


@attrs.frozen(kw_only=True)
class Turn:
    requests_per_s: float
    p99_ms: float
    cpu_us: float


@attrs.frozen(kw_only=True)
class Server:
    port: int
    pid: int

    def handled(self) -> int:
        with urllib.request.urlopen(f"http://127.0.0.1:{self.port}/handled") as answer:
            count: int = json.load(answer)
        return count

    def cpu_s(self) -> float:
        fields = Path(f"/proc/{self.pid}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")


def pinned(core: int, *command: str) -> list[str]:
    return ["taskset", "--cpu-list", str(core), *command]


@contextmanager
def server(kind: str) -> Iterator[Server]:
    command = pinned(0, sys.executable, "-m", "bench.gateway.echo_app", kind)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True) as process:
        try:
            assert process.stdout is not None
            yield Server(port=int(process.stdout.readline()), pid=process.pid)
        finally:
            process.terminate()


def load(server: Server, script: Path, connections: int, seconds: int) -> Turn:
    handled, cpu_s = server.handled(), server.cpu_s()
    command = pinned(1, "wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", f"-s{script}")
    report = subprocess.run(
        [*command, f"http://127.0.0.1:{server.port}"], capture_output=True, text=True, check=True
    ).stdout
    assert "Non-2xx" not in report, report
    assert "Socket errors" not in report, report
    counted = int(re.findall(r"(\d+) requests in", report)[0])
    # Requests in flight when wrk stopped were handled but not counted.
    handled = server.handled() - handled
    assert counted <= handled <= counted + connections, report
    number, unit = re.findall(r"99%\s+([\d.]+)(us|ms|s)", report)[0]
    return Turn(
        requests_per_s=float(re.findall(r"Requests/sec:\s+([\d.]+)", report)[0]),
        p99_ms=float(number) * {"us": 0.001, "ms": 1, "s": 1000}[unit],
        cpu_us=(server.cpu_s() - cpu_s) / handled * 1_000_000,
    )


def compare(rounds: int, seconds: int, connections: int) -> dict[str, list[Turn]]:
    turns: dict[str, list[Turn]] = {kind: [] for kind in KINDS}
    with ExitStack() as stack:
        script = Path(stack.enter_context(tempfile.TemporaryDirectory())) / "post.lua"
        script.write_text(SCRIPT % json.dumps(REPORT))
        servers = {kind: stack.enter_context(server(kind)) for kind in KINDS}
        for each in servers.values():
            load(each, script, connections, 1)
        for turn in range(rounds):
            for kind in (*KINDS[turn % len(KINDS) :], *KINDS[: turn % len(KINDS)]):
                turns[kind].append(load(servers[kind], script, connections, seconds))
                print(kind, turns[kind][-1], file=sys.stderr)
    return turns


def table(turns: dict[str, list[Turn]]) -> Iterator[str]:
    yield "| server | req/s, median | min-max | processor time a request, median | min-max | p99, median |"
    yield "|---|---|---|---|---|---|"
    for kind, results in turns.items():
        rates = [turn.requests_per_s for turn in results]
        costs = [turn.cpu_us for turn in results]
        rate, cost = statistics.median(rates), statistics.median(costs)
        p99 = statistics.median(turn.p99_ms for turn in results)
        yield (
            f"| {kind} | {rate:,.0f} | {min(rates):,.0f}-{max(rates):,.0f} "
            f"| {cost:.0f} us | {min(costs):.0f}-{max(costs):.0f} | {p99:.1f} ms |"
        )


def surroundings() -> Iterator[str]:
    versions = ", ".join(f"{name} {importlib.metadata.version(name)}" for name in PACKAGES)
    yield f"Python {platform.python_version()}, {versions}."
    yield f"{os.cpu_count()} cores, {platform.machine()}, load average at the end {os.getloadavg()[0]:.1f}."


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=7)
    parser.add_argument("--seconds", type=int, default=4)
    parser.add_argument("--connections", type=int, default=32)
    options = parser.parse_args()
    turns = compare(options.rounds, options.seconds, options.connections)
    print(f"{options.connections} connections, {options.rounds} rounds of {options.seconds} s, interleaved.\n")
    print(*table(turns), "", *surroundings(), sep="\n")


if __name__ == "__main__":
    main()
