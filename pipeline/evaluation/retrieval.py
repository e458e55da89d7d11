"""Retrieval: whether the documents nearest to a query are those that answer it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from itertools import chain

import numpy as np

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.evaluation.metrics import TaskData, TaskScores, all_cosines, count_unknown
from lakevec.pipeline.evaluation.ranking import DEPTH, ndcg, recall
from lakevec.pipeline.evaluation.task_files import read_columns
from lakevec.pipeline.storage import Location

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
        by_rank = arrange_gains(list(ranked), [gains[name] for name in asked])
        metrics = {"ndcg_at_10": ndcg(by_rank), "recall_at_10": recall(by_rank)}
        counts = {"documents": len(documents), "queries": len(asked), "unknown": count_unknown(vectors)}
        return TaskScores("ndcg_at_10", metrics, counts)

    return TaskData([*documents, *asked.values()], score, slice(len(documents), None))


def arrange_gains(found: Sequence[Sequence[str]], relevant: Sequence[Mapping[str, float]]) -> np.ndarray:
    """Put gains of documents in the order of their ranks, and those of documents not found behind them.

    Parameters
    ----------
    found : sequence of length Q of sequences of str
        Ids of each query's documents, best first.
    relevant : sequence of length Q of mappings of str to float
        Gain of each relevant document, above 0.

    Returns
    -------
    float ndarray of shape (Q, N)
        0 for a document without a gain, and for ranks without a document.
    """
    rows = []
    for ids, gains in zip(found, relevant, strict=True):
        missed = [gain for document, gain in gains.items() if document not in ids]
        rows.append([*(gains.get(document, 0.0) for document in ids), *[0.0] * (DEPTH - len(ids)), *missed])
    arranged = np.zeros((len(rows), max(map(len, rows))))
    for place, row in enumerate(rows):
        arranged[place, : len(row)] = row
    return arranged


def rank_documents(
    queries: np.ndarray, documents: np.ndarray, ids: Sequence[str], *, depth: int = DEPTH
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
