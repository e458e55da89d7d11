"""Texts to vectors in one process: lakevec's kernel and what others do with the same texts."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass

import pyarrow as pa

from pipeline.encoding.encoder import Encoder
from pipeline.model.table import StaticTable

# As many rows as Spark hands over at a time.
_BATCH_ROWS = 10_000


@dataclass(frozen=True)
class Rate:
    """How fast a way is.

    Parameters
    ----------
    way : str
        Its name.
    rows : int
        Rows of one run.
    rows_per_s : float
        Median over the runs.
    runs : tuple of float
        Rows per second of each run, in the order they were made.
    """

    way: str
    rows: int
    rows_per_s: float
    runs: tuple[float, ...]


def make_encoder(table: StaticTable) -> Encoder:
    """Make an encoder as a worker does, its memo empty.

    Parameters
    ----------
    table : StaticTable

    Returns
    -------
    Encoder
    """
    return Encoder(
        table.embeddings,
        table.tokenizer_json,
        normalize=table.normalize,
        unknown_token_id=table.unknown_token_id,
    )


def lakevec_way(table: StaticTable) -> Callable[[pa.Array], None]:
    """Return lakevec's way: a new encoder for every run, so that each begins with an empty memo.

    Parameters
    ----------
    table : StaticTable

    Returns
    -------
    callable
        Embeds texts and forgets the vectors.
    """

    def run(texts: pa.Array) -> None:
        encoder = make_encoder(table)
        for start in range(0, len(texts), _BATCH_ROWS):
            encoder.encode(texts.slice(start, _BATCH_ROWS))

    return run


def model2vec_way(model: str) -> Callable[[pa.Array], None]:
    """Return model2vec's ``encode``, one process, no truncation.

    Parameters
    ----------
    model : str
        Local folder of the published model.

    Returns
    -------
    callable
    """
    from model2vec import StaticModel

    static = StaticModel.from_pretrained(model)

    def run(texts: pa.Array) -> None:
        for start in range(0, len(texts), _BATCH_ROWS):
            strings = texts.slice(start, _BATCH_ROWS).to_pylist()
            static.encode(strings, max_length=None, use_multiprocessing=False)

    return run


def sentence_transformers_way(model: str) -> Callable[[pa.Array], None]:
    """Return the ``encode`` of Sentence Transformers' StaticEmbedding.

    Parameters
    ----------
    model : str
        Local folder of the published model.

    Returns
    -------
    callable
    """
    from sentence_transformers import SentenceTransformer

    transformer = SentenceTransformer(model, device="cpu")

    def run(texts: pa.Array) -> None:
        for start in range(0, len(texts), _BATCH_ROWS):
            transformer.encode(texts.slice(start, _BATCH_ROWS).to_pylist(), batch_size=1024)

    return run


def tokenizers_way(table: StaticTable) -> Callable[[pa.Array], None]:
    """Return the tokenizer alone: whole texts to ids, and no vectors.

    Parameters
    ----------
    table : StaticTable

    Returns
    -------
    callable
    """
    from tokenizers import Tokenizer

    tokenizer = Tokenizer.from_str(table.tokenizer_json)

    def run(texts: pa.Array) -> None:
        for start in range(0, len(texts), 1024):
            tokenizer.encode_batch_fast(texts.slice(start, 1024).to_pylist(), add_special_tokens=False)

    return run


def take_turns(ways: dict[str, Callable[[], int]], repeats: int) -> list[Rate]:
    """Time ways one after the other, as often as wanted, so that a slow minute hits all of them.

    Parameters
    ----------
    ways : dict of str to callable
        Each returns how many rows it took.
    repeats : int
        Rounds.

    Returns
    -------
    list of Rate
        In the order of `ways`.
    """
    runs: dict[str, list[float]] = {way: [] for way in ways}
    rows = {}
    for _ in range(repeats):
        for way, run in ways.items():
            started = time.perf_counter()
            rows[way] = run()
            runs[way].append(rows[way] / (time.perf_counter() - started))
    return [Rate(way, rows[way], statistics.median(seen), tuple(seen)) for way, seen in runs.items()]


def warm_up(table: StaticTable) -> float:
    """Compile or load the kernel.

    Parameters
    ----------
    table : StaticTable

    Returns
    -------
    float
        Seconds.
    """
    started = time.perf_counter()
    make_encoder(table).encode(pa.array(["warm up"]))
    return time.perf_counter() - started
