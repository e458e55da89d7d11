"""Heads: linear models on a table's vectors, which label texts."""
