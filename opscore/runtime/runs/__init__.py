"""Workflow runs: what happens to them, decided in pure functions, and the actor of each run that has work in flight."""
