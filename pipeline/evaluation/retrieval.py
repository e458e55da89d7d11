"""Retrieval: whether what answers a query is nearest to it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence

import numpy as np

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.metrics import Encode, TaskScores, all_cosines, is_zero
from lakevec.pipeline.evaluation.task_files import read_columns
from lakevec.pipeline.storage import Location

_DEPTH = 10
_QUERIES_AT_ONCE = 128


def evaluate_retrieval(folder: Location, encode: Encode) -> TaskScores:
    """Evaluate retrieval by cosine, over all documents.

    Parameters
    ----------
    folder : Location
        Folder of ``corpus.parquet`` (``id, title, text``), ``queries.parquet`` (``id, text``) and
        ``qrels.parquet`` (``query_id, corpus_id, score``).
    encode : callable
        Strings to float32 ndarray of shape (N, D).

    Returns
    -------
    TaskScores
        ``ndcg_at_10`` and ``recall_at_10``, means over the queries with a judgement above 0.

    Raises
    ------
    InputError
        If no query has such a judgement, or an id repeats.

    Notes
    -----
    A document is its title, a space and its text, as in MTEB. Of equally near documents the one with the
    greater id comes first, as in trec_eval.
    """
    corpus = read_columns(folder / "corpus.parquet", {"id": "text", "title": "text", "text": "text"})
    queries = read_columns(folder / "queries.parquet", {"id": "text", "text": "text"})
    qrels = read_columns(
        folder / "qrels.parquet", {"query_id": "text", "corpus_id": "text", "score": "number"}
    )
    for name, ids in (("corpus", corpus["id"]), ("queries", queries["id"])):
        if len(set(ids)) < len(ids):
            raise InputError(
                f"task {folder.path!r}", got=f"ids of {name} that repeat", expected="one row an id"
            )
    judged = _judgements(qrels["query_id"], qrels["corpus_id"], qrels["score"])
    if judged and not {document for found in judged.values() for document in found} & set(corpus["id"]):
        raise InputError(
            f"task {folder.path!r}: column 'corpus_id'",
            got="no id that stands in the corpus",
            expected="ids of corpus.parquet",
        )
    asked = [row for row, query in enumerate(queries["id"]) if query in judged]
    if not asked:
        raise InputError(f"task {folder.path!r}", got="no query with a judgement above 0")
    documents = [
        f"{title} {text}".strip() for title, text in zip(corpus["title"], corpus["text"], strict=True)
    ]
    vectors = encode([*documents, *(queries["text"][row] for row in asked)])
    ranked = rank_documents(vectors[len(documents) :], vectors[: len(documents)], corpus["id"])
    per_query = [(judged[queries["id"][row]], found) for row, found in zip(asked, ranked, strict=True)]
    metrics = {
        "ndcg_at_10": float(np.mean([ndcg(found, relevant) for relevant, found in per_query])),
        "recall_at_10": float(
            np.mean([len(relevant.keys() & set(found)) / len(relevant) for relevant, found in per_query])
        ),
    }
    counts = {"documents": len(documents), "queries": len(asked), "unknown": int(is_zero(vectors).sum())}
    return TaskScores("ndcg_at_10", metrics, counts)


def rank_documents(
    queries: np.ndarray, documents: np.ndarray, ids: Sequence[str], *, depth: int = _DEPTH
) -> Iterator[list[str]]:
    """Find the documents nearest to each query.

    Parameters
    ----------
    queries : ndarray of shape (N, D)
    documents : ndarray of shape (M, D)
    ids : sequence of str of length M
    depth : int, default=10
        How many documents to find.

    Yields
    ------
    list of str
        Ids, nearest first, for each query.
    """
    names = np.array(ids)
    for start in range(0, len(queries), _QUERIES_AT_ONCE):
        for cosines in all_cosines(queries[start : start + _QUERIES_AT_ONCE], documents):
            least = -np.partition(-cosines, depth - 1)[depth - 1] if len(cosines) > depth else -np.inf
            near = np.flatnonzero(cosines >= least)
            best = near[np.lexsort((names[near], cosines[near]))[::-1][:depth]]
            yield names[best].tolist()


def ndcg(found: Sequence[str], relevant: Mapping[str, float], *, depth: int = _DEPTH) -> float:
    """Return the normalised discounted cumulative gain of one query.

    Parameters
    ----------
    found : sequence of str
        Ids of documents, best first.
    relevant : mapping of str to float
        Gain of each relevant document, above 0.
    depth : int, default=10
        How many documents count.

    Returns
    -------
    float

    Notes
    -----
    ``sum(gain_i / log2(i + 1))`` over ranks i from 1, divided by what the best order would have (Järvelin
    and Kekäläinen, 2002; linear gains, as in trec_eval).

    Examples
    --------
    >>> round(ndcg(["b", "a"], {"a": 1.0}), 6)
    0.63093
    """
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    gains = np.array([relevant.get(document, 0.0) for document in found[:depth]])
    best = np.sort(np.array(list(relevant.values())))[::-1][:depth]
    return float((gains * discounts[: len(gains)]).sum() / (best * discounts[: len(best)]).sum())


def _judgements(queries: list[str], documents: list[str], gains: list[float]) -> dict[str, dict[str, float]]:
    judged: dict[str, dict[str, float]] = {}
    for query, document, gain in zip(queries, documents, gains, strict=True):
        if gain > 0:
            judged.setdefault(query, {})[document] = gain
    return judged
