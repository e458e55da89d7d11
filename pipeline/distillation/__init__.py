"""Distillation of a Sentence Transformer into an embedding table; requires torch."""
