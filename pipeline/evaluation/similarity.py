"""Similarity of words and sentences: rank correlation of cosines with people's ratings of pairs."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.evaluation.metrics import (
    TaskData,
    TaskScores,
    correlation,
    is_zero,
    paired_cosines,
    rank_correlation,
)
from lakevec.pipeline.evaluation.task_files import check_varies, read_columns
from lakevec.pipeline.storage import Location


def load_words(file: Location) -> TaskData:
    """Load a word similarity task: Parquet of ``word1, word2, score``.

    A word without a known token has the zero vector, and its pairs have cosine 0. So a vocabulary that lacks
    words scores lower. ``cosine_spearman_known`` leaves such pairs out, so each vocabulary is rated on other
    pairs.
    """
    return _load_pairs(file, "word1", "word2", reports_known=True)


def load_sentences(file: Location) -> TaskData:
    """Load a task of semantic textual similarity: Parquet of ``text1, text2, score``."""
    return _load_pairs(file, "text1", "text2", reports_known=False)


def _load_pairs(file: Location, left: str, right: str, *, reports_known: bool) -> TaskData:
    columns = read_columns(file, {left: "text", right: "text", "score": "number"})
    check_varies(file, "score", columns["score"])
    ratings = np.array(columns["score"])

    def score(vectors: np.ndarray) -> TaskScores:
        first, second = np.split(vectors, 2)
        cosines, unknown = paired_cosines(first, second), is_zero(first) | is_zero(second)
        metrics = {
            "cosine_spearman": rank_correlation(cosines, ratings) or 0.0,
            "cosine_pearson": correlation(cosines, ratings) or 0.0,
        }
        if reports_known:
            known = rank_correlation(cosines[~unknown], ratings[~unknown])
            metrics["cosine_spearman_known"] = known or 0.0
        counts = {"pairs": len(ratings), "pairs_with_unknown": int(unknown.sum())}
        return TaskScores("cosine_spearman", metrics, counts)

    return TaskData([*columns[left], *columns[right]], score, slice(0, len(ratings)))
