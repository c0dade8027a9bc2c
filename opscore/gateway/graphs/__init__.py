"""Workflows drawn: where tasks and lines lie, and the picture as text, SVG or Mermaid."""
