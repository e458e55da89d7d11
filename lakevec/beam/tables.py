"""Texts in pyarrow Tables, as Beam reads and writes Parquet in batches."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec.beam.counting_encoder import CountingEncoder
from lakevec.beam.elements import Fields
from lakevec.pipeline.encoding.chunking import Chunker
from lakevec.pipeline.encoding.text_validation import (
    NOT_UTF8,
    as_bytes,
    find_invalid_texts,
    is_string,
    split_invalid,
    view_as_strings,
    without,
)
from lakevec.pipeline.errors import DataError

# Rows of a table that is given on, and bytes of one that holds chunks, or a little more.
TABLE_ROWS = 16_384
_TABLE_BYTES = 32 << 20


def embed_table(
    encoder: CountingEncoder, rows: pa.Table, fields: Fields
) -> Iterator[tuple[pa.Table, str | None]]:
    """Yield the table with its vectors, and each part in quarantine with its reason.

    As in the Spark job, a text that is not valid UTF-8 becomes null, and texts in quarantine are bytes.
    """
    position, texts = _texts_of(rows, fields)
    encoded, found = encoder.encode(texts)
    if encoder.leaves_out and found:
        for reason, invalid in found.items():
            is_part = pa.array(invalid)
            yield (
                rows.filter(is_part).set_column(position, fields.text, as_bytes(texts.filter(is_part))),
                reason,
            )
        rows = rows.filter(pa.array(~np.logical_or.reduce(list(found.values()))))
    elif NOT_UTF8 in found:
        valid = without(texts, found[NOT_UTF8]).cast(rows.column(position).type)
        rows = rows.set_column(position, fields.text, valid)
    yield rows.append_column(fields.added[0], encoded.to_arrow()), None


def chunk_table(chunker: Chunker, rows: pa.Table, fields: Fields) -> Iterator[pa.Table]:
    """Yield tables with a row for each chunk; its text is the chunk, or an invalid text as it was."""
    position, texts = _texts_of(rows, fields)
    kind = rows.column(position).type
    kind = kind.value_type if pa.types.is_dictionary(kind) else kind
    # A chunk repeats its row, but never the whole text.
    others = rows.set_column(position, fields.text, pa.nulls(len(rows)))
    waiting: list[pa.Table] = []
    for part in chunker.split_parts(split_invalid(texts, find_invalid_texts(texts))[0]):
        for chunks, repeated in part.batches(others):
            is_bad = chunks.start.is_null()
            pieces = pc.replace_with_mask(chunks.texts, is_bad, texts.take(chunks.parents.filter(is_bad)))
            pieces = pieces.cast(kind) if is_string(kind) else as_bytes(pieces).cast(kind)
            table = repeated.set_column(position, fields.text, pieces)
            for name, values in zip(fields.added, (chunks.index, chunks.start, chunks.end), strict=True):
                table = table.append_column(name, values)
            waiting.append(table)
            if sum(map(len, waiting)) >= TABLE_ROWS or sum(each.nbytes for each in waiting) >= _TABLE_BYTES:
                yield pa.concat_tables(waiting)
                waiting = []
    if waiting:
        yield pa.concat_tables(waiting)


def _texts_of(rows: pa.Table, fields: Fields) -> tuple[int, pa.LargeStringArray]:
    """Return the text column's position, and its values as one array; their bytes are not checked."""
    fields.check(dict.fromkeys(rows.column_names))
    position = rows.schema.get_field_index(fields.text)
    column = rows.column(position)
    if pa.types.is_dictionary(column.type):
        column = column.cast(column.type.value_type)
    chunks = [view_as_strings(chunk) for chunk in column.chunks]
    if not all(is_string(chunk.type) for chunk in chunks):
        raise DataError(f"can't embed column {fields.text!r}", got=str(column.type), expected="strings")
    kind = chunks[0].type if chunks else pa.string()
    return position, pa.chunked_array(chunks, type=kind).cast(pa.large_string()).combine_chunks()
