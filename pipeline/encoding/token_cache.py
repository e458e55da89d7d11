"""The token cache of one worker: each distinct segment is tokenized once.

The cache is bounded: over its bounds, it starts empty before the next batch. It changes how fast token ids
come, never which. `kernels.segment_scan` finds the segments.
"""

from __future__ import annotations

from itertools import chain

import numpy as np
from tokenizers import Tokenizer

from lakevec.pipeline.encoding.kernel_tables import add_characters, make_tables
from lakevec.pipeline.encoding.kernels import cache_arrays as layout
from lakevec.pipeline.encoding.kernels.cache_arrays import CacheArrays
from lakevec.pipeline.encoding.kernels.cache_entries import enter_again, fill_slots
from lakevec.pipeline.encoding.kernels.segment_scan import (
    READ_AHEAD,
    Texts,
    scan_bytes,
    scan_spaces,
    scan_words,
)
from lakevec.pipeline.encoding.split_rules import SplitRule
from lakevec.pipeline.errors import DataError

# A call to the library costs 20 µs, so it gets segments in groups. Its output takes about a hundred bytes per
# token, so the groups are bounded.
_GROUP_SEGMENTS = 512
_CALL_SEGMENTS = 32 * _GROUP_SEGMENTS
# Given words, the library records where every token came from. From this length on that costs more than a
# call.
_LONG_BYTES = 64

_FIRST_ENTRIES = 1 << 14
_FULL_ARRAYS = {
    layout.FULL_KEYS: "keys",
    layout.FULL_TOKENS: "tokens",
    layout.FULL_PENDING: "pending",
    layout.FULL_REFS: "segment_refs",
}


class TokenCache:
    """Split texts into segments, and return each segment's token ids.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
        Without truncation and padding.
    rule : SplitRule
        The tokenizer's.
    unknown_token_id : int or None
        Token that is counted and left out.
    most_entries : int, default=2**18
        Most segments to keep.
    most_key_bytes : int, default=2**23
        Most bytes of segments to keep.

    Notes
    -----
    The bounds hold between batches; within a batch, the cache grows with its texts. At the default bounds it
    takes 64 bytes an entry, the segment and 4 bytes a token: about 30 MB.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        rule: SplitRule,
        unknown_token_id: int | None,
        *,
        most_entries: int = 1 << 18,
        most_key_bytes: int = 1 << 23,
    ) -> None:
        self._tokenizer = tokenizer
        self._unknown = -1 if unknown_token_id is None else unknown_token_id
        self._most_entries = most_entries
        self._most_key_bytes = most_key_bytes
        self._tables = make_tables(tokenizer, rule, unknown_token_id)
        self._arrays = _make_arrays()
        self._generation = 0

    @property
    def generation(self) -> int:
        """Number of restarts. Entries of two generations are different segments."""
        return self._generation

    @property
    def entries(self) -> int:
        """Number of segments in the cache."""
        return int(self._arrays.state[layout.ENTRIES])

    @property
    def arrays(self) -> CacheArrays:
        """The cache's arrays; `segment_refs` refers to the segments of the last texts."""
        return self._arrays

    def tokenize(self, data: np.ndarray, offsets: np.ndarray, is_null: np.ndarray) -> np.ndarray:
        """Split texts into segments, and tokenize new ones.

        Parameters
        ----------
        data : uint8 ndarray
            UTF-8 of all texts.
        offsets : int64 ndarray of shape (N + 1,)
            Text n is ``data[offsets[n]:offsets[n + 1]]``.
        is_null : bool ndarray of shape (N,)
            Texts to leave out.

        Returns
        -------
        int64 ndarray of shape (N + 1,)
            Text n has ``arrays.segment_refs[ends[n]:ends[n + 1]]``.

        Raises
        ------
        DataError
            If a segment is not valid UTF-8.
        """
        state = self._arrays.state
        if state[layout.ENTRIES] > self._most_entries or state[layout.KEY_BYTES] > self._most_key_bytes:
            self._start_again()
        self._arrays.state[[layout.REFS, layout.ROW, layout.PLACE]] = 0
        row_ends = np.zeros(len(is_null) + 1, dtype=np.int64)
        if len(data) < offsets[-1] + READ_AHEAD:
            data, offsets = _make_room(data, offsets)
        try:
            self._scan(Texts(data, offsets, is_null, row_ends))
            self._tokenize_pending()
        except BaseException:
            # Pending entries never get their ids now, so no later text may find them.
            self._start_again()
            raise
        return row_ends

    def segments(self, first: int) -> list[bytes]:
        """Return the segments of all entries from `first` on, as their keys.

        A normalized word that is not ASCII begins with `unicode_words.NORMALIZED`. A word that is too long
        for its tokenizer is that byte alone.
        """
        arrays = self._arrays
        starts = arrays.entries[first : self.entries, layout.KEY_START]
        ends = starts + arrays.entries[first : self.entries, layout.KEY_LENGTH]
        if not len(starts):
            return []
        base = int(starts.min())
        keys = arrays.keys[base : int(ends.max())].tobytes()
        return [keys[start:end] for start, end in zip(starts - base, ends - base, strict=True)]

    def _start_again(self) -> None:
        self._arrays = _make_arrays()
        self._generation += 1

    def _scan(self, texts: Texts) -> None:
        longest = int(np.diff(texts.offsets).max(initial=0)) + READ_AHEAD
        while self._arrays.state[layout.ROW] < len(texts.is_null):
            status = self._scan_some(texts)
            if status == layout.NEW_CHARACTER:
                new = int(self._arrays.state[layout.CHARACTER])
                characters = add_characters(self._tables.characters, self._tokenizer, new)
                self._tables = self._tables._replace(characters=characters)
            elif status == layout.NOT_UTF8:
                raise not_utf8()
            elif status != layout.DONE:
                self._arrays = _grow(self._arrays, status, longest)

    def _scan_some(self, texts: Texts) -> int:
        """Scan until all texts are done, or the caller has to act first."""
        split = self._tables.split
        if split.keeps_space:
            return int(scan_spaces(texts, self._tables, self._arrays))
        status = int(scan_words(texts, self._tables, self._arrays))
        if status == layout.NOT_PLAIN:
            # If splits need ASCII, the cause is another script, and the following texts will be the same.
            is_one = split.has_plain_words and not split.needs_ascii
            last = int(self._arrays.state[layout.ROW]) + 1 if is_one else len(texts.is_null)
            status = int(scan_bytes(texts, self._tables, self._arrays, last))
        return status

    def _tokenize_pending(self) -> None:
        """Let the library tokenize pending segments, and keep their known ids."""
        state = self._arrays.state
        pending = self._arrays.pending[: state[layout.PENDING]]
        is_long = self._arrays.entries[pending, layout.KEY_LENGTH] >= _LONG_BYTES
        for chosen, tokenize in (
            (pending[~is_long], self._tokenize_short),
            (pending[is_long], self._tokenize_long),
        ):
            for first in range(0, len(chosen), _CALL_SEGMENTS):
                some = chosen[first : first + _CALL_SEGMENTS]
                self._keep_tokens(some, *tokenize(self._to_strings(some)))
        state[layout.PENDING] = 0

    def _tokenize_short(self, strings: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenize segments as the words of a few texts; return ids, and the segment of each."""
        groups = [
            strings[first : first + _GROUP_SEGMENTS] for first in range(0, len(strings), _GROUP_SEGMENTS)
        ]
        encodings = self._tokenizer.encode_batch(groups, is_pretokenized=True, add_special_tokens=False)
        ids = np.concatenate([np.array(encoding.ids, dtype=np.int32) for encoding in encodings])
        segments = [
            np.array(encoding.word_ids, dtype=np.int64) + number * _GROUP_SEGMENTS
            for number, encoding in enumerate(encodings)
        ]
        return ids, np.concatenate(segments)

    def _tokenize_long(self, strings: list[str]) -> tuple[np.ndarray, np.ndarray]:
        """Tokenize segments as texts; return ids, and the segment of each."""
        encodings = self._tokenizer.encode_batch_fast(strings, add_special_tokens=False)
        per_segment = [encoding.ids for encoding in encodings]
        counts = np.fromiter(map(len, per_segment), dtype=np.int64, count=len(per_segment))
        ids = np.fromiter(chain.from_iterable(per_segment), dtype=np.int32, count=int(counts.sum()))
        return ids, np.repeat(np.arange(len(strings)), counts)

    def _keep_tokens(self, chosen: np.ndarray, ids: np.ndarray, segment: np.ndarray) -> None:
        """Append the known ids of entries."""
        known = ids != self._unknown
        counts = np.bincount(segment[known], minlength=len(chosen))
        ids = ids[known]
        used = int(self._arrays.state[layout.TOKENS])
        if used + len(ids) > len(self._arrays.tokens):
            self._arrays = _grow(self._arrays, layout.FULL_TOKENS, len(ids))
        arrays = self._arrays
        arrays.tokens[used : used + len(ids)] = ids
        starts = np.cumsum(counts) - counts
        arrays.entries[chosen, layout.TOKEN_START] = used + starts
        arrays.entries[chosen, layout.UNKNOWN] = np.bincount(segment[~known], minlength=len(chosen))
        arrays.entries[chosen, layout.TOKEN_COUNT] = counts
        arrays.state[layout.TOKENS] = used + len(ids)
        enter_again(chosen, arrays)

    def _to_strings(self, chosen: np.ndarray) -> list[str]:
        """Decode the keys of entries."""
        starts = self._arrays.entries[chosen, layout.KEY_START]
        ends = starts + self._arrays.entries[chosen, layout.KEY_LENGTH]
        first = int(starts[0])  # entries are made in the order of their keys
        keys = self._arrays.keys[first : int(ends[-1])].tobytes()
        try:
            return [keys[start:end].decode() for start, end in zip(starts - first, ends - first, strict=True)]
        except UnicodeDecodeError:
            # The original error quotes the text's bytes, so it is not chained.
            raise not_utf8() from None


def not_utf8() -> DataError:
    """Return the error for a text that is not valid UTF-8."""
    return DataError(
        "a text is not valid UTF-8",
        expected="valid UTF-8 in every row",
        remedy="clean the column first, for example with Spark's make_valid_utf8(column)",
    )


def _make_room(data: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Copy texts that end at their buffer's end, since the scan reads ahead."""
    first, last = int(offsets[0]), int(offsets[-1])
    copy = np.zeros(last - first + READ_AHEAD, dtype=np.uint8)
    copy[: last - first] = data[first:last]
    moved = offsets - first
    copy.flags.writeable = moved.flags.writeable = False
    return copy, moved


def _make_arrays() -> CacheArrays:
    return CacheArrays(
        slots=np.full((2 * _FIRST_ENTRIES, 2), -1, dtype=np.int64),
        entries=np.empty((_FIRST_ENTRIES, 8), dtype=np.int64),
        keys=np.empty(8 * _FIRST_ENTRIES, dtype=np.uint8),
        tokens=np.empty(2 * _FIRST_ENTRIES, dtype=np.int32),
        pending=np.empty(_FIRST_ENTRIES, dtype=np.int32),
        segment_refs=np.empty(1 << 16, dtype=np.int32),
        state=np.zeros(8, dtype=np.int64),
    )


def _grow(arrays: CacheArrays, full: int, more: int) -> CacheArrays:
    """Return the cache with its full array doubled, or with room for `more`."""
    if full == layout.FULL_ENTRIES:
        entries = _longer(arrays.entries, 0)
        arrays = arrays._replace(entries=entries, slots=np.full((2 * len(entries), 2), -1, dtype=np.int64))
        fill_slots(arrays)
        return arrays
    # Only these two need room for whole texts.
    more = more if full in (layout.FULL_KEYS, layout.FULL_TOKENS) else 0
    name = _FULL_ARRAYS[full]
    return arrays._replace(**{name: _longer(getattr(arrays, name), more)})


def _longer(array: np.ndarray, more: int) -> np.ndarray:
    result = np.empty((max(2 * len(array), len(array) + more), *array.shape[1:]), dtype=array.dtype)
    result[: len(array)] = array
    return result
