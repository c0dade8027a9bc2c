"""Agents, sessions, tasks, and their durability: the domain, without sockets, environment variables or terminals."""
