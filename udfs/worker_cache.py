"""Encoders and counters that live as long as their Python worker.

Spark keeps Python workers across tasks (``spark.python.worker.reuse``), so each worker maps the table and
parses the tokenizer once per model.
"""

from __future__ import annotations

import os
import re
import socket
from collections import OrderedDict
from collections.abc import Callable, Hashable
from pathlib import Path
from typing import Generic, TypeVar

from lakevec.pipeline.corpus.text_counter import TextCounter
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.udfs.node_files import NodeFiles, open_counter, open_encoder

T = TypeVar("T")


class WorkerCache(Generic[T]):
    """The `size` most recently used values."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._values: OrderedDict[Hashable, T] = OrderedDict()

    def get(self, key: Hashable, make: Callable[[], T]) -> T:
        """Return the value of a key; make it if it is missing."""
        if key not in self._values:
            self._values[key] = make()
            if len(self._values) > self._size:
                self._values.popitem(last=False)
        self._values.move_to_end(key)
        return self._values[key]

    def clear(self) -> None:
        """Forget all values."""
        self._values.clear()


# A job uses one model. The limit is for sessions that compare models.
_encoders: WorkerCache[Encoder] = WorkerCache(4)
_counters: WorkerCache[TextCounter] = WorkerCache(1)


def get_encoder(table: NodeFiles, options: EncodeOptions) -> Encoder:
    """Return this worker's encoder of a table."""
    _use_one_core()
    return _encoders.get((table.fingerprint, options), lambda: open_encoder(table.provide(), options))


def get_counter(tokenizer: NodeFiles, *, longest_phrase: int = 1) -> TextCounter:
    """Return this worker's counter of a tokenizer, without earlier counts."""
    _use_one_core()
    key = (tokenizer.fingerprint, longest_phrase)
    counter = _counters.get(key, lambda: open_counter(tokenizer.provide(), longest_phrase))
    counter.take()  # drops the counts of a failed task
    return counter


def _use_one_core() -> None:
    """Keep the tokenizer's own threads off the cores of other task slots."""
    os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")


def forget_encoders() -> None:
    """Forget all encoders and counters, and with them their token caches."""
    _encoders.clear()
    _counters.clear()


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
