"""Tuning of a table to its teacher's vectors of a lake's texts; only training requires torch."""
