"""The words of texts: where each begins and ends in the texts' bytes, and what follows it.

A word ends at Unicode white space, but not at a no-break space. In scripts that put no spaces between words,
such as Chinese, Japanese and Thai, a whole sentence is one "word" here; `text_segmentation` divides it.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np

# What follows a word: no space at all, white space, a line break, or the end of a sentence or paragraph.
NOTHING, SPACE, LINE, SENTENCE, PARAGRAPH = range(5)

_ASCII_SPACES = np.zeros(256, dtype=bool)
_ASCII_SPACES[[*b" \t\n\v\f\r"]] = True
# All others of Unicode's White_Space, but for the no-break spaces U+00A0, U+2007 and U+202F.
_NEXT_LINE, _LINE, _PARAGRAPH = "\x85", "\u2028", "\u2029"
_WIDE_SPACES = [_NEXT_LINE, "\u1680", *map(chr, range(0x2000, 0x2007)), *map(chr, range(0x2008, 0x200B))]
_WIDE_SPACES += [_LINE, _PARAGRAPH, "\u205f", "\u3000"]

# Blocks of scripts without spaces between words, in steps of 64 code points, which share their first bytes.
_UNSPACED_BLOCKS = (
    (0x0E00, 0x1080),  # Thai, Lao, Tibetan, Myanmar
    (0x1780, 0x1800),  # Khmer
    (0x1940, 0x1AC0),  # Tai Le, New Tai Lue, Buginese, Tai Tham
    (0x1B00, 0x1B80),  # Balinese
    (0x2E80, 0xA4C0),  # Chinese, Japanese, Yi, and their punctuation
    (0xA980, 0xAAC0),  # Javanese, Myanmar, Cham, Tai Viet
    (0xF900, 0xFB00),  # more ideographs
    (0xFF00, 0xFFC0),  # full-width punctuation
    (0x20000, 0x40000),  # more ideographs
)
_UNSPACED = np.zeros(1 << 16, dtype=bool)
for _first, _last in _UNSPACED_BLOCKS:
    for _code in range(_first, _last, 64):
        _pair = chr(_code).encode()
        _UNSPACED[_pair[0] << 8 | _pair[1]] = True


@dataclass(frozen=True, eq=False)
class Words:
    """The words of N texts that lie one after the other in a buffer.

    Parameters
    ----------
    starts, ends : int64 ndarray of shape (W,)
        First byte of each word, and the byte after its last.
    levels : uint8 ndarray of shape (W,)
        What follows each word: from `NOTHING` to `PARAGRAPH`. Sentences that end at white space are not
        marked: `text_segmentation` finds them.
    is_unspaced : bool ndarray of shape (W,)
        Whether the word has characters of a script without spaces between words.
    first : int64 ndarray of shape (N + 1,)
        Text n has the words from ``first[n]`` to ``first[n + 1]``.
    """

    starts: np.ndarray
    ends: np.ndarray
    levels: np.ndarray
    is_unspaced: np.ndarray
    first: np.ndarray

    def __len__(self) -> int:
        """Return the number of words, W."""
        return len(self.starts)

    def divided(self, cuts: np.ndarray, level: int) -> Words:
        """Return the words with some of them divided at `cuts`, ascending bytes inside of words."""
        if not len(cuts):
            return self
        word = np.searchsorted(self.starts, cuts, side="right") - 1
        starts = np.insert(self.starts, word + 1, cuts)
        return Words(
            starts,
            np.insert(self.ends, word, cuts),
            np.insert(self.levels, word, level),
            np.insert(self.is_unspaced, word, True),
            self.first + np.searchsorted(word, self.first),
        )

    def of_text(self, number: int) -> Words:
        """Return the words of one text."""
        some = slice(*self.first[number : number + 2])
        own = np.array([0, some.stop - some.start])
        return Words(self.starts[some], self.ends[some], self.levels[some], self.is_unspaced[some], own)


def find_words(data: np.ndarray, offsets: np.ndarray) -> Words:
    r"""Find the words of texts.

    Parameters
    ----------
    data : uint8 ndarray
        UTF-8 of all texts.
    offsets : int64 ndarray of shape (N + 1,)
        Text n is ``data[offsets[n]:offsets[n + 1]]``.

    Examples
    --------
    >>> text = b"One two.\n\nThree"
    >>> words = find_words(np.frombuffer(text, dtype=np.uint8), np.array([0, len(text)]))
    >>> words.starts.tolist(), words.ends.tolist(), words.levels.tolist()
    ([0, 4, 10], [3, 8, 15], [1, 4, 4])
    """
    is_wide = bool(len(data)) and data.max() >= 0x80
    is_space = _ASCII_SPACES[data]
    breaks = _find_line_breaks(data)
    if is_wide:
        breaks = np.sort(np.concatenate([breaks, *_mark_wide_spaces(data, is_space)]), kind="stable")
    is_word = ~is_space
    filled = offsets[:-1][np.diff(offsets) > 0]
    before, after = np.zeros_like(is_word), np.zeros_like(is_word)
    before[1:], after[:-1] = is_word[:-1], is_word[1:]
    before[filled] = after[filled[filled > 0] - 1] = False
    starts, ends = np.flatnonzero(is_word & ~before), np.flatnonzero(is_word & ~after) + 1
    first = np.searchsorted(starts, offsets)
    until = np.append(starts[1:], len(data))[: len(starts)]
    lines = np.searchsorted(breaks, until) - np.searchsorted(breaks, ends)
    levels = np.array([SPACE, LINE, PARAGRAPH], dtype=np.uint8)[np.minimum(lines, 2)]
    levels[first[1:][np.diff(first) > 0] - 1] = PARAGRAPH
    is_unspaced = np.zeros(len(starts), dtype=bool)
    if is_wide:
        pairs = data[:-1].astype(np.uint16) << 8 | data[1:]
        # An ideographic space lies in one of the blocks, too.
        places = np.flatnonzero(_UNSPACED[pairs] & is_word[:-1])
        is_unspaced[np.searchsorted(starts, places, side="right") - 1] = True
    return Words(starts, ends, levels, is_unspaced, first)


def as_sequence(numbers: np.ndarray) -> Sequence[int]:
    """View int64 numbers as Python's integers, which bisection reads faster than NumPy's."""
    return memoryview(np.ascontiguousarray(numbers, dtype=np.int64).data)


def may_divide(data: np.ndarray, place: int) -> bool:
    """Return whether a script without spaces is on one side of a byte that begins a character."""
    before = place - 1
    while before > 0 and data[before] & 0xC0 == 0x80:
        before -= 1
    return any(
        _UNSPACED[int(data[at]) << 8 | int(data[at + 1])] for at in (before, place) if data[at] >= 0xE0
    )


def _find_line_breaks(data: np.ndarray) -> np.ndarray:
    """Return the places of line feeds, and of carriage returns without one."""
    feeds, returns = np.flatnonzero(data == 0x0A), np.flatnonzero(data == 0x0D)
    if not len(returns):
        return feeds
    has_feed = data[np.minimum(returns + 1, len(data) - 1)] == 0x0A
    return np.sort(np.concatenate([feeds, returns[~has_feed]]))


def _mark_wide_spaces(data: np.ndarray, is_space: np.ndarray) -> list[np.ndarray]:
    """Mark white space beyond ASCII in `is_space`; return the places of its line breaks."""
    breaks = []
    leads = {space.encode()[0] for space in _WIDE_SPACES}
    places = {lead: np.flatnonzero(data[:-1] == lead) for lead in leads}
    for space in _WIDE_SPACES:
        encoded = space.encode()
        found = places[encoded[0]]
        for ahead, byte in enumerate(encoded[1:], 1):
            found = found[found + ahead < len(data)]
            found = found[data[found + ahead] == byte]
        for ahead in range(len(encoded)):
            is_space[found + ahead] = True
        if space in (_NEXT_LINE, _LINE, _PARAGRAPH):
            breaks += [found] * (2 if space == _PARAGRAPH else 1)
    return breaks
