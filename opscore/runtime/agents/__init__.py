"""Agents: what they are, what they report, who is free, what they hold, and how they are reached."""
