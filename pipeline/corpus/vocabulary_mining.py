"""Vocabulary mining: find the words that the tokenizer splits, largest saving first."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from lakevec.pipeline.corpus.counts_folder import PHRASES, WORDS, part_of
from lakevec.pipeline.corpus.word_filters import LetterPairs, WordFilter
from lakevec.pipeline.encoding.tokenization import parse_tokenizer
from lakevec.pipeline.errors import InputError

_BATCH_SIZE = 10_000


@dataclass(frozen=True)
class MineOptions:
    """Which words to choose; `MineSettings` explains each option."""

    top: int = 20_000
    min_count: int = 20
    min_documents: int = 5
    min_chars: int = 3
    max_chars: int = 30
    min_pieces: int = 2
    script: Sequence[str] = ()
    digits: bool = False
    phrases: bool = False
    min_npmi: float = 0.5


@dataclass(frozen=True, eq=False)
class MinedVocabulary:
    """A mined vocabulary.

    Parameters
    ----------
    table : pyarrow.Table
        Columns word, count, documents, pieces, saving and rank; largest saving first.
    report : dict of str to int
        Number of words that were read, and number that were rejected for each reason.
    """

    table: pa.Table
    report: dict[str, int]


def mine_words(counts: str, tokenizer_json: str, options: MineOptions) -> MinedVocabulary:
    """Find frequent words that a tokenizer splits.

    Parameters
    ----------
    counts : str
        Folder or URI of counts.
    tokenizer_json : str
        Tokenizer of the teacher or the model.

    Raises
    ------
    InputError
        If the counts are unreadable, phrases are requested but not counted, or no word passes.

    Notes
    -----
    ``saving = count * (pieces - 1)`` is the number of tokens that the word saves over the lake. Among equal
    savings, the more frequent word comes first.
    """
    words = _read(counts, WORDS, "word", options)
    pairs = LetterPairs(words["word"].to_pylist())
    fit = WordFilter(options.min_chars, options.max_chars, options.script, options.digits, pairs)
    report: Counter[str] = Counter({"frequent enough": words.num_rows})
    found = _choose(words, [fit.reason_against(word) for word in words["word"].to_pylist()], report)
    if options.phrases:
        found = pa.concat_tables([found, _choose_phrases(counts, options, words, fit, report)])
    pieces = count_pieces(parse_tokenizer(tokenizer_json), found["word"].to_pylist())
    is_split = pieces >= options.min_pieces
    report["known to the tokenizer"] = int((~is_split).sum())
    found, pieces = found.filter(pa.array(is_split)), pieces[is_split]
    if not found.num_rows:
        raise InputError(
            f"counts {counts!r} hold no word to add",
            got=", ".join(f"{number:,} {reason}" for reason, number in report.items() if number),
            remedy="lower --min-count or --min-documents, or keep the tokenizer as it is",
        )
    saving = found["count"].to_numpy() * (pieces - 1)
    table = found.append_column("pieces", pa.array(pieces.astype(np.int32)))
    table = table.append_column("saving", pa.array(saving.astype(np.int64)))
    keys = [("saving", "descending"), ("count", "descending"), ("word", "ascending")]
    table = table.take(pc.sort_indices(table, sort_keys=keys))
    report["behind the top"] = max(0, table.num_rows - options.top)
    table = table.slice(0, options.top)
    report["taken"] = table.num_rows
    table = table.append_column("rank", pa.array(np.arange(1, table.num_rows + 1, dtype=np.int32)))
    return MinedVocabulary(table.combine_chunks(), dict(report))


def count_pieces(tokenizer: Tokenizer, words: list[str]) -> np.ndarray:
    """Return the number of tokens of each word inside a text: int64 of shape (N,)."""
    # Count behind a prefix, since a tokenizer may split the first word of a text differently.
    prefix = len(tokenizer.encode("a", add_special_tokens=False).ids)
    pieces: list[int] = []
    for first in range(0, len(words), _BATCH_SIZE):
        texts = [f"a {word}" for word in words[first : first + _BATCH_SIZE]]
        encodings = tokenizer.encode_batch_fast(texts, add_special_tokens=False)
        pieces += [len(encoding.ids) - prefix for encoding in encodings]
    return np.array(pieces, dtype=np.int64)


def npmi(count: np.ndarray, of_words: np.ndarray, total: int) -> np.ndarray:
    """Return the NPMI of phrases, from -1 (words never together) to 1 (words never apart).

    Parameters
    ----------
    count : int64 ndarray of shape (N,)
        Occurrences of each phrase, at least 1.
    of_words : int64 ndarray of shape (N, K)
        Occurrences of each word of each phrase.
    total : int
        Occurrences of all words.

    Returns
    -------
    float64 ndarray of shape (N,)

    Notes
    -----
    Normalised pointwise mutual information from Bouma, "Normalized (Pointwise) Mutual Information in
    Collocation Extraction" (2009): ``log(p(ab) / (p(a) p(b))) / -log p(ab)`` for two words. For K words, the
    numerator has all K and the denominator is multiplied by K - 1. Mikolov et al. (2013), "Distributed
    Representations of Words and Phrases", also join words that occur together more often than expected.

    Examples
    --------
    >>> npmi(np.array([10, 1]), np.array([[10, 10], [10, 10]]), 100)
    array([1., 0.])
    """
    own = np.log(count / total)
    together = own - np.log(of_words / total).sum(axis=1)
    result: np.ndarray = together / (-(of_words.shape[1] - 1) * own)
    return result


def _read(uri: str, name: str, column: str, options: MineOptions) -> pa.Table:
    """Read the words or phrases that reach the minimum counts."""
    place = part_of(uri, name)
    frequent = (pc.field("count") >= options.min_count) & (pc.field("documents") >= options.min_documents)
    try:
        columns = [column, "count", "documents"]
        table = pq.read_table(place.path, filesystem=place.filesystem, columns=columns, filters=frequent)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"counts {uri!r} can't be read",
            got=f"{type(error).__name__} from {name}",
            expected="what 'lakevec count' wrote" + (" with --phrases 2" if name == PHRASES else ""),
        ) from None
    return table.rename_columns(["word", "count", "documents"])


def _choose(table: pa.Table, reasons: list[str], report: Counter[str]) -> pa.Table:
    """Keep the rows with an empty reason, and count the other reasons."""
    report.update(reason for reason in reasons if reason)
    return table.filter(pa.array([not reason for reason in reasons], pa.bool_()))


def _choose_phrases(
    counts: str, options: MineOptions, words: pa.Table, fit: WordFilter, report: Counter[str]
) -> pa.Table:
    """Keep phrases with a high NPMI whose words pass the filter."""
    phrases = _read(counts, PHRASES, "phrase", options)
    place = part_of(counts, WORDS)
    occurrences = pq.read_table(place.path, filesystem=place.filesystem, columns=["count"])["count"]
    total = int(pc.sum(occurrences).as_py())
    counted = dict(zip(words["word"].to_pylist(), words["count"].to_pylist(), strict=True))
    reasons = []
    each_word = WordFilter(1, options.max_chars, fit.scripts, fit.digits, fit.letters)
    for phrase, count in zip(phrases["word"].to_pylist(), phrases["count"].to_pylist(), strict=True):
        parts = phrase.split(" ")
        against = next((why for part in parts if (why := each_word.reason_against(part))), "")
        if not against and len(phrase) > options.max_chars:
            against = "too long"
        if not against:
            # A word is as frequent as its phrase, so it reached the minimum counts, too.
            of_words = np.array([[counted[part] for part in parts]])
            if npmi(np.array([count]), of_words, total)[0] < options.min_npmi:
                against = "no phrase"
        reasons.append(against)
    return _choose(phrases, reasons, report)
