"""Retrieval: whether the documents nearest to a query are those that answer it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.metrics import TaskData, TaskScores, all_cosines, count_unknown
from lakevec.pipeline.evaluation.task_files import read_columns
from lakevec.pipeline.storage import Location

_DEPTH = 10
_QUERIES_AT_ONCE = 128


def load_retrieval(folder: Location) -> TaskData:
    """Load a retrieval task: rank all documents by cosine, for each query with a judgement above 0.

    The folder holds ``corpus.parquet`` (``id, title, text``), ``queries.parquet`` (``id, text``) and
    ``qrels.parquet`` (``query_id, corpus_id, score``). As in MTEB, a document is its title, a space and its
    text.
    """
    corpus = read_columns(folder / "corpus.parquet", {"id": "text", "title": "text", "text": "text"})
    queries = read_columns(folder / "queries.parquet", {"id": "text", "text": "text"})
    qrels = read_columns(
        folder / "qrels.parquet", {"query_id": "text", "corpus_id": "text", "score": "number"}
    )
    for name, ids in (("corpus", corpus["id"]), ("queries", queries["id"])):
        if len(set(ids)) < len(ids):
            raise InputError(
                f"task {folder.path!r}", got=f"ids of {name} that repeat", expected="one row per id"
            )
    gains: dict[str, dict[str, float]] = {}
    for query, document, gain in zip(qrels["query_id"], qrels["corpus_id"], qrels["score"], strict=True):
        if gain > 0:
            gains.setdefault(query, {})[document] = gain
    if gains and set(corpus["id"]).isdisjoint(chain.from_iterable(gains.values())):
        raise InputError(
            f"task {folder.path!r}: column 'corpus_id'",
            got="no id of the corpus",
            expected="ids of corpus.parquet",
        )
    asked = {name: text for name, text in zip(queries["id"], queries["text"], strict=True) if name in gains}
    if not asked:
        raise InputError(f"task {folder.path!r}", got="no query with a judgement above 0")
    documents = [
        f"{title} {text}".strip() for title, text in zip(corpus["title"], corpus["text"], strict=True)
    ]

    def score(vectors: np.ndarray) -> TaskScores:
        ranked = rank_documents(vectors[len(documents) :], vectors[: len(documents)], corpus["id"])
        counts = {"documents": len(documents), "queries": len(asked), "unknown": count_unknown(vectors)}
        return TaskScores("ndcg_at_10", _average(ranked, [gains[name] for name in asked]), counts)

    return TaskData([*documents, *asked.values()], score)


def _average(ranked: Iterator[list[str]], gains: Sequence[Mapping[str, float]]) -> dict[str, float]:
    """Return the means over queries."""
    pairs = list(zip(ranked, gains, strict=True))
    recalls = [len(relevant.keys() & set(found)) / len(relevant) for found, relevant in pairs]
    return {
        "ndcg_at_10": float(np.mean([ndcg(found, relevant) for found, relevant in pairs])),
        "recall_at_10": float(np.mean(recalls)),
    }


def rank_documents(
    queries: np.ndarray, documents: np.ndarray, ids: Sequence[str], *, depth: int = _DEPTH
) -> Iterator[list[str]]:
    """Yield the ids of the documents nearest to each query, nearest first.

    Among equally near documents, the one with the larger id comes first, as in trec_eval.
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

    It is ``sum(gain_i / log2(i + 1))`` over ranks i from 1, divided by the same sum of the best order
    (Järvelin and Kekäläinen, 2002; linear gains, as in trec_eval).

    Parameters
    ----------
    found : sequence of str
        Ids of documents, best first.
    relevant : mapping of str to float
        Gain of each relevant document, above 0.
    depth : int, default=10
        Number of documents that count.

    Examples
    --------
    >>> round(ndcg(["b", "a"], {"a": 1.0}), 6)
    0.63093
    """
    discounts = 1 / np.log2(np.arange(2, depth + 2))
    gains = np.array([relevant.get(document, 0.0) for document in found[:depth]])
    best = np.sort(np.array(list(relevant.values())))[::-1][:depth]
    return float((gains * discounts[: len(gains)]).sum() / (best * discounts[: len(best)]).sum())
