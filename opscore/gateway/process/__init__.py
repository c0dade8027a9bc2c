"""What a process of opscore shares with its surroundings: logs, the terminal, child processes, memory."""
