"""HTTP requests to agents: where they may go, and the attempts that are pushed."""
