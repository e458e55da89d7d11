"""Compiled loops over arrays; they import no other part of the encoder."""
