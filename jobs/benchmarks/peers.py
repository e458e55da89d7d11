"""The libraries that lakevec is compared with: model2vec, StaticEmbedding and tokenizers.

Executors import this module as well; they import a library when its model is loaded.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import cache, partial
from typing import Any

import pandas as pd
import pyarrow as pa
from tokenizers import Tokenizer

from lakevec.pipeline.errors import requires_extra
from lakevec.pipeline.model.table import StaticTable

# Takes texts, and returns a vector for each.
Encode = Callable[[list[str]], Any]
# Rows of a batch that Spark passes to a Python worker by default.
BATCH_ROWS = 10_000


def load_model2vec(model: str | StaticTable) -> Encode:
    """Load a published model or a table with model2vec, to encode in one process without truncation."""
    with requires_extra("benchmark", "the comparison"):
        from model2vec import StaticModel
    if isinstance(model, str):
        static = StaticModel.from_pretrained(model)
    else:
        tokenizer = Tokenizer.from_str(model.tokenizer_json)
        static = StaticModel(model.dense_rows(), tokenizer, normalize=model.normalize)
    return partial(static.encode, max_length=None, use_multiprocessing=False)


def load_static_embedding(model: str) -> Encode:
    """Load a published model as Sentence Transformers' StaticEmbedding."""
    with requires_extra("benchmark", "the comparison"):
        from sentence_transformers import SentenceTransformer
    return partial(SentenceTransformer(model, device="cpu").encode, batch_size=1024)


def load_tokenizer(table: StaticTable) -> Encode:
    """Load a table's tokenizer alone, without vectors."""
    return partial(Tokenizer.from_str(table.tokenizer_json).encode_batch_fast, add_special_tokens=False)


def encode_batches(encode: Encode, texts: pa.Array, batch_rows: int = BATCH_ROWS) -> int:
    """Encode texts batch by batch; return their number."""
    for start in range(0, len(texts), batch_rows):
        encode(texts.slice(start, batch_rows).to_pylist())
    return len(texts)


def make_series_function(load: Callable[[str], Encode], model: str) -> Callable[[pd.Series], pd.Series]:
    """Make the function of a pandas UDF that embeds with a peer.

    Parameters
    ----------
    load : callable
        `load_model2vec` or `load_static_embedding`.
    model : str
        Folder of a published model.
    """

    def embed_texts(texts: pd.Series) -> pd.Series:
        # Spark pickles this function by value, but `_embed_series` by name, so a worker keeps its cache.
        return _embed_series(load, model, texts)

    return embed_texts


def _embed_series(load: Callable[[str], Encode], model: str, texts: pd.Series) -> pd.Series:
    return pd.Series(list(_load_once(load, model)(texts.fillna("").tolist())))


@cache
def _load_once(load: Callable[[str], Encode], model: str) -> Encode:
    """Load a model once per worker process."""
    return load(model)
