"""Phrases, as in the PEARL benchmark: relatedness, paraphrases, and the one word that means the same."""

from __future__ import annotations

import numpy as np
from sklearn.metrics import average_precision_score

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.metrics import Encode, TaskScores, is_zero, paired_cosines, unit_rows
from lakevec.pipeline.evaluation.similarity import pearson
from lakevec.pipeline.evaluation.task_files import column_names, read_columns, read_scores
from lakevec.pipeline.storage import Location


def evaluate_phrases(file: Location, encode: Encode) -> TaskScores:
    """Evaluate a task of phrases; its columns say which kind it is.

    Parameters
    ----------
    file : Location
        Parquet of ``text1, text2, score`` (BIRD), ``text1, text2, label`` (PPDB) or ``phrase, answer,
        distractors`` (Turney).
    encode : callable
        Strings to float32 ndarray of shape (N, D).

    Returns
    -------
    TaskScores
        ``cosine_pearson`` of BIRD, ``cosine_accuracy`` of PPDB, ``accuracy`` of Turney.

    Raises
    ------
    InputError
        If the columns are of none of the three.
    """
    names = set(column_names(file))
    if {"text1", "text2", "score"} <= names:
        return _evaluate_relatedness(file, encode)
    if {"text1", "text2", "label"} <= names:
        return _evaluate_paraphrases(file, encode)
    if {"phrase", "answer", "distractors"} <= names:
        return _evaluate_choices(file, encode)
    raise InputError(
        f"task file {file.path!r}",
        got=f"columns {', '.join(sorted(names))}",
        expected="text1, text2, score; text1, text2, label; or phrase, answer, distractors",
    )


def _evaluate_relatedness(file: Location, encode: Encode) -> TaskScores:
    columns = read_columns(file, {"text1": "text", "text2": "text", "score": "number"})
    rows = len(columns["score"])
    vectors = encode([*columns["text1"], *columns["text2"]])
    cosines = paired_cosines(vectors[:rows], vectors[rows:])
    metrics = {"cosine_pearson": pearson(cosines, np.array(read_scores(file, columns)))}
    return TaskScores("cosine_pearson", metrics, {"pairs": rows, "unknown": int(is_zero(vectors).sum())})


def _evaluate_paraphrases(file: Location, encode: Encode) -> TaskScores:
    columns = read_columns(file, {"text1": "text", "text2": "text", "label": "number"})
    is_paraphrase = np.array(columns["label"]) > 0
    if is_paraphrase.all() or not is_paraphrase.any():
        raise InputError(f"task {file.path!r}", got="one label", expected="0 and 1")
    rows = len(is_paraphrase)
    vectors = encode([*columns["text1"], *columns["text2"]])
    cosines = paired_cosines(vectors[:rows], vectors[rows:])
    metrics = {
        "cosine_accuracy": best_accuracy(cosines, is_paraphrase),
        "cosine_ap": float(average_precision_score(is_paraphrase, cosines)),
    }
    return TaskScores("cosine_accuracy", metrics, {"pairs": rows, "unknown": int(is_zero(vectors).sum())})


def best_accuracy(cosines: np.ndarray, is_paraphrase: np.ndarray) -> float:
    """Return the accuracy of calling paraphrases what lies above a threshold, at the best threshold.

    Parameters
    ----------
    cosines : float64 ndarray of shape (N,)
    is_paraphrase : bool ndarray of shape (N,)

    Returns
    -------
    float

    Notes
    -----
    As MTEB measures pair classification. Equal cosines are on one side of a threshold.
    """
    order = np.argsort(-cosines, kind="stable")
    ordered, hits = cosines[order], np.cumsum(is_paraphrase[order])
    above = np.arange(1, len(order) + 1)
    # Cut behind row i: hits above it, and what is no paraphrase below it.
    right = hits + (len(order) - above) - (hits[-1] - hits)
    may_cut = np.append(ordered[:-1] > ordered[1:], True)
    return float(max(right[may_cut].max(), (~is_paraphrase).sum()) / len(order))


def _evaluate_choices(file: Location, encode: Encode) -> TaskScores:
    columns = read_columns(file, {"phrase": "text", "answer": "text", "distractors": "texts"})
    offered = [
        [answer, *distractors]
        for answer, distractors in zip(columns["answer"], columns["distractors"], strict=True)
    ]
    words = [word for row in offered for word in row]
    vectors = encode([*columns["phrase"], *words])
    right = count_right_choices(
        vectors[: len(offered)], vectors[len(offered) :], [len(row) for row in offered]
    )
    counts = {"phrases": len(offered), "right": right, "unknown": int(is_zero(vectors).sum())}
    return TaskScores("accuracy", {"accuracy": right / len(offered)}, counts)


def count_right_choices(phrases: np.ndarray, offered: np.ndarray, sizes: list[int]) -> int:
    """Count phrases to which the first of the words offered is nearer than any other.

    Parameters
    ----------
    phrases : ndarray of shape (N, D)
    offered : ndarray of shape (M, D)
        The words offered for each phrase, one phrase behind the other, the right one first.
    sizes : list of int of length N
        How many words each phrase has; they add up to M.

    Returns
    -------
    int
        A tie is wrong, so that nobody scores with vectors of zeros.
    """
    owners = np.repeat(np.arange(len(sizes)), sizes)
    cosines = paired_cosines(unit_rows(phrases)[owners], offered)
    ends = np.cumsum(sizes)
    rows = (cosines[end - size : end] for end, size in zip(ends, sizes, strict=True))
    return sum(bool(row[0] > row[1:].max(initial=-np.inf)) for row in rows)
