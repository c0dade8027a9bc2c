"""Direct push: an attempt is posted to the agent's own contact endpoint."""

import httpx
import trio

from opscore.gateway.outbound import outbound
from opscore.gateway.outbound.contacts import ContactPolicy, ForbiddenContact
from opscore.runtime.delivery import Fact, NotReached
from opscore.runtime.models import Agent, AgentSource, Assignment


class Push:
    """A `Delivery` to contact endpoints.

    Args:
        client: sends the requests; see `outbound.open_client`.
        policy: where endpoints may point.
        timeout_s: how long an agent may take to answer, in seconds.
    """

    def __init__(self, client: httpx.AsyncClient, policy: ContactPolicy, *, timeout_s: float) -> None:
        self._client = client
        self._policy = policy
        self._timeout_s = timeout_s

    def reaches(self, agent: Agent) -> bool:
        """Whether the agent has a contact endpoint."""
        return agent.source is not AgentSource.LOCAL and bool(agent.contact_endpoint)

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Post the attempt to the first of the endpoint's addresses that accepts the connection."""
        try:
            parts, addresses = await self._policy.resolve(agent.contact_endpoint or "")
        except trio.TooSlowError:
            return NotReached(reason="its name could not be looked up in time")
        except (ForbiddenContact, OSError, UnicodeError) as error:
            return NotReached(reason=str(error))
        fact: Fact = NotReached(reason="its name has no address")
        for address in addresses:
            # The request goes to the checked address itself: a second look-up of the name might return another.
            literal = f"[{address}]" if ":" in address else address
            netloc = literal if parts.port is None else f"{literal}:{parts.port}"
            fact = await outbound.post(
                self._client,
                parts._replace(netloc=netloc, fragment="").geturl(),
                outbound.run_message(assignment),
                timeout_s=outbound.answers_within_s(assignment, self._timeout_s),
                headers={"Host": parts.netloc},
                extensions={"sni_hostname": parts.hostname},
            )
            if not isinstance(fact, NotReached):
                return fact
        return fact
