"""The wire contract: how requests are read and checked, and what answers and errors look like."""
