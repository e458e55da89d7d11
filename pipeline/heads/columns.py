"""The columns that a head adds to an output."""

from __future__ import annotations

from collections.abc import Iterable

import numpy as np
import pyarrow as pa

from lakevec.pipeline.arrow_arrays import from_numpy, from_strings, validity
from lakevec.pipeline.heads.head import Head, HeadKind, choose_label, choose_labels

_VALUE, _LABEL, _PROBABILITY = "_value", "_label", "_probability"


def column_types(head: Head, prefix: str = "") -> dict[str, str]:
    """Return name and Spark type of each column of a head.

    Examples
    --------
    >>> rows, zeros = np.eye(2, dtype=np.float32), np.zeros(2, dtype=np.float32)
    >>> column_types(Head("topic", HeadKind.CLASSIFICATION, "sha256:0", rows, zeros, ("a", "b")))
    {'topic_label': 'string', 'topic_probability': 'float'}
    """
    name = prefix + head.name
    if head.kind is HeadKind.REGRESSION:
        return {name + _VALUE: "double"}
    kinds = head.label_type.replace("long", "bigint"), "float"
    if head.kind is HeadKind.MULTI_LABEL:
        kinds = f"array<{kinds[0]}>", f"array<{kinds[1]}>"
    return dict(zip((name + _LABEL, name + _PROBABILITY), kinds, strict=True))


def prefix_of(column: str, texts: Iterable[str]) -> str:
    """Return what begins the names of a text column's labels: nothing if it is the only text column."""
    return "" if set(texts) == {column} else f"{column}_"


def to_arrow_columns(
    heads: Iterable[Head], vectors: np.ndarray, is_null: np.ndarray, prefix: str = ""
) -> dict[str, pa.Array]:
    """Return the columns of heads for N vectors; null where the text was null.

    Parameters
    ----------
    heads : iterable of Head
    vectors : float32 ndarray of shape (N, D)
    is_null : bool ndarray of shape (N,)
    prefix : str, default=""
        Begins the names of the columns.
    """
    columns: dict[str, pa.Array] = {}
    for head in heads:
        names = column_types(head, prefix)
        columns |= dict(zip(names, _predict(head, vectors, is_null), strict=True))
    return columns


def _predict(head: Head, vectors: np.ndarray, is_null: np.ndarray) -> list[pa.Array]:
    scores = head.scores(vectors)
    if head.kind is HeadKind.REGRESSION:
        return [from_numpy(np.ascontiguousarray(scores[:, 0]), is_null)]
    known = _label_array(head)
    if head.kind is HeadKind.CLASSIFICATION:
        best, probabilities = choose_label(scores)
        return [known.take(from_numpy(best, is_null)), from_numpy(probabilities, is_null)]
    rows, labels, probabilities = choose_labels(head, scores)
    is_kept = ~is_null[rows]
    ends = np.searchsorted(rows[is_kept], np.arange(len(scores) + 1)).astype(np.int32)
    parts = known.take(from_numpy(labels[is_kept])), from_numpy(probabilities[is_kept])
    return [_list_array(values, ends, is_null) for values in parts]


def _label_array(head: Head) -> pa.Array:
    if head.label_type == "string":
        return from_strings([str(label) for label in head.labels])
    numbers = from_numpy(np.array(head.labels, dtype=np.int64))
    return numbers.cast(pa.bool_()) if head.label_type == "boolean" else numbers


def _list_array(values: pa.Array, ends: np.ndarray, is_null: np.ndarray) -> pa.ListArray:
    # Name the element as Spark does, so that Spark need not cast.
    kind = pa.list_(pa.field("element", values.type))
    return pa.Array.from_buffers(
        kind, len(is_null), [validity(is_null), pa.py_buffer(ends)], children=[values]
    )
