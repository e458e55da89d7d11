"""Compiled loops over arrays; no other part of the encoder is imported here."""
