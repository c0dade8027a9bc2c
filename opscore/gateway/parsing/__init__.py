"""Reads JSON and plain YAML, with the place of each value in the text."""
