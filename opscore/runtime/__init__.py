"""Agents, sessions, tasks, and their durability: the domain, with no socket, environment or terminal in it."""
