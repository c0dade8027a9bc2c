"""Drawings of workflows: the layout of tasks and lines, and the output as text, SVG or Mermaid."""
