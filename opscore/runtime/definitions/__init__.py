"""Workflow documents: their validation, and the graph of tasks that a run follows."""
