"""Split long texts into chunks of at most N tokens, at paragraphs, sentences or white space."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Any, TypeVar

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.arrow_arrays import from_numpy, null_mask
from lakevec.pipeline.chunk_columns import CHUNK_END, CHUNK_INDEX, CHUNK_START, CHUNK_TEXT
from lakevec.pipeline.encoding.chunk_plan import ChunkPlan, TextWords
from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.options import ChunkOptions
from lakevec.pipeline.encoding.text_segmentation import (
    check_segmentation,
    divide_at_words,
    mark_sentences,
)
from lakevec.pipeline.encoding.token_cache import raw_buffers, refuse_invalid_utf8
from lakevec.pipeline.encoding.tokenization import slices
from lakevec.pipeline.encoding.words import Words, as_sequence, find_words, floor_character, has_unspaced
from lakevec.pipeline.errors import SettingsError

# Bytes of texts that are split at a time.
_BLOCK_BYTES = 1 << 20
# Texts of more bytes per token of the limit probably don't fit.
_TOKEN_BYTES = 16
# Most chunks in a batch, and most bytes of the columns that they repeat.
_BATCH_ROWS = 16_384
_BATCH_BYTES = 32 << 20

Rows = TypeVar("Rows", pa.RecordBatch, pa.Table)


@dataclass(frozen=True, eq=False)
class Chunks:
    """The M chunks of N texts, in the order of the texts.

    Parameters
    ----------
    parents : pyarrow.Int64Array of length M
        Number of the text that each chunk belongs to.
    index : pyarrow.Int32Array of length M
        Number of each chunk in its text, from 0.
    start, end : pyarrow.Int32Array of length M
        The chunk is ``text[start:end]`` in Python: these are code points. Null for a null text.
    texts : pyarrow.LargeStringArray of length M
        The chunks themselves. Null for a null text.

    Examples
    --------
    >>> numbers = pa.array([0, 1], pa.int32())
    >>> texts = pa.array(["north", "east"], pa.large_string())
    >>> len(Chunks(pa.array([0, 0]), numbers, pa.array([0, 6]), pa.array([5, 10]), texts))
    2
    """

    parents: pa.Int64Array
    index: pa.Int32Array
    start: pa.Int32Array
    end: pa.Int32Array
    texts: pa.LargeStringArray

    def __len__(self) -> int:
        """Return the number of chunks, M."""
        return len(self.texts)

    def slice(self, first: int, count: int) -> Chunks:
        """Return `count` chunks from the one numbered `first` on."""
        return Chunks(*(values.slice(first, count) for values in vars(self).values()))

    def batches(self, rows: Rows) -> Iterator[tuple[Chunks, Rows]]:
        """Yield the chunks in batches of bounded memory, each with the row of `rows` that a chunk belongs to.

        `rows` has a row per text. A row that is larger than a batch should be makes batches of one chunk.
        """
        if not len(self):
            return
        parents = self.parents.to_numpy()
        parents = parents - parents[0]
        own = rows.slice(self.parents[0].as_py(), int(parents[-1]) + 1)
        # A dictionary isn't copied for each chunk.
        size = sum(column.nbytes for column in own.columns if not pa.types.is_dictionary(column.type))
        repeated = size * int(np.bincount(parents).max())
        if len(self) == 1 or (len(self) <= _BATCH_ROWS and repeated <= _BATCH_BYTES):
            yield self, own.take(from_numpy(parents))
            return
        half = len(self) // 2
        yield from self.slice(0, half).batches(rows)
        yield from self.slice(half, len(self) - half).batches(rows)

    def to_arrow_columns(self, *, with_texts: bool) -> dict[str, pa.Array]:
        """Return the columns that an output has for its chunks."""
        columns = {CHUNK_INDEX: self.index, CHUNK_START: self.start, CHUNK_END: self.end}
        return columns | ({CHUNK_TEXT: self.texts.cast(pa.string())} if with_texts else {})


class Chunker:
    """Split texts into chunks whose tokens an encoder counts.

    Parameters
    ----------
    encoder : Encoder
        The chunker uses its tokenizer and its token cache. Threads may share both.
    options : ChunkOptions

    Raises
    ------
    SettingsError
        If the encoder truncates texts at `max_tokens`.
    SetupError
        If ICU is missing: ``pip install 'lakevec[chunk]'``.

    Notes
    -----
    A text that fits is one chunk, whole. Otherwise a chunk ends at the last paragraph within the limit, else
    at the last sentence, else at the last white space. The white space between two chunks belongs to none.
    A word is never divided, so a chunk that is one word may exceed the limit. In scripts without spaces
    between words, sentences and then the words of the language are boundaries, too.

    Examples
    --------
    >>> import numpy as np
    >>> from lakevec.pipeline.model.table import StaticTable
    >>> from lakevec.pipeline.model.word_tokenizer import make_word_tokenizer
    >>> words = make_word_tokenizer(["north", "east"], lowercase=True).to_str()
    >>> encoder = Encoder(StaticTable(np.eye(3, 2, dtype=np.float32), words, normalize=False))
    >>> chunks = Chunker(encoder, ChunkOptions(3)).split(pa.array(["North east. East north.", None]))
    >>> chunks.texts.to_pylist(), chunks.start.to_pylist()
    (['North east.', 'East north.', None], [0, 12, None])
    """

    def __init__(self, encoder: Encoder, options: ChunkOptions) -> None:
        if encoder.options.max_tokens is not None:
            raise SettingsError(
                "max_tokens can't be used with chunks",
                got=str(encoder.options.max_tokens),
                remedy="leave it out: the limit of a chunk takes its place",
            )
        check_segmentation()
        self._encoder, self._tokenizer = encoder, encoder.tokenizer
        self._options = options

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as a new chunker of the same encoder."""
        return Chunker, (self._encoder, self._options)

    def split(self, texts: pa.Array | pa.ChunkedArray) -> Chunks:
        """Split every text of an Arrow array: string, large_string or string_view.

        A null text has one chunk, which is null. An empty text has one chunk, which is empty.

        Raises
        ------
        DataError
            If a text is not valid UTF-8, or the array holds no strings.
        """
        return _concatenate([_no_chunks(), *self.split_parts(texts)])

    def split_parts(self, texts: pa.Array | pa.ChunkedArray) -> Iterator[Chunks]:
        """Split texts, and yield the chunks of about a megabyte of texts at a time.

        The chunks of a longer text are in several parts; `parents` and `index` count through them.
        """
        for first, part in slices(texts, most_bytes=_BLOCK_BYTES):
            data, _ = _contents(part)
            with refuse_invalid_utf8():
                if len(data) > 2 * _BLOCK_BYTES:
                    yield from self._split_long(data, first)
                else:
                    yield self._split_texts(part, first)

    def _split_texts(self, texts: pa.LargeStringArray, first: int) -> Chunks:
        """Split a slice of texts; `first` is the number of its first text."""
        fits = self._find_fitting(texts)
        places = np.flatnonzero(~fits)
        whole = _whole_chunks(texts, np.flatnonzero(fits), first)
        if not len(places):
            return whole
        rest = texts.take(from_numpy(places))
        data, offsets = _contents(rest)
        plans = self._plan(data, offsets)
        # A text that fits is one chunk, whole, and a text of white space alone has one empty chunk.
        parts = [
            np.array([[start, end if is_whole else start]])
            if is_whole or not plan.chunks
            else plan.bounds(plan.chunks)
            for plan, is_whole, (start, end) in zip(
                plans, self._find_whole(rest, plans), pairwise(offsets.tolist()), strict=True
            )
        ]
        counts = [len(part) for part in parts]
        parents, bounds = places.repeat(counts), np.concatenate(parts)
        begins = offsets[:-1].repeat(counts)[:, None]
        characters = _count_characters(data, np.append(bounds, begins, axis=1))
        spans = characters[:, :2] - characters[:, 2:]
        index = np.concatenate([np.arange(count) for count in counts])
        return _merge(whole, _make_chunks(first + parents, index, spans, _gather(data, bounds)))

    def _find_fitting(self, texts: pa.LargeStringArray) -> np.ndarray:
        """Return which texts fit whole; of texts that probably don't, `_find_whole` tells."""
        counted = np.flatnonzero(~self._is_left_out(texts))
        fits = np.zeros(len(texts), dtype=bool)
        some = texts if len(counted) == len(texts) else texts.take(from_numpy(counted))
        fits[counted] = self._count_tokens(some) <= self._options.tokens
        return fits

    def _find_whole(self, texts: pa.LargeStringArray, plans: list[ChunkPlan]) -> np.ndarray:
        """Return which texts fit whole, of those that `_find_fitting` left out."""
        left_out = self._is_left_out(texts)
        totals = [plan.words.totals[-1] - plan.words.totals[0] for plan in plans]
        fits: np.ndarray = left_out & (np.array(totals) <= self._options.tokens)
        data, offsets = _contents(texts)
        # The parts of a divided word may have other tokens than the word.
        for number in np.flatnonzero(left_out):
            if has_unspaced(data[offsets[number] : offsets[number + 1]]):
                fits[number] = self._count_tokens(texts.slice(number, 1))[0] <= self._options.tokens
        return fits

    def _is_left_out(self, texts: pa.LargeStringArray) -> np.ndarray:
        """Return which texts are so long that their words are counted at once."""
        if self._tokenizer.joins_words:
            return np.zeros(len(texts), dtype=bool)
        _, offsets = raw_buffers(texts)
        left_out: np.ndarray = np.diff(offsets) > _TOKEN_BYTES * self._options.tokens
        left_out &= ~null_mask(texts)  # a null may have bytes, too
        return left_out

    def _split_long(self, data: np.ndarray, number: int) -> Iterator[Chunks]:
        """Split one long text block by block, so that memory is bounded."""
        start = done = index = characters = 0
        size = _BLOCK_BYTES
        while True:
            stop = floor_character(data, start + size)
            block, is_last = data[start:stop], stop == len(data)
            [plan] = self._plan(block, np.array([0, len(block)]), done=done - start, is_last=is_last)
            if plan.chunks:
                bounds = plan.bounds(plan.chunks)
                count = len(bounds)
                spans = characters + _count_characters(block, bounds)
                parents = np.full(count, number)
                yield _make_chunks(parents, index + np.arange(count), spans, _gather(block, bounds))
                index, done = index + count, start + int(bounds[-1, 1])
            if is_last:
                break
            # The last word of a block may go on in the next, so it is never in a chunk.
            ahead = int(plan.words.starts[plan.resume]) if len(plan.words.starts) else len(block)
            size = _BLOCK_BYTES if plan.chunks or not len(plan.words.starts) else 2 * size
            characters += int(_count_characters(block, np.array([ahead]))[0])
            start += ahead
        if not index:
            nothing = np.zeros((1, 2), dtype=np.int64)
            yield _make_chunks(np.array([number]), nothing[0, :1], nothing, _gather(data, nothing))

    def _plan(
        self, data: np.ndarray, offsets: np.ndarray, *, done: int = 0, is_last: bool = True
    ) -> list[ChunkPlan]:
        """Choose the chunks of texts, or of a block of one text whose first `done` bytes have chunks."""
        words = find_words(data, offsets)
        divided = mark_sentences(data, words)
        alone, before = self._count_words(data, divided)
        if (is_long := (alone > self._options.tokens) & divided.is_unspaced).any():
            divided, alone, before = self._divide(data, divided, is_long, (alone, before))
        totals = np.append(0, np.rint(np.cumsum(before)).astype(np.int64))
        plans = []
        for first, last in pairwise(divided.first.tolist()):
            own = slice(first, last)
            of_text = divided.starts[own], divided.ends[own], divided.levels[own]
            tokens = as_sequence(alone[own]), as_sequence(totals[first : last + 1])
            # A word that is in a chunk in part only isn't done.
            begun = int(np.searchsorted(divided.ends[own], done, side="right"))
            plans.append(ChunkPlan(TextWords(*of_text, *tokens), self._options, done=begun, is_last=is_last))
        if self._tokenizer.joins_words or len(divided) > len(words):
            self._shorten(data, plans)
        return plans

    def _count_words(self, data: np.ndarray, words: Words) -> tuple[np.ndarray, np.ndarray]:
        """Return the number of tokens of each word alone, and with the white space before it."""
        if not len(words):
            return (np.zeros(0, dtype=np.int64),) * 2
        if not self._tokenizer.joins_words:
            tokens = self._count_tokens(_between(data, np.append(words.starts, words.ends[-1])))
            return tokens, tokens
        places = np.stack([words.starts, words.ends], axis=1).ravel()
        alone = self._count_tokens(_between(data, places))[::2]
        before = alone.copy()
        before[1:] = self._count_tokens(_between(data, words.ends))
        first = words.first[:-1][np.diff(words.first) > 0]
        before[first] = alone[first]
        return alone, before

    def _divide(
        self, data: np.ndarray, words: Words, chosen: np.ndarray, counts: tuple[np.ndarray, np.ndarray]
    ) -> tuple[Words, np.ndarray, np.ndarray]:
        """Divide long words of scripts without spaces, and share out their tokens."""
        divided = divide_at_words(data, words, chosen)
        parent = np.searchsorted(words.starts, divided.starts, side="right") - 1
        # Parts of a word may have more tokens alone than together.
        shared = []
        for total, part in zip(counts, self._count_words(data, divided), strict=True):
            sums = np.bincount(parent, weights=part)
            shared.append(part * np.minimum(1, total / np.maximum(sums, 1))[parent])
        return divided, np.rint(shared[0]).astype(np.int64), shared[1]

    def _shorten(self, data: np.ndarray, plans: list[ChunkPlan]) -> None:
        """Tokenize chunks, and choose others where one has too many tokens."""
        most = self._options.tokens
        while plans:
            new = [plan.unchecked() for plan in plans]
            bounds = np.concatenate([plan.bounds(chunks) for plan, chunks in zip(plans, new, strict=True)])
            counts = iter(self._count_tokens(_gather(data, bounds)).tolist())
            for plan, chunks in zip(plans, new, strict=True):
                plan.check(chunks, [next(counts) - most for _ in chunks])
            plans = [plan for plan in plans if plan.unchecked()]

    def _count_tokens(self, texts: pa.LargeStringArray) -> np.ndarray:
        """Return the number of known tokens of each text."""
        counts = [np.diff(self._tokenizer.tokenize(part).offsets) for _, part in slices(texts)]
        return np.concatenate([np.zeros(0, dtype=np.int64), *counts])


def _contents(texts: pa.LargeStringArray) -> tuple[np.ndarray, np.ndarray]:
    """Return the bytes of texts, and the N + 1 offsets of texts in them."""
    data, offsets = raw_buffers(texts)
    return data[offsets[0] : offsets[-1]], offsets - offsets[0]


def _between(data: np.ndarray, places: np.ndarray) -> pa.LargeStringArray:
    """Return what lies between any two neighbours of M + 1 ascending places: M strings, without a copy."""
    offsets = np.ascontiguousarray(places, dtype=np.int64)
    return pa.LargeStringArray.from_buffers(len(places) - 1, pa.py_buffer(offsets), pa.py_buffer(data))


def _gather(data: np.ndarray, bounds: np.ndarray) -> pa.LargeStringArray:
    """Copy the bytes between M pairs of places: M strings."""
    view: Any = memoryview(data.data)
    offsets = np.append(0, np.cumsum(bounds[:, 1] - bounds[:, 0]))
    content = b"".join([view[start:end] for start, end in bounds.tolist()])
    return pa.LargeStringArray.from_buffers(len(bounds), pa.py_buffer(offsets), pa.py_buffer(content))


def _count_characters(data: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return the number of characters before each place."""
    continued = np.flatnonzero((data & 0xC0) == 0x80)
    characters: np.ndarray = places - np.searchsorted(continued, places)
    return characters


def _whole_chunks(texts: pa.LargeStringArray, places: np.ndarray, first: int) -> Chunks:
    """Return one chunk for each of the texts at `places`."""
    if len(places) < len(texts):
        texts = texts.take(from_numpy(places))
    is_null = null_mask(texts)
    zeros = np.zeros(len(texts), dtype=np.int32)
    end = pc.utf8_length(texts).cast(pa.int32())
    return Chunks(from_numpy(first + places), from_numpy(zeros), from_numpy(zeros, is_null), end, texts)


def _make_chunks(
    parents: np.ndarray, index: np.ndarray, spans: np.ndarray, texts: pa.LargeStringArray
) -> Chunks:
    """Return chunks with spans of shape (M, 2)."""
    start, end = np.ascontiguousarray(spans.T, dtype=np.int32)
    return Chunks(
        from_numpy(parents.astype(np.int64)),
        from_numpy(index.astype(np.int32)),
        from_numpy(start),
        from_numpy(end),
        texts,
    )


def _merge(one: Chunks, other: Chunks) -> Chunks:
    """Return the chunks of different texts in the order of the texts."""
    if not len(one):
        return other
    both = _concatenate([one, other])
    order = pc.sort_indices(both.parents)  # stable
    return Chunks(*(values.take(order) for values in vars(both).values()))


def _concatenate(parts: Sequence[Chunks]) -> Chunks:
    columns = zip(*(vars(part).values() for part in parts), strict=True)
    return Chunks(*(pa.concat_arrays(column) for column in columns))


def _no_chunks() -> Chunks:
    numbers = from_numpy(np.zeros(0, dtype=np.int32))
    return Chunks(numbers.cast(pa.int64()), numbers, numbers, numbers, pa.array([], pa.large_string()))
