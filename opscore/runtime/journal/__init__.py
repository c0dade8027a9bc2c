"""The journal: rows and their indexes, the single writer of commits, and those who follow it."""
