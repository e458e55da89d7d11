"""A copy of a tokenizer per node, for counting without a table."""

from __future__ import annotations

from pathlib import Path

from lakevec.pipeline.corpus.text_counter import TextCounter
from lakevec.pipeline.encoding.node_files import NodeFiles, digests, pack_files

_TOKENIZER_FILE = "tokenizer.json"


def pack_tokenizer(tokenizer_json: str, *, node_dir: str | None = None) -> NodeFiles:
    """Pack a tokenizer for `open_counter`, with the machine code compiled on this machine."""
    files = {_TOKENIZER_FILE: tokenizer_json.encode()}
    return pack_files(f"sha256:{digests(files)[_TOKENIZER_FILE]}", files, node_dir)


def open_counter(folder: Path, longest_phrase: int, *, counts_bigrams: bool = False) -> TextCounter:
    """Open a counter on a node's copy of a tokenizer."""
    tokenizer_json = (folder / _TOKENIZER_FILE).read_bytes().decode()
    return TextCounter(tokenizer_json, longest_phrase=longest_phrase, counts_bigrams=counts_bigrams)
