"""Encoders that live as long as their Python worker.

Spark keeps Python workers across tasks (``spark.python.worker.reuse``), so the mapping of the table and the
parsed tokenizer are made once per worker and model. Memory: one tokenizer per model; the table's pages are
shared by all workers of a node.
"""

from __future__ import annotations

import os
import re
import socket
from collections import OrderedDict
from collections.abc import Callable
from pathlib import Path

from lakevec.pipeline.corpus.text_counter import TextCounter
from lakevec.pipeline.encoding.encoder import Encoder, Store
from lakevec.udfs.node_files import NodeFiles

# A job uses one model; a session that compares models should not grow without end.
_MOST_MODELS = 4
_encoders: OrderedDict[tuple[str, int | None, Store], Encoder] = OrderedDict()
_counters: dict[tuple[str, int], TextCounter] = {}


def get_encoder(
    table: NodeFiles,
    fetch: Callable[[], dict[str, bytes]],
    *,
    max_tokens: int | None = None,
    store: Store = "mean",
) -> Encoder:
    """Return this worker's encoder of a model, made at its first use.

    Parameters
    ----------
    table : NodeFiles
    fetch : callable
        Returns the table's files and the machine code; called only where the node lacks some.
    max_tokens : int, optional
        Embed only the first `max_tokens` known tokens.
    store : {"mean", "sum"}, default="mean"

    Returns
    -------
    Encoder
    """
    # A task slot is one core; the tokenizer's own threads would take the other slots' cores.
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    key = (table.fingerprint, max_tokens, store)
    if key not in _encoders:
        _encoders[key] = table.open(fetch, max_tokens=max_tokens, store=store)
        while len(_encoders) > _MOST_MODELS:
            _encoders.popitem(last=False)
    _encoders.move_to_end(key)
    return _encoders[key]


def get_counter(
    tokenizer: NodeFiles, fetch: Callable[[], dict[str, bytes]], *, longest_phrase: int = 1
) -> TextCounter:
    """Return this worker's counter by a tokenizer, made at its first use; what it had counted is dropped.

    Parameters
    ----------
    tokenizer : NodeFiles
        From `lakevec.udfs.node_files.pack_tokenizer`.
    fetch : callable
        As for `get_encoder`.
    longest_phrase : int, default=1

    Returns
    -------
    TextCounter
    """
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")
    key = (tokenizer.fingerprint, longest_phrase)
    if key not in _counters:
        _counters.clear()
        _counters[key] = tokenizer.open_counter(fetch, longest_phrase=longest_phrase)
    _counters[key].take()  # of a task that failed
    return _counters[key]


def forget_encoders() -> None:
    """Forget all encoders and counters, and with them what their memos hold."""
    _encoders.clear()
    _counters.clear()


def worker_memory() -> dict[str, str | int]:
    """Say which process this is and how much memory it has taken.

    Returns
    -------
    dict
        ``host``, ``pid``; ``peak_bytes``, the most memory that was resident, the mapped table included;
        ``own_bytes``, what is resident now and shared with nobody. Both are 0 where Linux doesn't tell.
    """
    memory = {"VmHWM": 0, "RssAnon": 0}
    status = Path("/proc/self/status")
    if status.exists():
        found = dict(re.findall(r"^(VmHWM|RssAnon):\s+(\d+) kB", status.read_text(), re.MULTILINE))
        memory |= {key: int(value) * 1024 for key, value in found.items()}
    return {
        "host": socket.gethostname(),
        "pid": os.getpid(),
        "peak_bytes": memory["VmHWM"],
        "own_bytes": memory["RssAnon"],
    }
