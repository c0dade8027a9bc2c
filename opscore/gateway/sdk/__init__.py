"""The SDK: clients of the HTTP contract, and agents that claim."""
