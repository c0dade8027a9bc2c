"""What AgentKit and a server say to each other: deliveries, the list of agents, the webhook."""
