"""Delivery through AgentKit, which forwards an attempt to the agents that it introduced."""

from urllib.parse import quote

import httpx

from opscore.gateway.outbound import outbound
from opscore.runtime.delivery import Fact
from opscore.runtime.models import Agent, AgentSource, Assignment


class AgentKit:
    """A `Delivery` to AgentKit's agents.

    Args:
        client: sends the requests; see `outbound.open_client`.
        base_url: `AGENTKIT_API_URL`; trusted, because the operator set it.
        timeout_s: how long AgentKit and the agent behind it may take to answer, in seconds.
    """

    def __init__(self, client: httpx.AsyncClient, base_url: str, *, timeout_s: float) -> None:
        self._client = client
        self._base_url = base_url.rstrip("/")
        self._timeout_s = timeout_s

    def reaches(self, agent: Agent) -> bool:
        """Whether AgentKit introduced the agent."""
        return agent.source is AgentSource.AGENTKIT

    async def deliver(self, assignment: Assignment, agent: Agent) -> Fact:
        """Post the attempt to AgentKit."""
        url = f"{self._base_url}/v1/agents/{quote(agent.agent_id, safe='')}/run"
        timeout_s = outbound.answers_within_s(assignment, self._timeout_s)
        return await outbound.post(self._client, url, outbound.run_message(assignment), timeout_s=timeout_s)
