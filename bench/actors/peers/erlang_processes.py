"""Erlang/OTP, where the idea comes from: gen_servers on one scheduler; see erlang_processes.erl.

A gen_server is started synchronously, and `traced` is the emulator's own account of its memory.
"""

import json
import subprocess
from pathlib import Path
from typing import Any

from bench.actors.footprint import Footprint, Growth
from bench.actors.peer import Outcome, Peer

SOURCE = Path(__file__).with_suffix(".erl")
COMPILE_AND_RUN = (
    "{{ok, Module, Code}} = compile:file({source}, [binary]), {{module, Module}} = code:load_binary(Module, [], Code), "
    "Module:main({workload}, {sizes})."
)


class ErlangPeer(Peer):
    def tell(self, messages: int) -> Outcome:
        return Outcome(**_run("tell", messages))

    def ask(self, asks: int, askers: int) -> Outcome:
        return Outcome(**_run("ask", asks, askers))

    def ring(self, laps: int, nodes: int) -> Outcome:
        return Outcome(**_run("ring", laps, nodes))

    def fan_in(self, messages: int, senders: int) -> Outcome:
        return Outcome(**_run("fan_in", messages, senders))

    def spawn(self, actors: int) -> Outcome:
        return Outcome(**_run("spawn", actors))

    def idle(self, actors: int, footprint: Footprint) -> Growth:
        return Growth(**_run("idle", actors, int(footprint.traced)))


def _run(workload: str, *sizes: int) -> dict[str, Any]:
    expression = COMPILE_AND_RUN.format(source=json.dumps(str(SOURCE)), workload=workload, sizes=list(sizes))
    # One scheduler: the process is pinned to one core, and so are all the others.
    command = ["erl", "+S", "1:1", "-noshell", "-noinput", "-eval", expression]
    answer = subprocess.run(command, capture_output=True, text=True, check=True, timeout=60).stdout
    outcome: dict[str, Any] = json.loads(answer)
    return outcome
