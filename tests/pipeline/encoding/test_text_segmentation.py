"""Sentences: those that ICU finds in whole paragraphs, though few words of a paragraph are looked at."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.encoding import text_segmentation
from lakevec.pipeline.encoding.text_segmentation import divide_at_words, find_sentence_ends, mark_sentences
from lakevec.pipeline.encoding.words import PARAGRAPH, SENTENCE, Words, find_words, may_divide
from tests.support.chunk_texts import PIECES

# What decides whether a sentence ends: terminators, closers, marks, digits, letters of either case.
DECIDING = [".", "!", "?", ")", '"', "']", "((", "5", "etc.", "U.S.", "A", "b", "-", ",", ": "]
DECIDING += [
    "\u2026",
    "\u3002\u300d",
    "\u200d",
    "\u00ad",
    "\u00bb",
    "\u201d",
    "\u00bf",
    "\x85",
    "\x0b",
    "\x1c",
    " \u0436",
]
texts = st.lists(
    st.sampled_from(PIECES) | st.sampled_from(DECIDING) | st.characters(exclude_categories=["Cs"]),
    max_size=80,
).map("".join)


def words_of(text: str) -> tuple[np.ndarray, Words]:
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    return data, find_words(data, np.array([0, len(data)]))


def mark_in_whole_paragraphs(data: np.ndarray, words: Words) -> tuple[list[int], list[int]]:
    """Return starts and levels of the words, from a search of every paragraph from end to end."""
    starts, levels = words.starts.tolist(), words.levels.tolist()
    first = 0
    for last in np.flatnonzero(words.levels == PARAGRAPH).tolist():
        begin, end = int(words.starts[first]), int(words.ends[last])
        for place in (begin + find_sentence_ends(data[begin:end].tobytes())[:-1]).tolist():
            word = int(np.searchsorted(words.starts, place, side="right")) - 1
            if words.starts[word] == place:
                number = starts.index(place) - 1
                levels[number] = max(levels[number], SENTENCE)
            elif place < words.ends[word] and words.is_unspaced[word] and may_divide(data, np.array([place])):
                number = int(np.searchsorted(starts, place))
                starts.insert(number, place)
                levels.insert(number - 1, SENTENCE)
        first = last + 1
    return starts, levels


@settings(max_examples=600, deadline=None, derandomize=True)
@given(text=texts)
def test_sentences_are_those_of_whole_paragraphs(text: str) -> None:
    data, words = words_of(text)
    marked = mark_sentences(data, words)
    assert (marked.starts.tolist(), marked.levels.tolist()) == mark_in_whole_paragraphs(data, words)


def test_little_of_an_english_paragraph_is_searched() -> None:
    data, words = words_of("All of these words are in one (long) sentence, up to its full stop. " * 50)
    windows = text_segmentation._windows(data, words)
    assert len(windows) == 49
    assert (words.ends[windows[:, 1]] - words.starts[windows[:, 0]]).sum() < len(data) / 6


def test_long_word_is_searched_around_its_characters_without_spaces(monkeypatch: pytest.MonkeyPatch) -> None:
    minified = '{"key":[1,2,3],"text":"' + "x.y(z);" * 20_000
    cities = "\u6211\u4eec\u559c\u6b22\u5317\u4eac\u5929\u5b89\u95e8"
    data, words = words_of(f"{minified}{cities}{minified}{cities}")
    sizes: list[int] = []
    whole = text_segmentation.find_word_ends
    monkeypatch.setattr(
        text_segmentation, "find_word_ends", lambda text: sizes.append(len(text)) or whole(text)
    )
    divided = divide_at_words(data, words, np.array([True]))
    assert max(sizes) < 1000
    cuts = whole(data.tobytes())
    cuts = cuts[cuts < len(data)]
    assert divided.starts.tolist() == [0, *cuts[may_divide(data, cuts)].tolist()]
    assert len(divided) == 2 + 4 + 4
