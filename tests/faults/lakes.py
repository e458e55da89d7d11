"""Lakes and models whose content depends only on a row's number."""

from __future__ import annotations

import os
from itertools import pairwise
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable

DIMENSIONS = 64
_WORDS = ["[UNK]", *(f"word{number}" for number in range(500))]
_STEPS = np.array([1, 7, 31, 101, 211, 331])
_FIRST_MODIFIED = 1_700_000_000


def publish_model(folder: Path, *, seed: int) -> str:
    """Publish a model of random vectors."""
    tokenizer = Tokenizer(models.WordLevel({word: n for n, word in enumerate(_WORDS)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.Lowercase()
    tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    rows = np.random.default_rng(seed).standard_normal((len(_WORDS), DIMENSIONS), dtype=np.float32)
    table = StaticTable(rows, tokenizer.to_str(), normalize=True)
    publish(table, str(folder), provenance={"teacher": {"name": "random", "revision": str(seed)}}, quality={})
    return str(folder)


def make_rows(ids: np.ndarray, *, text: np.ndarray | int = 0, version: np.ndarray | int = 0) -> pa.Table:
    """Make the rows of some ids; `text` and `version` are numbers that determine a row's content."""
    said = np.broadcast_to(text, ids.shape)[:, None]
    chosen = (ids[:, None] * _STEPS + said * 17 + np.arange(len(_STEPS)) * 97) % (len(_WORDS) - 1) + 1
    texts = [" ".join(row) for row in np.array(_WORDS, dtype=object)[chosen]]
    texts = np.where(ids % 103 == 7, "", np.array(texts, dtype=object))
    texts = np.where(ids % 101 == 5, None, texts)
    versions = np.broadcast_to(version, ids.shape).astype(np.int32)
    return pa.table({"id": ids.astype(np.int64), "text": pa.array(texts, pa.string()), "version": versions})


def write_lake(folder: Path, rows: pa.Table, files: int, *, number: int = 0) -> None:
    """Write rows as files, numbered from `number`, with ascending modification times."""
    folder.mkdir(parents=True, exist_ok=True)
    ends = np.linspace(0, rows.num_rows, files + 1).astype(int)
    for start, end in pairwise(ends):
        file = folder / f"part-{number:03d}.parquet"
        pq.write_table(rows.slice(start, end - start), file)
        # Spark reads files in the order of their times, so every run makes the same micro-batches.
        modified = _FIRST_MODIFIED + 10 * number
        os.utime(file, (modified, modified))
        number += 1


def embedded(rows: pa.Table, model: str) -> pa.Table:
    """Return the rows that the job must write, computed without Spark."""
    encoder = Encoder(load(model).table)
    parts = [encoder.encode(batch.column("text")).vectors for batch in rows.to_batches()]
    flat = pa.array(np.concatenate(parts).ravel())
    vectors = pa.FixedSizeListArray.from_arrays(flat, DIMENSIONS).cast(pa.list_(pa.float32()))
    nulls = rows["text"].combine_chunks().is_null()
    kept = pa.array(
        np.where(nulls.to_numpy(zero_copy_only=False), None, np.arange(rows.num_rows)), pa.int64()
    )
    return rows.append_column("text_embedding", vectors.take(kept))
