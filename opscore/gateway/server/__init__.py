"""The HTTP server: its start, drain and end, and what one client may take of it."""
