"""Draws worlds from a seed alone: plain ones, and those that lead straight to trouble that chance seldom reaches."""
