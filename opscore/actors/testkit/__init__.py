"""Tools to test actors with: virtual time, probes in a running system, and handlers run without a system.

`run` makes hours pass in milliseconds. A `Probe` is an address whose messages the test reads. A `Sandbox` runs the
handlers of one actor without a system, and records what each of them does.
"""

from opscore.actors.testkit.probe import Probe, ProbeFailed
from opscore.actors.testkit.sandbox import Effects, Sandbox, Scheduled, Sent, Started
from opscore.actors.testkit.virtual_time import run

__all__ = ["Effects", "Probe", "ProbeFailed", "Sandbox", "Scheduled", "Sent", "Started", "run"]
