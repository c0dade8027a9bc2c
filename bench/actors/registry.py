"""The peers: where each is implemented, what it needs, and what share of the messages it gets, so as to end in time."""

import importlib
import importlib.metadata
import shutil
import subprocess

import attrs

from bench.actors.peer import Peer
from bench.actors.workloads import BOUNDED, OPSCORE_ONLY, WORKLOADS


@attrs.frozen(kw_only=True)
class Entry:
    """One peer."""

    module: str
    """The module in `bench.actors.peers`."""
    kind: str
    """The class in that module."""
    package: str | None
    """The distribution that has to be installed; None if it comes with Python."""
    program: str | None = None
    """The program that has to be on the PATH."""
    used: str
    """How the peer is used, in a few words."""
    install: str = "pip install --group bench-actors"
    share: float = 1.0
    bounded: bool = False
    opscore: bool = False

    def load(self) -> Peer:
        peer: Peer = getattr(importlib.import_module(f"bench.actors.peers.{self.module}"), self.kind)()
        return peer

    def missing(self) -> str | None:
        """Return what is not installed, or None."""
        if self.package is not None:
            try:
                importlib.metadata.version(self.package)
            except importlib.metadata.PackageNotFoundError:
                return self.package
        if self.program is not None and shutil.which(self.program) is None:
            return self.program
        return None

    def version(self) -> str:
        if self.package is not None:
            return importlib.metadata.version(self.package)
        if self.program is not None:
            release = "io:put_chars(erlang:system_info(otp_release)), halt()."
            return subprocess.check_output([self.program, "-noshell", "-eval", release], text=True)
        return "of Python"

    def workloads(self) -> tuple[str, ...]:
        left_out = (() if self.bounded else BOUNDED) + (() if self.opscore else OPSCORE_ONLY)
        return tuple(name for name in WORKLOADS if name not in left_out)


PEERS = {
    "opscore": Entry(
        module="opscore_actors",
        kind="OpscorePeer",
        package="opscore",
        used="actors under one supervisor",
        install="pip install -e .",
        bounded=True,
        opscore=True,
    ),
    "asyncio.Queue": Entry(
        module="asyncio_queue", kind="AsyncioQueuePeer", package=None, used="raw, a task and a queue", bounded=True
    ),
    "trio": Entry(
        module="trio_channels",
        kind="TrioChannelsPeer",
        package="trio",
        used="raw, a task and memory channels",
        install="pip install -e .",
        share=0.5,
        bounded=True,
    ),
    "pykka": Entry(module="pykka_threads", kind="PykkaPeer", package="pykka", used="ThreadingActor", share=0.3),
    "thespian": Entry(
        module="thespian_simple",
        kind="ThespianPeer",
        package="thespian",
        used="simpleSystemBase, all in one thread",
        share=0.2,
    ),
    "xoscar": Entry(
        module="xoscar_pool",
        kind="XoscarPeer",
        package="xoscar",
        used="a main pool in the process, local references",
        share=0.2,
    ),
    "autogen-core": Entry(
        module="autogen_runtime",
        kind="AutogenPeer",
        package="autogen-core",
        used="SingleThreadedAgentRuntime",
        share=0.02,
    ),
    "erlang": Entry(
        module="erlang_processes",
        kind="ErlangPeer",
        package=None,
        program="erl",
        used="gen_server, one scheduler",
        install="apt-get install erlang-base",
    ),
}
