"""Distinct texts of a user's rows: the same ones each time, however the rows are laid out."""

from __future__ import annotations

import difflib

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from lakevec.pipeline.errors import InputError
from lakevec.pipeline.redaction import redact
from lakevec.pipeline.storage import locate

_BATCH_ROWS = 1 << 16
# Of fewer, some bootstrap resamples are one text many times.
LEAST_TEXTS = 20


def sample_texts(uri: str, column: str, *, rows: int) -> list[str]:
    """Read the distinct texts of a column whose hashes are smallest.

    Parameters
    ----------
    uri : str
        Parquet file, or folder or URI of such files.
    column : str
        A column of strings.
    rows : int
        How many texts to take; all, where there are fewer.

    Returns
    -------
    list of str
        In the order of their hashes. Nulls and texts without a letter, digit or sign are left out.

    Raises
    ------
    InputError
        If it can't be read, has no such column of strings, or fewer than 20 such texts.

    Notes
    -----
    A hash is a draw that depends on the text alone (SipHash with a fixed key), so the sample is uniform over
    distinct texts and neither files, their order nor partitions change it. Memory holds no more than the
    sample and one batch.
    """
    shown, place = redact(uri), locate(uri, error=InputError)
    try:
        source = ds.dataset(place.path, filesystem=place.filesystem, format="parquet")
        _check_column(source.schema, column, shown)
        kept = np.empty(0, dtype=object)
        for batch in source.to_batches(columns=[column], batch_size=_BATCH_ROWS):
            kept = _keep_smallest(kept, batch.column(0), rows)
    except (OSError, pa.ArrowException) as error:
        raise InputError(
            f"sample {shown!r} can't be read",
            got=redact(" ".join(str(error).split())[:200]),
            expected="Parquet files",
        ) from None
    if len(kept) < LEAST_TEXTS:
        raise InputError(
            f"sample {shown!r}: column {column!r}",
            got=f"{len(kept)} distinct texts",
            expected=f"at least {LEAST_TEXTS}",
        )
    texts: list[str] = kept.tolist()
    return texts


def _check_column(schema: pa.Schema, column: str, shown: str) -> None:
    if column not in schema.names:
        near = difflib.get_close_matches(column, schema.names, n=1)
        raise InputError(
            f"sample {shown!r} has no column {column!r}",
            expected=f"one of {', '.join(map(repr, schema.names))}",
            remedy=f"did you mean {near[0]!r}?" if near else "name it with --text",
        )
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise InputError(f"sample {shown!r}: column {column!r}", got=str(kind), expected="strings")


def _keep_smallest(kept: np.ndarray, texts: pa.Array, rows: int) -> np.ndarray:
    """Take a batch in and drop what is no longer among the smallest."""
    texts = pc.cast(texts, pa.large_string())
    texts = texts.filter(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0))
    both = np.array(list(dict.fromkeys([*kept.tolist(), *texts.to_pylist()])), dtype=object)
    if not len(both):
        return both
    # By text where hashes are equal.
    smallest: np.ndarray = both[np.lexsort((both, pd.util.hash_array(both, categorize=False)))[:rows]]
    return smallest
