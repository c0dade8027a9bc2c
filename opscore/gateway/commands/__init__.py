"""The `opscore` command: what each of its commands reads, does and prints, and how it ends."""
