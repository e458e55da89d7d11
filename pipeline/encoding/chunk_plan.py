"""Where to cut one text into chunks, given its words and their tokens."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np

from lakevec.pipeline.encoding.options import ChunkOptions
from lakevec.pipeline.encoding.words import LINE, PARAGRAPH, SENTENCE, SPACE, as_sequence


class TextWords(NamedTuple):
    """The W words of one text, and their tokens.

    Parameters
    ----------
    starts, ends, levels : ndarray of shape (W,)
        As in `Words`.
    alone : sequence of W int
        Number of tokens of each word alone.
    totals : sequence of W + 1 int
        Number of tokens of all words before each, and in all; they are counted with the white space before
        them.
    """

    starts: np.ndarray
    ends: np.ndarray
    levels: np.ndarray
    alone: Sequence[int]
    totals: Sequence[int]


class ChunkPlan:
    """The chunks of one text, or of a block of it.

    Parameters
    ----------
    words : TextWords
    options : ChunkOptions
    done : int, default=0
        Number of words that earlier chunks have; the first chunk may repeat them.
    is_last : bool, default=True
        Whether the text ends here. Otherwise words are left that may belong to a chunk with words of the next
        block.

    Attributes
    ----------
    chunks : list of (int, int)
        First word of each chunk, and the word after its last.
    resume : int
        First word of the next chunk.
    """

    def __init__(
        self, words: TextWords, options: ChunkOptions, *, done: int = 0, is_last: bool = True
    ) -> None:
        self.words = words
        self.chunks: list[tuple[int, int]] = []
        self._checked: set[tuple[int, int]] = set()
        self._alone, self._totals = words.alone, words.totals
        self._options = options
        self._begun, self._is_last = done, is_last
        # Words after the places where something ends, by what ends.
        self._ends = {
            level: as_sequence(np.flatnonzero(words.levels >= level) + 1)
            for level in (PARAGRAPH, SENTENCE, LINE, SPACE)
        }
        self._limits: dict[int, int] = {}
        self._cut()

    def _cut(self) -> None:
        """Choose the chunks that follow the ones there are."""
        first, done, end = 0, self._begun, len(self._alone)
        if self.chunks:
            done, first = self.chunks[-1][1], self._step_back(*self.chunks[-1])
        while done < end:
            while first < done and self._count(first, done + 1) > self._limit(first):
                first += 1
            most = max(done + 1, self._reach(first))
            if most == end and not self._is_last:
                break
            stop = end if most == end else self._choose(done, most)
            self.chunks.append((first, stop))
            done, first = stop, self._step_back(first, stop)
        self.resume = first

    def unchecked(self) -> list[tuple[int, int]]:
        """Return the chunks that `check` has not seen."""
        return [chunk for chunk in self.chunks if chunk not in self._checked]

    def check(self, chunks: list[tuple[int, int]], excess: list[int]) -> None:
        """Choose the chunks anew if some have more tokens than their words: `excess` above the limit."""
        self._checked.update(chunks)
        too_long = [pair for pair in zip(chunks, excess, strict=True) if pair[1] > 0]
        for (first, stop), tokens in too_long:
            self._limits[first] = min(self._limit(first), self._count(first, stop)) - tokens
        for chunk, _ in too_long:
            if chunk[1] - chunk[0] > 1:
                # The chunks before it stay.
                del self.chunks[self.chunks.index(chunk) :]
                self._cut()
                break

    def bounds(self, chunks: list[tuple[int, int]]) -> np.ndarray:
        """Return the first byte of chunks, and the byte after their last: int64 of shape (M, 2)."""
        words = np.array(chunks, dtype=np.int64).reshape(-1, 2)
        return np.stack([self.words.starts[words[:, 0]], self.words.ends[words[:, 1] - 1]], axis=1)

    def _limit(self, first: int) -> int:
        return self._limits.get(first, self._options.tokens)

    def _count(self, first: int, stop: int) -> int:
        return self._alone[first] + self._totals[stop] - self._totals[first + 1]

    def _reach(self, first: int) -> int:
        """Return the last place where a chunk that begins at `first` may end."""
        return (
            bisect_right(self._totals, self._totals[first + 1] + self._limit(first) - self._alone[first]) - 1
        )

    def _choose(self, done: int, most: int) -> int:
        """Return the best place after `done`, up to `most`, for the end of a chunk."""
        for level in (PARAGRAPH, SENTENCE, LINE, SPACE):
            if place := _last(self._ends[level], done, most):
                return place
        return most

    def _step_back(self, first: int, stop: int) -> int:
        """Return the beginning of the chunk after the one from `first` to `stop`.

        It is the earliest paragraph within the overlap, else the earliest sentence, else the earliest word.
        """
        overlap = self._options.overlap
        if not overlap or stop == len(self._alone):
            return stop
        start = max(bisect_left(self._totals, self._totals[stop] - overlap), first + 1)
        while start < stop and self._count(start, stop) > overlap:
            start += 1
        if start >= stop:
            return stop
        return (
            _first(self._ends[PARAGRAPH], start, stop) or _first(self._ends[SENTENCE], start, stop) or start
        )


def _last(places: Sequence[int], after: int, upto: int) -> int:
    """Return the last place in a range; 0 if there is none."""
    index = bisect_right(places, upto) - 1
    return places[index] if index >= 0 and places[index] > after else 0


def _first(places: Sequence[int], start: int, before: int) -> int:
    """Return the first place in a range; 0 if there is none."""
    index = bisect_left(places, start)
    return places[index] if index < len(places) and places[index] < before else 0
