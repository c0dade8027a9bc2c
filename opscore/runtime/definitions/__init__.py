"""Workflow documents: what is wrong with them, and the graph of tasks that a run follows."""
