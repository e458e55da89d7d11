"""Encoders and counters that live as long as their Python worker.

Spark keeps Python workers across tasks (``spark.python.worker.reuse``), so each worker maps the table and
parses the tokenizer once per model.
"""

from __future__ import annotations

import os
import re
import socket
from functools import lru_cache
from pathlib import Path

import pyarrow as pa

from lakevec.pipeline.corpus.text_counter import TextCounter
from lakevec.pipeline.corpus.tokenizer_files import open_counter
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.node_files import NodeFiles, open_encoder
from lakevec.pipeline.encoding.options import EncodeOptions


@lru_cache(maxsize=4)  # a job uses one model; a session may compare several
def get_encoder(table: NodeFiles, options: EncodeOptions) -> Encoder:
    """Return this worker's encoder of a table."""
    _share_machine()
    return open_encoder(table.provide(), options)


def get_counter(
    tokenizer: NodeFiles, *, longest_phrase: int = 1, counts_bigrams: bool = False
) -> TextCounter:
    """Return this worker's counter of a tokenizer, without earlier counts."""
    counter = _open_counter(tokenizer, longest_phrase, counts_bigrams)
    counter.take()  # drops the counts of a failed task
    return counter


@lru_cache(maxsize=1)
def _open_counter(tokenizer: NodeFiles, longest_phrase: int, counts_bigrams: bool) -> TextCounter:
    _share_machine()
    return open_counter(tokenizer.provide(), longest_phrase, counts_bigrams=counts_bigrams)


def _share_machine() -> None:
    """Leave cores and memory to other task slots."""
    # The tokenizer would start threads of its own.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    # Arrow's own allocators keep 50 MB that a worker has freed.
    if "ARROW_DEFAULT_MEMORY_POOL" not in os.environ:
        pa.set_memory_pool(pa.system_memory_pool())


def forget_encoders() -> None:
    """Forget all encoders and counters, and with them their token caches."""
    get_encoder.cache_clear()
    _open_counter.cache_clear()


def worker_memory() -> dict[str, str | int]:
    """Return ``host``, ``pid`` and memory of this process.

    ``peak_bytes`` is the peak of resident memory, mapped table included. ``own_bytes`` is the private
    resident memory now. Both are 0 on systems other than Linux.
    """
    status = Path("/proc/self/status")
    text = status.read_text() if status.exists() else ""
    kilobytes = dict(re.findall(r"^(VmHWM|RssAnon):\s+(\d+) kB", text, re.MULTILINE))
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "peak_bytes": int(kilobytes.get("VmHWM", 0)) * 1024,
        "own_bytes": int(kilobytes.get("RssAnon", 0)) * 1024,
    }
