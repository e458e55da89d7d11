"""The token cache of one worker: each distinct segment is tokenized once.

The cache is bounded. If it exceeds its bounds, it is emptied before the next batch. It changes the speed,
never the token ids. `kernels.segment_scan` finds the segments.
"""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from itertools import chain
from typing import Any

import numpy as np
import pyarrow as pa
from tokenizers import Tokenizer

from lakevec.pipeline.arrow_arrays import null_mask
from lakevec.pipeline.encoding.added_token_tables import add_letters, make_added_tokens
from lakevec.pipeline.encoding.kernel_tables import add_characters, make_tables
from lakevec.pipeline.encoding.kernels import cache_arrays as layout
from lakevec.pipeline.encoding.kernels.cache_arrays import CacheArrays
from lakevec.pipeline.encoding.kernels.cache_entries import place_entries, update_slots
from lakevec.pipeline.encoding.kernels.segment_scan import READ_AHEAD, Texts, scan_bytes, scan_words
from lakevec.pipeline.encoding.kernels.simd import WINDOW
from lakevec.pipeline.encoding.kernels.word_models import WordModels, split_pending
from lakevec.pipeline.encoding.split_rules import SplitRule
from lakevec.pipeline.encoding.word_model_tables import add_block, make_models
from lakevec.pipeline.errors import DataError

# A call to the library costs 20 µs, so a call gets many segments. Its output takes about a hundred bytes per
# token, so their number is bounded.
_GROUP_SEGMENTS = 512
_CALL_SEGMENTS = 32 * _GROUP_SEGMENTS
# The library records the origin of each token of a word. From this length on, that costs more than a call.
_LONG_BYTES = 64

_FIRST_ENTRIES = 1 << 14
# An emptied cache keeps its arrays: clearing takes less time than growing. Those of huge texts are freed.
_MOST_KEPT_BYTES = 1 << 25
_FULL_ARRAYS = {
    layout.FULL_KEYS: "keys",
    layout.FULL_TOKENS: "tokens",
    layout.FULL_PENDING: "pending",
    layout.FULL_OUTPUT: "output",
}


class TokenCache:
    """Split texts into segments, and return each segment's token ids.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Without truncation and padding.
    rule : SplitRule
        Split rule of the tokenizer.
    unknown_token_id : int or None
        Token to count and to leave out.
    most_entries : int, default=7 * 2**14
        Maximum number of segments. The default leaves room for one more batch below 2**17, where the arrays
        would double just before they are emptied.
    most_key_bytes : int, default=2**23
        Maximum number of bytes of all segments.
    keeps_refs : bool, default=False
        Return refs to segments in place of token ids, to count both.

    Attributes
    ----------
    arrays : CacheArrays
        `output` has the token ids of the last texts, or refs to their segments.
    row_ends : int64 ndarray of shape (N + 1,)
        Text n of the last texts has ``arrays.output[row_ends[n]:row_ends[n + 1]]``.
    had_pending : bool
        Whether the library tokenized segments of the last texts. The output has refs for them.
    generation : int
        Number of restarts. Entries of two generations are different segments.

    Notes
    -----
    The bounds hold between batches; within a batch, the cache grows with its texts. At the default bounds it
    takes 64 bytes an entry, the segment and 4 bytes a token: about 15 MB.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        rule: SplitRule,
        unknown_token_id: int | None,
        *,
        most_entries: int = 7 << 14,
        most_key_bytes: int = 1 << 23,
        keeps_refs: bool = False,
    ) -> None:
        self._tokenizer = tokenizer
        self._unknown = -1 if unknown_token_id is None else unknown_token_id
        self._most_entries = most_entries
        self._most_key_bytes = most_key_bytes
        self.joins_words = rule.joins_words
        self._tables = make_tables(tokenizer, rule, unknown_token_id)
        self._added = make_added_tokens(tokenizer, rule) if rule.phrases else None
        self._models = make_models(tokenizer, rule, unknown_token_id)
        self.arrays = _make_arrays(keeps_refs)
        self.row_ends = np.zeros(1, dtype=np.int64)
        self.had_pending = False
        self.generation = 0

    def __len__(self) -> int:
        """Return the number of segments in the cache."""
        return int(self.arrays.state["entries"][0])

    def tokenize(self, texts: pa.LargeStringArray) -> None:
        """Split texts into segments, and tokenize new ones; raise DataError if one is not valid UTF-8."""
        is_full = self.arrays.state["key_bytes"][0] > self._most_key_bytes
        if is_full or len(self) > self._most_entries:
            self._start_again()
        for name in ("output", "row", "place", "unknown", "unknown_before"):
            self.arrays.state[name] = 0
        self.row_ends = np.zeros(len(texts) + 1, dtype=np.int64)
        data, offsets = raw_buffers(texts)
        if len(data) < offsets[-1] + READ_AHEAD:
            data, offsets = _make_room(data, offsets)
        is_null = null_mask(texts)
        try:
            self._scan(Texts(data, offsets, is_null, self.row_ends))
            self.had_pending = bool(self.arrays.state["pending"][0])
            if self._models is not None:
                self._split_pending(self._models)
            self._tokenize_pending()
        except BaseException:
            # Pending entries have no ids, so no later text may find them.
            self._start_again()
            raise

    def segments(self, first: int) -> list[bytes]:
        """Return the segments of all entries from `first` on, as their keys.

        A normalized word that is not ASCII begins with `unicode_words.NORMALIZED`. A word that is too long
        for its tokenizer is that byte alone.
        """
        return self._keys(slice(first, len(self)))

    def _keys(self, chosen: np.ndarray | slice) -> list[bytes]:
        """Return the keys of entries in ascending order."""
        entries = self.arrays.entries[chosen]
        if not len(entries):
            return []
        starts, ends = entries["key_start"], entries["key_start"] + entries["key_length"]
        base = int(starts[0])
        keys = self.arrays.keys[base : int(ends[-1])].tobytes()
        return [keys[start:end] for start, end in zip(starts - base, ends - base, strict=True)]

    def _start_again(self) -> None:
        if sum(array.nbytes for array in self.arrays if isinstance(array, np.ndarray)) > _MOST_KEPT_BYTES:
            self.arrays = _make_arrays(self.arrays.keeps_refs)
        else:
            self.arrays.slots.view(np.uint8)[:] = 0
            self.arrays.state.view(np.uint8)[:] = 0
        self.generation += 1

    def _scan(self, texts: Texts) -> None:
        longest = int(np.diff(texts.offsets).max(initial=0)) + READ_AHEAD
        while self.arrays.state["row"][0] < len(texts.is_null):
            status = self._scan_some(texts)
            if status == layout.NEW_CHARACTER:
                new = int(self.arrays.state["character"][0])
                characters = add_characters(self._tables.characters, self._tokenizer, new)
                self._tables = self._tables._replace(characters=characters)
            elif status == layout.NEW_LETTER and self._added is not None:
                new = int(self.arrays.state["character"][0])
                self._added = add_letters(self._added, self._tokenizer, new)
            elif status == layout.NOT_UTF8:
                raise _not_utf8()
            elif status != layout.DONE:
                self.arrays = _grow(self.arrays, status, longest)

    def _scan_some(self, texts: Texts) -> int:
        """Scan texts until all are done, or until the caller must act; return the status."""
        split, last = self._tables.split, len(texts.is_null)
        if not split.keeps_space:
            status = int(scan_words(texts, self._tables, self._added, self.arrays))
            if status != layout.NOT_PLAIN:
                return status
            # If splits need ASCII, the cause is another script, and the following texts will be the same.
            if split.has_plain_words and not split.needs_ascii:
                last = int(self.arrays.state["row"][0]) + 1
        return int(scan_bytes(texts, self._tables, self._added, self.arrays, last))

    def _split_pending(self, models: WordModels) -> None:
        """Tokenize pending segments, but those that are left to the library."""
        first = left = 0
        while first < self.arrays.state["pending"][0]:
            first, left, status = split_pending(first, left, models, self.arrays)
            if status == layout.NEW_CHARACTER:
                new = int(self.arrays.state["character"][0])
                models = models._replace(letters=add_block(models.letters, self._tokenizer, new))
            elif status == layout.FULL_TOKENS:
                self.arrays = _grow(self.arrays, status, 0)
        self._models = models
        self.arrays.state["pending"] = left

    def _tokenize_pending(self) -> None:
        """Let the library tokenize pending segments, and keep their known ids."""
        pending = self.arrays.pending[: self.arrays.state["pending"][0]]
        is_long = self.arrays.entries["key_length"][pending] >= _LONG_BYTES
        for chosen, tokenize in ((pending[~is_long], _encode_words), (pending[is_long], encode_texts)):
            for first in range(0, len(chosen), _CALL_SEGMENTS):
                some = chosen[first : first + _CALL_SEGMENTS]
                with refuse_invalid_utf8():
                    strings = [key.decode() for key in self._keys(some)]
                self._keep_tokens(some, *tokenize(self._tokenizer, strings))
        self.arrays.state["pending"] = 0

    def _keep_tokens(self, chosen: np.ndarray, ids: np.ndarray, segment: np.ndarray) -> None:
        """Store the known ids of entries; `segment` is the index in `chosen` of each id."""
        known = ids != self._unknown
        counts = np.bincount(segment[known], minlength=len(chosen))
        ids = ids[known]
        used = int(self.arrays.state["tokens"][0])
        if used + len(ids) > len(self.arrays.tokens):
            self.arrays = _grow(self.arrays, layout.FULL_TOKENS, len(ids))
        arrays = self.arrays
        arrays.tokens[used : used + len(ids)] = ids
        starts = np.cumsum(counts) - counts
        arrays.entries["token_start"][chosen] = used + starts
        arrays.entries["token_count"][chosen] = counts
        arrays.entries["unknown"][chosen] = np.bincount(segment[~known], minlength=len(chosen))
        arrays.state["tokens"] = used + len(ids)
        update_slots(chosen, arrays)


def _encode_words(tokenizer: Tokenizer, words: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tokenize segments as the words of a few texts; return ids (int32), and the index of each one's word."""
    groups = [words[first : first + _GROUP_SEGMENTS] for first in range(0, len(words), _GROUP_SEGMENTS)]
    encodings = tokenizer.encode_batch(groups, is_pretokenized=True, add_special_tokens=False)
    ids = np.concatenate([np.array(encoding.ids, dtype=np.int32) for encoding in encodings])
    indices = [
        np.array(encoding.word_ids, dtype=np.int64) + number * _GROUP_SEGMENTS
        for number, encoding in enumerate(encodings)
    ]
    return ids, np.concatenate(indices)


def encode_texts(tokenizer: Tokenizer, texts: list[str]) -> tuple[np.ndarray, np.ndarray]:
    """Tokenize whole texts; return ids (int32), and the index of each one's text."""
    encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
    per_text = [encoding.ids for encoding in encodings]
    indices = np.repeat(np.arange(len(texts)), list(map(len, per_text)))
    return np.fromiter(chain.from_iterable(per_text), dtype=np.int32, count=len(indices)), indices


@contextmanager
def refuse_invalid_utf8() -> Iterator[None]:
    """Raise DataError for a text that is not valid UTF-8."""
    try:
        yield
    except UnicodeDecodeError:
        # The original error quotes the text's bytes, so it is not chained.
        raise _not_utf8() from None


def _not_utf8() -> DataError:
    """Return the error for a text that is not valid UTF-8."""
    return DataError(
        "a text is not valid UTF-8",
        expected="valid UTF-8 in every row",
        remedy="clean the column first, for example with Spark's make_valid_utf8(column)",
    )


def raw_buffers(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return an array's bytes (uint8) and offsets (int64, N + 1).

    Both are read-only: one type means one compilation.
    """
    _, offsets, data = texts.buffers()
    bounds = np.frombuffer(offsets, dtype=np.int64)[texts.offset : texts.offset + len(texts) + 1]
    content = np.frombuffer(data if data else b"\0", dtype=np.uint8)
    bounds.flags.writeable = content.flags.writeable = False
    return content, bounds


def _make_room(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Copy texts to a buffer with padding, since the scan reads ahead."""
    first, last = int(offsets[0]), int(offsets[-1])
    copy = np.zeros(last - first + READ_AHEAD, dtype=np.uint8)
    copy[: last - first] = data[first:last]
    moved = offsets - first
    copy.flags.writeable = moved.flags.writeable = False
    return copy, moved


def _make_arrays(keeps_refs: bool) -> CacheArrays:
    return CacheArrays(
        slots=np.zeros(2 * _FIRST_ENTRIES, dtype=layout.SLOT),
        entries=np.zeros(_FIRST_ENTRIES, dtype=layout.ENTRY),
        keys=np.empty(8 * _FIRST_ENTRIES, dtype=np.uint8),
        tokens=np.empty(2 * _FIRST_ENTRIES, dtype=np.int32),
        pending=np.empty(_FIRST_ENTRIES, dtype=np.int32),
        output=np.empty(1 << 16, dtype=np.int32),
        keeps_refs=keeps_refs,
        found=np.empty(WINDOW, dtype=layout.FOUND),
        state=np.zeros(1, dtype=layout.STATE),
    )


def _grow(arrays: CacheArrays, full: int, more: int) -> CacheArrays:
    """Return the cache with its full array doubled, or extended by `more` elements if that is more."""
    if full == layout.FULL_ENTRIES:
        entries = _longer(arrays.entries, 0)
        arrays = arrays._replace(entries=entries, slots=np.zeros(2 * len(entries), dtype=layout.SLOT))
        place_entries(arrays)
        return arrays
    # These need room for whole texts.
    more = more if full in (layout.FULL_KEYS, layout.FULL_TOKENS, layout.FULL_OUTPUT) else 0
    name = _FULL_ARRAYS[full]
    longer: dict[str, Any] = {name: _longer(getattr(arrays, name), more)}
    return arrays._replace(**longer)


def _longer(array: np.ndarray, more: int) -> np.ndarray:
    length = max(2 * len(array), len(array) + more)
    result = np.empty((length, *array.shape[1:]), dtype=array.dtype)
    result[: len(array)] = array
    return result
