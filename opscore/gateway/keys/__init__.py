"""API keys: what they allow, and the file that holds them."""
