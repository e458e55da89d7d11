"""From counts to a vocabulary: words that the tokenizer splits, those that save most first."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
from tokenizers import Tokenizer

from lakevec.pipeline.corpus.counts_folder import PHRASES, WORDS, part_of
from lakevec.pipeline.corpus.word_filters import LetterPairs, WordFilter
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.settings.corpus import MineSettings

_SPLIT_AT_A_TIME = 10_000


@dataclass(frozen=True, eq=False)
class MinedVocabulary:
    """A vocabulary, and what became of the words that were counted.

    Parameters
    ----------
    table : pyarrow.Table
        Columns word, count, documents, pieces, saving, rank; best first.
    report : dict of str to int
        How many words there were, and how many were left out and why.
    """

    table: pa.Table
    report: dict[str, int]


def mine_words(settings: MineSettings, tokenizer_json: str) -> MinedVocabulary:
    """Find the words that a tokenizer should know whole.

    Parameters
    ----------
    settings : MineSettings
    tokenizer_json : str
        Of the teacher, or of a model.

    Returns
    -------
    MinedVocabulary

    Raises
    ------
    InputError
        If the counts can't be read, hold no phrases where they are asked for, or no word is left.

    Notes
    -----
    ``saving = count * (pieces - 1)``: so many tokens less the lake would have. Of two that save the same, the
    more frequent comes first.
    """
    words = _read(settings.counts, WORDS, "word", settings)
    pairs = LetterPairs(words["word"].to_pylist())
    fit = WordFilter(settings.min_chars, settings.max_chars, tuple(settings.script), settings.digits, pairs)
    report: Counter[str] = Counter({"frequent enough": words.num_rows})
    found = _choose(words, [fit.reason_against(word) for word in words["word"].to_pylist()], report)
    if settings.phrases:
        found = pa.concat_tables([found, _choose_phrases(settings, words, fit, report)])
    tokenizer = Tokenizer.from_str(tokenizer_json)
    tokenizer.no_truncation()
    tokenizer.no_padding()
    pieces = count_pieces(tokenizer, found["word"].to_pylist())
    is_split = pieces >= settings.min_pieces
    report["known to the tokenizer"] = int((~is_split).sum())
    found, pieces = found.filter(pa.array(is_split)), pieces[is_split]
    if not found.num_rows:
        raise InputError(
            f"counts {redact(settings.counts)!r} hold no word to add",
            got=", ".join(f"{number:,} {reason}" for reason, number in report.items() if number),
            remedy="lower --min-count or --min-documents, or keep the tokenizer as it is",
        )
    saving = found["count"].to_numpy() * (pieces - 1)
    table = found.append_column("pieces", pa.array(pieces.astype(np.int32)))
    table = table.append_column("saving", pa.array(saving.astype(np.int64)))
    keys = [("saving", "descending"), ("count", "descending"), ("word", "ascending")]
    table = table.take(pc.sort_indices(table, sort_keys=keys))
    report["behind the top"] = max(0, table.num_rows - settings.top)
    table = table.slice(0, settings.top)
    report["taken"] = table.num_rows
    table = table.append_column("rank", pa.array(np.arange(1, table.num_rows + 1, dtype=np.int32)))
    return MinedVocabulary(table.combine_chunks(), dict(report))


def count_pieces(tokenizer: Tokenizer, words: list[str]) -> np.ndarray:
    """Count the tokens that words are split into within a text.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
    words : list of str of length N

    Returns
    -------
    int64 ndarray of shape (N,)
    """
    # Behind another word, as words stand in texts: the first one of a text may be split otherwise.
    before = len(tokenizer.encode("a", add_special_tokens=False).ids)
    found = np.empty(len(words), dtype=np.int64)
    for first in range(0, len(words), _SPLIT_AT_A_TIME):
        some = [f"a {word}" for word in words[first : first + _SPLIT_AT_A_TIME]]
        encodings = tokenizer.encode_batch_fast(some, add_special_tokens=False)
        found[first : first + len(some)] = [len(encoding.ids) - before for encoding in encodings]
    return found


def npmi(count: np.ndarray, of_words: np.ndarray, total: int) -> np.ndarray:
    """Say how much words belong together, from -1 (never together) to 1 (never apart).

    Parameters
    ----------
    count : int64 ndarray of shape (N,)
        How often each phrase was seen; at least 1.
    of_words : int64 ndarray of shape (N, K)
        How often each of its words was.
    total : int
        How often any word was.

    Returns
    -------
    float64 ndarray of shape (N,)

    Notes
    -----
    Normalised pointwise mutual information, ``log(p(ab) / (p(a) p(b))) / -log p(ab)`` for two words, from
    Bouma, "Normalized (Pointwise) Mutual Information in Collocation Extraction" (2009); for K words the
    numerator has all of them and the denominator is K - 1 times as large. Joining neighbouring words that are
    seen together more often than apart is from Mikolov et al. (2013), "Distributed Representations of Words
    and Phrases".

    Examples
    --------
    >>> npmi(np.array([10, 1]), np.array([[10, 10], [10, 10]]), 100)
    array([1., 0.])
    """
    own = np.log(count / total)
    together = own - np.log(of_words / total).sum(axis=1)
    result: np.ndarray = together / (-(of_words.shape[1] - 1) * own)
    return result


def _read(uri: str, name: str, column: str, settings: MineSettings) -> pa.Table:
    """Read words or phrases that are frequent enough."""
    place = part_of(uri, name)
    frequent = (pc.field("count") >= settings.min_count) & (pc.field("documents") >= settings.min_documents)
    try:
        table = pq.read_table(
            place.path,
            filesystem=place.filesystem,
            columns=[column, "count", "documents"],
            filters=frequent,
        )
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"counts {redact(uri)!r} can't be read",
            got=f"{type(error).__name__} from {name}",
            expected="what 'lakevec count' wrote" + (" with --phrases 2" if name == PHRASES else ""),
        ) from None
    return table.rename_columns(["word", "count", "documents"])


def _choose(table: pa.Table, reasons: list[str], report: Counter[str]) -> pa.Table:
    """Keep rows without a reason against them, and count the reasons."""
    report.update(reason for reason in reasons if reason)
    return table.filter(pa.array([not reason for reason in reasons], pa.bool_()))


def _choose_phrases(
    settings: MineSettings, words: pa.Table, fit: WordFilter, report: Counter[str]
) -> pa.Table:
    """Keep phrases whose words belong together and may be published."""
    phrases = _read(settings.counts, PHRASES, "phrase", settings)
    total = _total(settings)
    counted = dict(zip(words["word"].to_pylist(), words["count"].to_pylist(), strict=True))
    reasons = []
    each_word = WordFilter(1, settings.max_chars, fit.scripts, fit.digits, fit.letters)
    for phrase, count in zip(phrases["word"].to_pylist(), phrases["count"].to_pylist(), strict=True):
        parts = phrase.split(" ")
        against = next((why for part in parts if (why := each_word.reason_against(part))), "")
        if not against and len(phrase) > settings.max_chars:
            against = "too long"
        if not against:
            # No word is rarer than its phrase, so all of them were read.
            of_words = np.array([[counted[part] for part in parts]])
            if npmi(np.array([count]), of_words, total)[0] < settings.min_npmi:
                against = "no phrase"
        reasons.append(against)
    return _choose(phrases, reasons, report)


def _total(settings: MineSettings) -> int:
    place = part_of(settings.counts, WORDS)
    counts = pq.read_table(place.path, filesystem=place.filesystem, columns=["count"])
    return int(pc.sum(counts["count"]).as_py())
