"""Everything that touches a socket, the environment or a terminal: HTTP, delivery, the SDK, the command line."""
