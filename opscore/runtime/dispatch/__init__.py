"""Dispatch: which task goes to which agent, in what order, within which limits."""
