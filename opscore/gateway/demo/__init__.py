"""The demo: a server, three agents and a few runs on this machine, a kill -9 halfway, and nothing lost."""
