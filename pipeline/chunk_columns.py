"""Columns of an output with a row per chunk."""

CHUNK_INDEX, CHUNK_START, CHUNK_END = "chunk_index", "chunk_start", "chunk_end"
CHUNK_TEXT = "chunk_text"
