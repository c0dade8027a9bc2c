"""The settings of a server: how they are declared, written and read."""
