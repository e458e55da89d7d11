"""Sample distinct texts of a user's rows. The layout of the files does not change the sample."""

from __future__ import annotations

import numpy as np
import pandas as pd
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.dataset as ds

from lakevec.pipeline.errors import InputError, did_you_mean, rephrase
from lakevec.pipeline.storage import locate

_BATCH_ROWS = 1 << 16
# With fewer texts, a bootstrap resample might repeat a single text.
LEAST_TEXTS = 20


def sample_texts(uri: str, column: str, *, rows: int) -> list[str]:
    """Read the distinct texts of a column with the smallest hashes, in the order of their hashes.

    A hash depends on the text alone (SipHash with a fixed key). So the sample is uniform over distinct texts,
    and neither files, their order nor partitions change it. Nulls and blank texts are left out. Only the
    sample and one batch are in memory.

    Parameters
    ----------
    uri : str
        Parquet file, or folder or URI of such files.
    column : str
        A column of strings.
    rows : int
        Maximum number of texts.

    Raises
    ------
    InputError
        If the files can't be read, have no such column of strings, or have fewer than 20 texts.
    """
    place = locate(uri, error=InputError)
    with rephrase(
        InputError,
        f"sample {uri!r} can't be read",
        on=(OSError, pa.ArrowException),
        expected="Parquet files",
    ):
        source = ds.dataset(place.path, filesystem=place.filesystem, format="parquet")
        _check_column(source.schema, column, uri)
        kept = np.empty(0, dtype=object)
        for batch in source.to_batches(columns=[column], batch_size=_BATCH_ROWS):
            kept = _keep_smallest(kept, batch.column(0), rows)
    if len(kept) < LEAST_TEXTS:
        raise InputError(
            f"sample {uri!r}: column {column!r}",
            got=f"{len(kept)} distinct texts",
            expected=f"at least {LEAST_TEXTS}",
        )
    texts: list[str] = kept.tolist()
    return texts


def _check_column(schema: pa.Schema, column: str, uri: str) -> None:
    if column not in schema.names:
        raise InputError(
            f"sample {uri!r} has no column {column!r}",
            expected=f"one of {', '.join(map(repr, schema.names))}",
            remedy=did_you_mean(column, schema.names, "name it with --text"),
        )
    kind = schema.field(column).type
    if not (pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind)):
        raise InputError(f"sample {uri!r}: column {column!r}", got=str(kind), expected="strings")


def _keep_smallest(kept: np.ndarray, texts: pa.Array, rows: int) -> np.ndarray:
    """Merge a batch into the kept texts; drop those whose hashes are no longer among the smallest."""
    texts = pc.cast(texts, pa.large_string())
    texts = texts.filter(pc.greater(pc.utf8_length(pc.utf8_trim_whitespace(texts)), 0))
    both = np.array(list(dict.fromkeys([*kept.tolist(), *texts.to_pylist()])), dtype=object)
    if not len(both):
        return both
    # Texts with equal hashes are in the order of the texts.
    smallest: np.ndarray = both[np.lexsort((both, pd.util.hash_array(both, categorize=False)))[:rows]]
    return smallest
