"""Models of a world's agents: what they can do, how long it takes, how often it fails, and when they are away."""

import random
from collections.abc import Mapping
from typing import Any, Final, Literal

import attrs

Kind = Literal["push", "claim", "local"]

_SHAPES: Final = ("constant", "uniform", "exponential", "lognormal")


@attrs.frozen
class Latency:
    """How long work takes, in seconds.

    Args:
        shape: `constant` (`first` seconds), `uniform` (from `first` to `second`), `exponential` (`first` is the mean),
            `lognormal` (`first` is the median, `second` the spread: the deviation of its logarithm).
        first: in seconds; its meaning depends on the shape.
        second: its meaning depends on the shape.

    Raises:
        ValueError: there is no such shape, or a number is below 0.
    """

    shape: Literal["constant", "uniform", "exponential", "lognormal"] = attrs.field(
        default="uniform", validator=attrs.validators.in_(_SHAPES)
    )
    first: float = attrs.field(default=0.1, converter=float, validator=attrs.validators.ge(0.0))
    second: float = attrs.field(default=2.0, converter=float, validator=attrs.validators.ge(0.0))

    def draw(self, rng: random.Random) -> float:
        """Draw the duration of one attempt, in seconds.

        Args:
            rng: the source of randomness.
        """
        match self.shape:
            case "constant":
                return self.first
            case "uniform":
                return rng.uniform(self.first, self.second)
            case "exponential":
                return rng.expovariate(1.0 / self.first) if self.first else 0.0
            case "lognormal":
                return self.first * rng.lognormvariate(0.0, self.second)


@attrs.frozen(kw_only=True)
class Skill:
    """How an agent does the work of one capability.

    Raises:
        ValueError: the failure rate is not from 0 to 1.
    """

    latency: Latency = Latency()
    """How long an attempt takes."""
    failure_rate: float = attrs.field(default=0.0, converter=float)
    """The share of attempts that fail by themselves, without any fault, from 0 to 1."""
    failure_code: str = "task_failed"
    """The code that such an attempt fails with."""
    retryable: bool = True
    """Whether such a task may be tried again."""
    result: Any = None
    """The result it reports; None for an object that names the attempt."""

    def __attrs_post_init__(self) -> None:
        if not 0.0 <= self.failure_rate <= 1.0:
            raise ValueError(f"failure_rate is {self.failure_rate}, and has to be from 0 to 1")


@attrs.frozen(kw_only=True)
class AgentModel:
    """A kind of agent, and how many agents of it there are.

    An agent gets its work by push, claims it, or is a function in the node's own process (`local`).

    Raises:
        ValueError: there is no such kind, the count is below 0, `leaving_share` is not from 0 to 1, or
            `report_every_s` is not above 0.
    """

    name: str = "agent"
    """Its id; several of a kind are numbered: `agent-0`, `agent-1` and so on."""
    count: int = attrs.field(default=1, validator=attrs.validators.ge(0))
    """How many agents of this kind there are."""
    kind: Kind = attrs.field(default="push", validator=attrs.validators.in_(("push", "claim", "local")))
    """How its agents get work: `push`, `claim` or `local`."""
    skills: Mapping[str, Skill] = attrs.field(factory=dict)
    """Its skills by capability."""
    default: Skill = Skill()
    """The skill for tasks that name the agent and no capability."""
    joins_at_s: float = 0.0
    """When it registers, in seconds from the beginning, like the other times."""
    leaves_at_s: float | None = None
    """When it disappears, with the work it has in hand; None for never."""
    returns_at_s: float | None = None
    """When it comes back after that; None for never."""
    returns_as: Kind | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.in_(("push", "claim", "local")))
    )
    """Its kind after its return, under the same id; None for the same as before."""
    answers_at_once: float = attrs.field(default=0.0, converter=float)
    """The share of pushes that it answers with the result of its work, instead of reporting it later."""
    leaving_share: float = attrs.field(
        default=1.0, converter=float, validator=(attrs.validators.ge(0.0), attrs.validators.le(1.0))
    )
    """The share of its agents that leave at `leaves_at_s`, rounded to whole agents; the others stay."""
    report_every_s: float = attrs.field(default=30.0, validator=attrs.validators.gt(0.0))
    """How often, in seconds, an idle agent repeats its report and a working one sends a heartbeat. A working agent
    sends them more often if its task requires it: three times within `heartbeatSeconds` and within its lease."""

    def ids(self) -> tuple[str, ...]:
        """Return the ids of its agents."""
        return (self.name,) if self.count == 1 else tuple(f"{self.name}-{number}" for number in range(self.count))

    def leaves(self, agent_id: str) -> bool:
        """Whether this agent is among those that leave.

        Args:
            agent_id: one of `ids`.
        """
        leaving = int(self.leaving_share * self.count + 0.5)
        return self.leaves_at_s is not None and agent_id in self.ids()[:leaving]

    def skill(self, capability: str | None) -> Skill:
        """Return the skill for a capability; the default for None or one that it does not list.

        Args:
            capability: what a task asks for; None if it names the agent.
        """
        return self.skills.get(capability, self.default) if capability is not None else self.default
