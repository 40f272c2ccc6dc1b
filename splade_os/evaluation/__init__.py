"""Measures of a ranking."""
