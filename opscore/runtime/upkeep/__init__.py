"""Upkeep: what is removed when its time is over, and what is done to a store beside its server."""
