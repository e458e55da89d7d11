"""Phrase tasks of the PEARL benchmark: relatedness, paraphrases, and the choice of a synonym."""

from __future__ import annotations

import numpy as np

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.metrics import (
    TaskData,
    TaskScores,
    correlation,
    count_unknown,
    paired_cosines,
)
from lakevec.pipeline.evaluation.pair_classification import separate_pairs
from lakevec.pipeline.evaluation.task_files import check_filled, check_varies, column_names, read_columns
from lakevec.pipeline.storage import Location


def load_phrases(file: Location) -> TaskData:
    """Load a phrase task. The columns of its Parquet file tell BIRD, PPDB and Turney apart."""
    names = set(column_names(file))
    for columns, load in _KINDS.items():
        if set(columns) <= names:
            return load(file)
    *others, last = (", ".join(columns) for columns in _KINDS)
    raise InputError(
        f"task file {file.path!r}",
        got=f"columns {', '.join(sorted(names))}",
        expected=f"{'; '.join(others)}; or {last}",
    )


def _load_relatedness(file: Location) -> TaskData:
    columns = read_columns(file, {"text1": "text", "text2": "text", "score": "number"})
    check_varies(file, "score", columns["score"])
    ratings = np.array(columns["score"])

    def score(vectors: np.ndarray) -> TaskScores:
        found = correlation(paired_cosines(*np.split(vectors, 2)), ratings) or 0.0
        counts = {"pairs": len(ratings), "unknown": count_unknown(vectors)}
        return TaskScores("cosine_pearson", {"cosine_pearson": found}, counts)

    return TaskData([*columns["text1"], *columns["text2"]], score)


def _load_paraphrases(file: Location) -> TaskData:
    columns = read_columns(file, {"text1": "text", "text2": "text", "label": "number"})
    is_paraphrase = np.array(columns["label"]) > 0
    check_varies(file, "label", is_paraphrase.tolist())

    def score(vectors: np.ndarray) -> TaskScores:
        cosines = paired_cosines(*np.split(vectors, 2))
        found = separate_pairs(cosines, is_paraphrase)
        metrics = {f"cosine_{metric}": value for metric, value in found.items()}
        counts = {"pairs": len(cosines), "unknown": count_unknown(vectors)}
        return TaskScores("cosine_accuracy", metrics, counts)

    return TaskData([*columns["text1"], *columns["text2"]], score)


def _load_choices(file: Location) -> TaskData:
    columns = read_columns(file, {"phrase": "text", "answer": "text", "distractors": "texts"})
    phrases = columns["phrase"]
    check_filled(file, "distractors", columns["distractors"])
    offered = [
        [answer, *distractors]
        for answer, distractors in zip(columns["answer"], columns["distractors"], strict=True)
    ]

    def score(vectors: np.ndarray) -> TaskScores:
        rows = len(phrases)
        right = count_right_choices(vectors[:rows], vectors[rows:], [len(words) for words in offered])
        counts = {"phrases": rows, "right": right, "unknown": count_unknown(vectors)}
        return TaskScores("accuracy", {"accuracy": right / rows}, counts)

    return TaskData([*phrases, *(word for words in offered for word in words)], score)


def count_right_choices(phrases: np.ndarray, offered: np.ndarray, sizes: list[int]) -> int:
    """Count the phrases whose answer is nearer than every other word offered.

    A tie is wrong, so zero vectors score nothing.

    Parameters
    ----------
    phrases : ndarray of shape (N, D)
    offered : ndarray of shape (M, D)
        Words offered, phrase by phrase; the answer comes first.
    sizes : list of int of length N
        Number of words offered for each phrase. The sum is M.
    """
    owners = np.repeat(np.arange(len(sizes)), sizes)
    cosines = paired_cosines(phrases[owners], offered)
    rows = np.split(cosines, np.cumsum(sizes)[:-1])
    return sum(bool(row[0] > row[1:].max(initial=-np.inf)) for row in rows)


_KINDS = {
    ("text1", "text2", "score"): _load_relatedness,
    ("text1", "text2", "label"): _load_paraphrases,
    ("phrase", "answer", "distractors"): _load_choices,
}
