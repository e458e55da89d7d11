"""The segments of 64 bytes of text at once: bit masks of the kinds of bytes tell where they begin and end."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.encoding.kernels.cache_arrays import LONG, SHORT, CacheArrays, Segment
from lakevec.pipeline.encoding.kernels.cache_entries import sign
from lakevec.pipeline.encoding.kernels.compilation import compile_inline
from lakevec.pipeline.encoding.kernels.packed_bytes import slot_of, trailing_zeros
from lakevec.pipeline.encoding.kernels.segment_ends import LITERAL, SplitTables, may_be_literal
from lakevec.pipeline.encoding.kernels.simd import WINDOW, classify_window, fetch_element
from lakevec.pipeline.encoding.kernels.unicode_words import UNMARKED

_NONE, _ONE, _LAST = np.uint64(0), np.uint64(1), np.uint64(1 << 63)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@compile_inline
def find_segments(
    data: np.ndarray, bounds: tuple[int, int, int], split: SplitTables, cache: CacheArrays
) -> tuple[int, int, int]:
    """Find the segments of a window, and fetch their slots, since waiting for each slot in turn takes longer.

    Returns
    -------
    count : int
        Number of segments in ``cache.found``; -1 if the text needs `scan_bytes`.
    special : int
        Where a segment follows that must be read character by character; -1 if none does.
    position : int
        Where the next window begins if none does.
    """
    window, stop, end = bounds
    inside = min(stop - window, WINDOW)
    position, count, special = window + inside, np.int64(0), np.int64(-1)
    runs, isolated, others = _find_runs(data, window, inside, split)
    if not split.has_plain_words or (others and split.needs_ascii):
        count = np.int64(-1)
    begins = (runs & ~(runs << _ONE)) | isolated
    while begins and count >= 0:
        offset = trailing_zeros(begins)
        start, length = window + np.int64(offset), np.int64(1)
        signature = np.uint64(data[start])
        if (isolated >> offset) & _ONE:
            if split.classes[data[start]] & LITERAL and may_be_literal(data, start, end, split):
                count = np.int64(-1)
                break
        else:
            run = trailing_zeros(~(runs >> offset) | _LAST)
            if offset + run >= WINDOW - 1 and inside == WINDOW and offset > 0:
                position = start  # the next window contains more of it
                break
            # Not a word up to the end of the last window: it may be an added token.
            if run >= WINDOW - 1 or (others >> offset) & ((_ONE << run) - _ONE):
                special = start
                break
            length = np.int64(run)
            segment = Segment(data, start, length, split.folds, length, UNMARKED)
            signature = sign(segment, LONG if length > 8 else SHORT)
        fetch_element(cache.slots, slot_of(signature, len(cache.slots)))
        found = cache.found[count]
        found.signature, found.start, found.length = signature, start, length
        count += 1
        begins &= begins - _ONE
    return count, special, position


@compile_inline
def _find_runs(data: np.ndarray, position: int, inside: int, split: SplitTables) -> tuple[int, int, int]:
    """Return masks of a window: words, isolated characters, and bytes that are not plain."""
    letters, printable, white = classify_window(data, position)
    here = _ALL if inside == WINDOW else (_ONE << np.uint64(inside)) - _ONE
    others = ~(printable | white) & here
    if split.isolates:
        return (letters | others) & here, printable & ~letters & here, others
    return (printable | others) & here, _NONE, others
