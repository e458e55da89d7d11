"""The token cache's arrays: an open-addressing hash table of segments, with the token ids of each segment.

Kernels don't grow arrays. A kernel that runs out of room returns a status; the caller grows the array and
calls again.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np

# Kinds of segments in slots. The signature of a short segment is its bytes; that of a long one is
# a hash of them.
EMPTY, SHORT, LONG = range(3)
# Most segments are short and have one token, so their look-up reads one cache line.
SLOT = np.dtype([("signature", np.uint64), ("ref", np.int32), ("kind", np.int32)])
# One segment; fills one cache line.
ENTRY = np.dtype(
    [
        ("signature", np.uint64),
        ("kind", np.int64),
        ("slot", np.int64),
        ("key_start", np.int64),
        ("key_length", np.int64),
        ("token_start", np.int64),
        ("token_count", np.int64),
        ("unknown", np.int64),
    ]
)
_COUNTERS = ("entries", "key_bytes", "tokens", "pending", "output", "row", "place", "character")
_COUNTERS += ("unknown", "unknown_before")
STATE = np.dtype([(name, np.int64) for name in _COUNTERS])
# A segment that the scan found and has yet to look up.
FOUND = np.dtype([("signature", np.uint64), ("start", np.int64), ("length", np.int64)])

# Status of a look-up or a scan.
DONE, FULL_ENTRIES, FULL_KEYS, FULL_TOKENS, FULL_PENDING, FULL_OUTPUT = range(6)
NO_SEGMENT, NOT_PLAIN, NEW_CHARACTER, NEW_LETTER, NOT_UTF8, DOUBTFUL = range(6, 12)


class CacheArrays(NamedTuple):
    """The token cache: known segments and their token ids.

    Parameters
    ----------
    slots : `SLOT` ndarray of shape (power of two,)
        Signature, ref and kind of each segment. There are at least twice as many slots as entries. A ref is
        the index of an entry, or the complement of the token id of a short segment of one token.
    entries : `ENTRY` ndarray of shape (E,)
        One per segment. A pending entry has the token count -1.
    keys : uint8 ndarray
        Bytes of all segments, and eight bytes of padding.
    tokens : int32 ndarray
        Known token ids of all segments.
    pending : int32 ndarray
        Indices of entries that the `tokenizers` library must tokenize.
    output : int32 ndarray
        Token ids of the current texts, in text order; a pending segment has the complement of its ref. If
        `keeps_refs`, the ref of each segment.
    keeps_refs : bool
    found : `FOUND` ndarray of shape (64,)
        Scratch space for the segments of one window.
    state : `STATE` ndarray of shape (1,)
        Used length of each array; the next text (`row`), and the position in its bytes where a scan stopped
        (`place`; 0 for its start); a new character; the number of unknown tokens in the output (`unknown`),
        and in the texts before the current one (`unknown_before`).
    """

    slots: np.ndarray
    entries: np.ndarray
    keys: np.ndarray
    tokens: np.ndarray
    pending: np.ndarray
    output: np.ndarray
    keeps_refs: bool
    found: np.ndarray
    state: np.ndarray


class Segment(NamedTuple):
    """A segment to look up: the bytes ``data[start:start + length]``.

    Parameters
    ----------
    data : uint8 ndarray
        Has at least eight readable bytes after the segment.
    start : int
    length : int
    folds : bool
        Whether the key lowercases ASCII.
    characters : int
        Number of characters of a segment that WordPiece may split here; 0 leaves it to the library.
    is_marked : bool
        Whether the first byte is a marker and not part of the word.
    """

    data: np.ndarray
    start: int
    length: int
    folds: bool
    characters: int
    is_marked: bool
