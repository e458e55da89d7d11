"""Tasks of ``lakevec count``: each counts its rows and yields sums."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass

import numpy as np
import pyarrow as pa

from lakevec.pipeline.corpus.text_counter import TextCounts
from lakevec.pipeline.corpus.word_index import TermCounts
from lakevec.pipeline.encoding.node_files import NodeFiles
from lakevec.pipeline.encoding.text_validation import find_invalid_texts, split_invalid, view_as_strings
from lakevec.pipeline.encoding.tokenization import slices
from lakevec.pipeline.model.bigrams import pack_pairs
from lakevec.udfs.worker_cache import get_counter

TOKEN, WORD, PHRASE, BIGRAM, FACT = "token", "word", "phrase", "bigram", "fact"
# The id is that of a token, or of both tokens of a bigram (`pack_pairs`).
COUNTS_SCHEMA = "kind string, id long, name string, count long, documents long"


@dataclass(frozen=True, eq=False)
class CountTask:
    """Count texts; a function for ``DataFrame.mapInArrow`` that returns a line per term.

    Terms are tokens, words, phrases and bigrams.

    Parameters
    ----------
    tokenizer : NodeFiles
        The shipped tokenizer.
    longest_phrase : int
        Maximum words of a phrase; 1 counts no phrases.
    counts_bigrams : bool
        Whether to count pairs of neighbouring tokens.
    skips_bad_rows : bool
        Whether a text that is not valid UTF-8 counts as null. Otherwise it fails the task.

    Notes
    -----
    A term may have several lines, whose sum over all tasks is its count. Each text belongs to a single task,
    so documents add up too. Those of bigrams are 0.
    """

    tokenizer: NodeFiles
    longest_phrase: int
    counts_bigrams: bool
    skips_bad_rows: bool

    def __call__(self, batches: Iterator[pa.RecordBatch]) -> Iterator[pa.RecordBatch]:
        """Count all rows of a partition, whose columns are all texts."""
        counter = get_counter(
            self.tokenizer, longest_phrase=self.longest_phrase, counts_bigrams=self.counts_bigrams
        )
        facts: Counter[str] = Counter()
        for batch in batches:
            facts["rows"] += batch.num_rows
            for column in batch.columns:
                # Check after each slice, since phrases need fewer than 2**21 words between two checks.
                for _, texts in slices(self._valid_texts(column, facts)):
                    counter.count(texts)
                    if counter.is_full:
                        yield from _to_batches(counter.take())
        yield from _to_batches(counter.take())
        numbers = np.fromiter(facts.values(), np.int64, len(facts))
        yield _to_batch(FACT, TermCounts(list(facts), numbers, numbers))

    def _valid_texts(self, column: pa.Array, facts: Counter[str]) -> pa.Array:
        texts = view_as_strings(column)
        facts["nulls"] += texts.null_count
        if self.skips_bad_rows:
            texts, bad = split_invalid(texts, find_invalid_texts(texts))
            facts["bad"] += bad
        facts["texts"] += len(texts) - texts.null_count
        return texts


def _to_batches(counts: TextCounts) -> Iterator[pa.RecordBatch]:
    yield _to_batch(TOKEN, counts.tokens, ids=counts.token_ids)
    yield _to_batch(WORD, counts.words)
    yield _to_batch(PHRASE, counts.phrases)
    pairs, times = counts.bigrams
    yield _to_batch(BIGRAM, TermCounts([], times, np.zeros_like(times)), ids=pack_pairs(pairs))


def _to_batch(kind: str, terms: TermCounts, *, ids: np.ndarray | None = None) -> pa.RecordBatch:
    rows = len(terms.counts)
    ids = np.full(rows, -1) if ids is None else ids
    return pa.RecordBatch.from_pydict(
        {
            "kind": pa.repeat(pa.scalar(kind, pa.string()), rows),
            "id": pa.array(ids.astype(np.int64)),
            "name": pa.array(terms.names, pa.string()) if terms.names else pa.repeat("", rows),
            "count": pa.array(terms.counts.astype(np.int64)),
            "documents": pa.array(terms.documents.astype(np.int64)),
        }
    )
