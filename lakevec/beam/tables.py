"""Texts in pyarrow Tables, as Beam reads and writes Parquet in batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa

from lakevec.beam.counting_encoder import CountingEncoder
from lakevec.beam.elements import Fields
from lakevec.pipeline.encoding.text_validation import (
    NOT_UTF8,
    as_bytes,
    is_string,
    view_as_strings,
    without,
)
from lakevec.pipeline.errors import DataError


def embed_table(
    encoder: CountingEncoder, rows: pa.Table, fields: Fields
) -> Iterator[tuple[pa.Table, str | None]]:
    """Yield the table with its vectors, and each part in quarantine with its reason.

    As in the Spark job, a text that is not valid UTF-8 becomes null, and texts in quarantine are bytes.
    """
    fields.check(dict.fromkeys(rows.column_names))
    name = str(fields.text)
    position = rows.schema.get_field_index(name)
    texts = _strings(rows.column(position), name)
    encoded, found = encoder.encode(texts)
    if encoder.leaves_out and found:
        for reason, invalid in found.items():
            is_part = pa.array(invalid)
            yield rows.filter(is_part).set_column(position, name, as_bytes(texts.filter(is_part))), reason
        rows = rows.filter(pa.array(~np.logical_or.reduce(list(found.values()))))
    elif NOT_UTF8 in found:
        valid = without(texts, found[NOT_UTF8]).cast(rows.column(position).type)
        rows = rows.set_column(position, name, valid)
    yield rows.append_column(fields.output, encoded.to_arrow()), None


def _strings(column: pa.ChunkedArray, name: str) -> pa.LargeStringArray:
    """Return a column as one array; its bytes are not checked."""
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    chunks = [view_as_strings(chunk) for chunk in column.chunks]
    if not all(is_string(chunk.type) for chunk in chunks):
        raise DataError(f"can't embed column {name!r}", got=str(column.type), expected="strings")
    kind = chunks[0].type if chunks else pa.string()
    return pa.chunked_array(chunks, type=kind).cast(pa.large_string()).combine_chunks()
