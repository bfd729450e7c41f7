"""Measures: each leaves the model as it found it."""
