"""Scores in, a list out; the same code offline and online."""
