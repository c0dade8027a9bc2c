"""For the tests of actors: virtual time, probes in a running system, and handlers without one.

`run` makes hours pass in milliseconds. A `Probe` is an address whose messages the test reads. A `Sandbox` runs the
handlers of one actor without a system, and tells what each of them did.
"""

from opscore.actors.testkit.probe import Probe, ProbeFailed
from opscore.actors.testkit.sandbox import Effects, Sandbox, Scheduled, Sent, Started
from opscore.actors.testkit.virtual_time import run

__all__ = ["Effects", "Probe", "ProbeFailed", "Sandbox", "Scheduled", "Sent", "Started", "run"]
