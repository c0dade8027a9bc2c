"""The calls that a node offers, by what they are about."""
