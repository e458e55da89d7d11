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

# Bytes of a word that is searched in stretches, and bytes around a character that are searched with it.
_LONG_WORD = 1 << 14
_NEAR = 1 << 8


@dataclass(frozen=True, eq=False)
class Words:
    """The words of N texts that lie one after the other in a buffer.

    Parameters
    ----------
    starts, ends : int64 ndarray of shape (W,)
        First byte of each word, and the byte after its last.
    levels : uint8 ndarray of shape (W,)
        What follows each word: from `NOTHING` to `PARAGRAPH`. `text_segmentation` marks the sentences.
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
    is_space = (data == 0x20) | (data - np.uint8(0x09) < 5)  # tab, line feed and the three after it
    breaks = _find_line_breaks(data)
    if is_wide:
        breaks = np.sort(np.concatenate([breaks, *_mark_wide_spaces(data, is_space)]), kind="stable")
    is_word = ~is_space
    starts, ends = _find_runs(is_word, offsets)
    first = np.searchsorted(starts, offsets)
    # Count the line breaks behind each word.
    word = np.searchsorted(starts, breaks, side="right") - 1
    lines = np.bincount(word[np.searchsorted(word, 0) :], minlength=len(starts))
    levels = np.array([SPACE, LINE, PARAGRAPH], dtype=np.uint8)[np.minimum(lines, 2)]
    levels[first[1:][np.diff(first) > 0] - 1] = PARAGRAPH
    is_unspaced = np.zeros(len(starts), dtype=bool)
    if is_wide:
        # An ideographic space lies in one of the blocks, too.
        places = np.flatnonzero((data >= 0xE0) & is_word)
        places = places[_is_unspaced(data, places)]
        is_unspaced[np.searchsorted(starts, places, side="right") - 1] = True
    return Words(starts, ends, levels, is_unspaced, first)


def as_sequence(numbers: np.ndarray) -> Sequence[int]:
    """View int64 numbers as Python's integers, which bisection reads faster than NumPy's."""
    return memoryview(np.ascontiguousarray(numbers, dtype=np.int64).data)


def may_divide(data: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return whether a script without spaces is on one side of each byte, which begins a character."""
    before = places - 1
    for _ in range(3):  # most continuation bytes of a character
        before = before - ((data[before] & 0xC0) == 0x80)
    found: np.ndarray = _is_unspaced(data, before) | _is_unspaced(data, places)
    return found


def _is_unspaced(data: np.ndarray, places: np.ndarray) -> np.ndarray:
    """Return whether a character of a script without spaces begins at each byte."""
    following = data[np.minimum(places + 1, len(data) - 1)]
    found: np.ndarray = _UNSPACED[data[places].astype(np.uint16) << 8 | following]
    return found


def has_unspaced(data: np.ndarray) -> bool:
    """Return whether a text has characters of a script without spaces."""
    return bool(_is_unspaced(data, np.flatnonzero(data >= 0xE0)).any())


def unspaced_stretches(data: np.ndarray, start: int, end: int) -> list[tuple[int, int]]:
    """Return the stretches of a word that its characters of scripts without spaces lie in.

    A word that isn't long is one stretch. In a long one, such as a file in one line, other characters count
    only where they are near.
    """
    if end - start <= _LONG_WORD:
        return [(start, end)]
    places = start + np.flatnonzero(data[start:end] >= 0xE0)
    places = places[_is_unspaced(data, places)]
    is_far = np.diff(places) > 2 * _NEAR
    lows = np.append(places[:1], places[1:][is_far]) - _NEAR
    highs = np.append(places[:-1][is_far], places[-1:]) + _NEAR
    bounds = np.stack([np.maximum(lows, start), np.minimum(highs, end)], axis=1)
    return [(floor_character(data, low), floor_character(data, high)) for low, high in bounds.tolist()]


def floor_character(data: np.ndarray, place: int) -> int:
    """Return the first byte of the character at a place, or the end of the data."""
    if place >= len(data):
        return len(data)
    while data[place] & 0xC0 == 0x80:
        place -= 1
    return place


def _find_runs(is_word: np.ndarray, offsets: np.ndarray) -> tuple[np.ndarray, np.ndarray]:
    """Return where runs of the bytes of words begin and end; each text has its own."""
    places = np.flatnonzero(is_word[1:] != is_word[:-1]) + 1
    # A run that begins or ends with the bytes, or goes on in the next text.
    inner = np.unique(offsets[(offsets > 0) & (offsets < len(is_word))])
    joints = inner[is_word[inner] & is_word[inner - 1]].repeat(2)
    edges = [0] * is_word[:1].sum(), joints, [len(is_word)] * is_word[-1:].sum()
    added = np.concatenate(edges).astype(np.int64)
    places = np.insert(places, np.searchsorted(places, added), added) if len(added) else places
    return np.ascontiguousarray(places[::2]), np.ascontiguousarray(places[1::2])


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
