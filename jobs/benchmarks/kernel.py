"""Ways from texts to vectors in one process: lakevec's kernel, and what others do with the same texts."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any

import pyarrow as pa
from tokenizers import Tokenizer

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.errors import SetupError
from lakevec.pipeline.model.table import StaticTable

if TYPE_CHECKING:
    from model2vec import StaticModel

# As many rows as Spark hands over at a time.
_BATCH_ROWS = 10_000

MODEL2VEC = "model2vec encode"
LAKEVEC = "lakevec"


def kernel_ways(table: StaticTable, texts: pa.Array, peer_texts: pa.Array) -> dict[str, Callable[[], int]]:
    """Return model2vec's way and ours.

    Parameters
    ----------
    table : StaticTable
    texts, peer_texts : pyarrow.LargeStringArray
        What lakevec embeds, and what model2vec does.

    Returns
    -------
    dict of str to callable
        Each returns its number of rows.
    """
    static = load_model2vec(table)
    return {
        MODEL2VEC: partial(run_model2vec, static, peer_texts),
        LAKEVEC: LakevecWay(table, texts),
    }


class LakevecWay:
    """Embed with an encoder that was made before, as model2vec's was, but whose memo is empty in every run.

    Parameters
    ----------
    table : StaticTable
    texts : pyarrow.LargeStringArray
    """

    def __init__(self, table: StaticTable, texts: pa.Array) -> None:
        self._table = table
        self._texts = texts
        self._encoder = Encoder(table)

    def prepare(self) -> None:
        """Forget everything."""
        self._encoder = Encoder(self._table)

    def __call__(self) -> int:
        """Embed all texts and return how many there are."""
        for start in range(0, len(self._texts), _BATCH_ROWS):
            self._encoder.encode(self._texts.slice(start, _BATCH_ROWS))
        return len(self._texts)


def load_model2vec(table: StaticTable) -> StaticModel:
    """Make model2vec's model of the same table.

    Parameters
    ----------
    table : StaticTable

    Returns
    -------
    model2vec.StaticModel

    Raises
    ------
    SetupError
        If model2vec is not installed.
    """
    try:
        from model2vec import StaticModel
    except ImportError as error:
        raise peer_missing(error) from None
    return StaticModel(
        table.dense_rows(), Tokenizer.from_str(table.tokenizer_json), normalize=table.normalize
    )


def run_model2vec(static: StaticModel, texts: pa.Array) -> int:
    """Embed with model2vec's ``encode``: one process, no truncation.

    Parameters
    ----------
    static : model2vec.StaticModel
    texts : pyarrow.LargeStringArray

    Returns
    -------
    int
        Number of texts.
    """
    for start in range(0, len(texts), _BATCH_ROWS):
        strings = texts.slice(start, _BATCH_ROWS).to_pylist()
        static.encode(strings, max_length=None, use_multiprocessing=False)
    return len(texts)


def load_static_embedding(model: str) -> Any:
    """Load a published model with Sentence Transformers.

    Parameters
    ----------
    model : str
        Local folder.

    Returns
    -------
    sentence_transformers.SentenceTransformer

    Raises
    ------
    SetupError
        If Sentence Transformers is not installed.
    """
    try:
        from sentence_transformers import SentenceTransformer
    except ImportError as error:
        raise peer_missing(error) from None
    return SentenceTransformer(model, device="cpu")


def run_static_embedding(transformer: Any, texts: pa.Array) -> int:
    """Embed with the ``encode`` of Sentence Transformers' StaticEmbedding.

    Parameters
    ----------
    transformer : sentence_transformers.SentenceTransformer
    texts : pyarrow.LargeStringArray

    Returns
    -------
    int
        Number of texts.
    """
    for start in range(0, len(texts), _BATCH_ROWS):
        transformer.encode(texts.slice(start, _BATCH_ROWS).to_pylist(), batch_size=1024)
    return len(texts)


def run_tokenizers(tokenizer: Tokenizer, texts: pa.Array) -> int:
    """Tokenize whole texts, and make no vectors.

    Parameters
    ----------
    tokenizer : tokenizers.Tokenizer
    texts : pyarrow.LargeStringArray

    Returns
    -------
    int
        Number of texts.
    """
    for start in range(0, len(texts), 1024):
        tokenizer.encode_batch_fast(texts.slice(start, 1024).to_pylist(), add_special_tokens=False)
    return len(texts)


def peer_missing(error: ImportError) -> SetupError:
    """Make the error about a peer that is not installed.

    Parameters
    ----------
    error : ImportError

    Returns
    -------
    SetupError
    """
    return SetupError(
        "a peer to compare with is not installed",
        got=f"no {error.name}",
        remedy="pip install 'lakevec[benchmark]'",
    )
