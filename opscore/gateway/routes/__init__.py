"""The routes: the table of them, and what each request does."""
