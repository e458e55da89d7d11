"""Exact counts of tokens, words, phrases and bigrams in texts.

The encoder's token cache stores the tokens of each segment, so counting a known segment is one look-up.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakevec.pipeline.corpus.bigrams import BigramCounter, Bigrams
from lakevec.pipeline.corpus.ngrams import NgramCounts
from lakevec.pipeline.corpus.word_extraction import WordExtractor, Words
from lakevec.pipeline.corpus.word_index import NOTHING, TermCounts, WordIndex, WordSequences, take_counts
from lakevec.pipeline.encoding.encoder import warm_up_texts
from lakevec.pipeline.encoding.kernels.cache_entries import count_tokens, write_tokens
from lakevec.pipeline.encoding.kernels.count_kernels import (
    WordTable,
    count_numbers,
    count_segments,
    count_words,
    make_counters,
    write_words,
)
from lakevec.pipeline.encoding.kernels.unicode_words import NORMALIZED
from lakevec.pipeline.encoding.split_rules import SplitRule, find_split_rule
from lakevec.pipeline.encoding.token_cache import TokenCache
from lakevec.pipeline.encoding.tokenization import NO_LIMIT, WholeTextTokenizer, parse_tokenizer, slices
from lakevec.pipeline.model.table import find_unknown_token_id

_MARKER = bytes([NORMALIZED])


@dataclass(frozen=True, eq=False)
class TextCounts:
    """Counts of a set of texts; counts of several sets add up.

    Parameters
    ----------
    token_ids : int64 ndarray
        Ids of the tokens that occur.
    tokens, words, phrases : TermCounts
        Counts of those that occur; `tokens` has no names.
    bigrams : Bigrams
        Pairs of neighbouring tokens, without the unknown token.
    """

    token_ids: np.ndarray
    tokens: TermCounts
    words: TermCounts
    phrases: TermCounts
    bigrams: Bigrams


class TextCounter:
    """Count the tokens, words, phrases and bigrams of texts.

    Parameters
    ----------
    tokenizer_json : str
        The `tokenizers` serialisation; its special tokens, truncation and padding have no effect. The unknown
        token is counted like any other.
    longest_phrase : int, default=1
        Maximum number of words in a phrase, up to 3; 1 disables phrases.
    counts_bigrams : bool, default=False
        Also count pairs of neighbouring tokens, as if the unknown token were not there.
    most_words : int, default=2**19
        `is_full` is true above this number of distinct words.
    most_phrases : int, default=2**21
        `is_full` is true above this number of stored phrase counts.
    most_bigrams : int, default=2**20
        `is_full` is true above this number of distinct bigrams.

    Notes
    -----
    Don't share a counter between threads. It needs memory for the token cache, 24 bytes per token, about
    150 bytes per word, and up to 64 per bigram.
    """

    def __init__(
        self,
        tokenizer_json: str,
        *,
        longest_phrase: int = 1,
        counts_bigrams: bool = False,
        most_words: int = 1 << 19,
        most_phrases: int = 1 << 21,
        most_bigrams: int = 1 << 20,
    ) -> None:
        tokenizer = parse_tokenizer(tokenizer_json)
        self._most_words, self._most_phrases, self._most_bigrams = most_words, most_phrases, most_bigrams
        self._extractor = WordExtractor(tokenizer)
        rule = find_split_rule(tokenizer_json)
        self._has_bert_keys = isinstance(rule, SplitRule) and rule.name == "bert"
        self._unknown = find_unknown_token_id(tokenizer)
        self._cache = (
            TokenCache(tokenizer, rule, self._unknown, keeps_refs=True)
            if isinstance(rule, SplitRule)
            else None
        )
        self._whole = WholeTextTokenizer(tokenizer, None)
        self._tokens = make_counters(max(tokenizer.get_vocab(with_added_tokens=True).values(), default=0) + 1)
        self._phrases = NgramCounts(longest_phrase) if longest_phrase > 1 else None
        self._bigrams = BigramCounter()
        self._counts_bigrams = counts_bigrams
        self._texts = 0  # number of the next text
        self._forget_words()

    @property
    def is_full(self) -> bool:
        """Whether to call `take` before more texts, to bound memory."""
        phrases = 0 if self._phrases is None else len(self._phrases)
        return (
            len(self._word_index) > self._most_words
            or phrases > self._most_phrases
            or len(self._bigrams) > self._most_bigrams
        )

    def count(self, texts: pa.Array | pa.ChunkedArray) -> None:
        """Count an array of strings; raise DataError for other types and invalid UTF-8."""
        for _, part in slices(texts):
            if self._cache is None:
                self._count_whole(part)
            else:
                self._count_segments(self._cache, part)
            self._texts += len(part)

    def take(self) -> TextCounts:
        """Return all counts so far and reset them."""
        token_ids, counts, documents = take_counts(self._tokens)
        tokens = TermCounts([], counts, documents)
        phrases = NOTHING if self._phrases is None else self._phrases.take(self._word_index.names())
        taken = TextCounts(token_ids, tokens, self._word_index.take(), phrases, self._bigrams.take())
        if len(self._word_index) > self._most_words:
            self._forget_words()
        return taken

    def _forget_words(self) -> None:
        self._word_index = WordIndex()
        self._sequences = WordSequences()  # of all tokens, and then of the cache's entries
        if self._cache is not None:
            self._generation = self._cache.generation
            self._sequences.extend(self._extractor.token_words(), self._word_index)
        self._first_entry = len(self._sequences)

    def _count_segments(self, cache: TokenCache, texts: pa.LargeStringArray) -> None:
        cache.tokenize(texts)
        # If the cache restarted, perhaps in an earlier call that failed, its segments have new indices.
        if cache.generation != self._generation:
            self._generation = cache.generation
            self._sequences.keep(self._first_entry)
        new = cache.segments(len(self._sequences) - self._first_entry)
        self._sequences.extend(map(self._words_of_segment, new), self._word_index)
        row_ends, arrays, counters = cache.row_ends, cache.arrays, self._word_index.counters
        words = WordTable(self._sequences.starts, self._sequences.words, self._first_entry)
        unknown = -1 if self._unknown is None else self._unknown
        count_segments(row_ends, arrays, self._texts, unknown, self._tokens, words, counters)
        if self._phrases is not None:
            offsets = np.empty(len(row_ends), dtype=np.int64)
            count_words(row_ends, arrays, words, offsets)
            numbers = np.empty(offsets[-1], dtype=np.int32)
            write_words(row_ends, arrays, words, numbers)
            self._phrases.add(numbers, offsets)
        if self._counts_bigrams:
            # The output of a cache that keeps no refs has tokens as they are, and refs with all bits flipped.
            arrays = arrays._replace(output=~arrays.output[: row_ends[-1]])
            offsets = np.empty(len(row_ends), dtype=np.int64)
            count_tokens(row_ends, arrays, NO_LIMIT, offsets)
            ids = np.empty(offsets[-1], dtype=np.int32)
            write_tokens(row_ends, arrays, offsets, ids)
            self._bigrams.add(ids, offsets)

    def _count_whole(self, texts: pa.LargeStringArray) -> None:
        """Count texts of a tokenizer without split rule."""
        tokens = self._whole.tokenize(texts)
        count_numbers(tokens.ids, tokens.offsets, self._texts, self._tokens)
        sequences = WordSequences()
        sequences.extend((self._extractor.words(text or "") for text in texts.to_pylist()), self._word_index)
        count_numbers(sequences.words, sequences.starts, self._texts, self._word_index.counters)
        if self._phrases is not None:
            self._phrases.add(sequences.words, sequences.starts)
        if self._counts_bigrams:
            known = tokens.ids != (-1 if self._unknown is None else self._unknown)
            self._bigrams.add(tokens.ids[known], np.append(0, np.cumsum(known))[tokens.offsets])

    def _words_of_segment(self, segment: bytes) -> Words:
        if self._has_bert_keys:
            # Short lower-case words are complete words.
            if segment.isalnum() and len(segment) <= self._extractor.longest and segment == segment.lower():
                return [segment.decode()]
            if segment == _MARKER:
                return [None]
            if segment.startswith(_MARKER):
                return self._extractor.piece_words(segment[1:].decode())
        return self._extractor.words(segment.decode())


def warm_up(tokenizer_json: str) -> None:
    """Compile all kernels of counting, or load them from the disk cache."""
    TextCounter(tokenizer_json, counts_bigrams=True).count(warm_up_texts())
