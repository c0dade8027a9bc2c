"""The agents of a world as models: what they can do, how long it takes, how often it fails, when they are away."""

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
        first: in seconds.
        second: as the shape says.
    """

    shape: Literal["constant", "uniform", "exponential", "lognormal"] = attrs.field(
        default="uniform", validator=attrs.validators.in_(_SHAPES)
    )
    first: float = attrs.field(default=0.1, converter=float, validator=attrs.validators.ge(0.0))
    second: float = attrs.field(default=2.0, converter=float, validator=attrs.validators.ge(0.0))

    def draw(self, rng: random.Random) -> float:
        """One attempt's."""
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
    """How an agent does what one capability asks for."""

    latency: Latency = Latency()
    failure_rate: float = attrs.field(default=0.0, converter=float)
    """The share of attempts that fail for reasons of their own, also where no fault happens."""
    failure_code: str = "task_failed"
    retryable: bool = True
    result: Any = None
    """What it answers; without one, an object that names the attempt."""

    def __attrs_post_init__(self) -> None:
        if not 0.0 <= self.failure_rate <= 1.0:
            raise ValueError(f"failure_rate is {self.failure_rate}, and has to be from 0 to 1")


@attrs.frozen(kw_only=True)
class AgentModel:
    """A kind of agent, and how many there are of it.

    An agent is asked by push, asks by claim, or is a function of the node's own process (`local`).
    """

    name: str = "agent"
    count: int = attrs.field(default=1, validator=attrs.validators.ge(0))
    kind: Kind = attrs.field(default="push", validator=attrs.validators.in_(("push", "claim", "local")))
    skills: Mapping[str, Skill] = attrs.field(factory=dict)
    """What it can do, by capability."""
    default: Skill = Skill()
    """How it does what it is asked for by its id."""
    joins_at_s: float = 0.0
    leaves_at_s: float | None = None
    """When it is gone, with whatever it has in hand."""
    returns_at_s: float | None = None
    returns_as: Kind | None = attrs.field(
        default=None, validator=attrs.validators.optional(attrs.validators.in_(("push", "claim", "local")))
    )
    """How it takes work from then on, under the same id; as before, if not said."""
    answers_at_once: float = attrs.field(default=0.0, converter=float)
    """The share of pushes that it answers with the result of its work, instead of reporting that later."""
    leaving_share: float = attrs.field(
        default=1.0, converter=float, validator=(attrs.validators.ge(0.0), attrs.validators.le(1.0))
    )
    """What share of its agents leaves then, to the nearest whole agent; the others stay."""
    report_every_s: float = attrs.field(default=30.0, validator=attrs.validators.gt(0.0))
    """How often an idle agent says so again, and one at work sends a heartbeat: more often where its task asks for it,
    three times within its `heartbeatSeconds` and its lease."""

    def ids(self) -> tuple[str, ...]:
        """The ids of its agents."""
        return (self.name,) if self.count == 1 else tuple(f"{self.name}-{number}" for number in range(self.count))

    def leaves(self, agent_id: str) -> bool:
        """Whether one of its agents is among those that leave."""
        leaving = int(self.leaving_share * self.count + 0.5)
        return self.leaves_at_s is not None and agent_id in self.ids()[:leaving]

    def skill(self, capability: str | None) -> Skill:
        """How it does what a task asks for."""
        return self.skills.get(capability, self.default) if capability is not None else self.default
