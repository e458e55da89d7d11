from __future__ import annotations

import io
import struct

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lakevec.pipeline.output.thrift_compact import BINARY, I64, LIST, STRUCT, Struct, decode, encode
from tests.support.fuzzing import fuzz

NUMBERS = st.tuples(st.just(I64), st.integers(-(2**63), 2**63 - 1))
TEXTS = st.tuples(st.just(BINARY), st.binary(max_size=200))
BOOLEANS = st.booleans().map(lambda value: (1 if value else 2, value))
LEAVES = NUMBERS | TEXTS | BOOLEANS


def structs(values: st.SearchStrategy) -> st.SearchStrategy:
    return st.dictionaries(st.integers(1, 300), values, max_size=5)


NESTED = st.recursive(
    LEAVES,
    lambda inner: (
        structs(inner).map(lambda fields: (STRUCT, fields))
        | st.lists(structs(inner), max_size=17).map(lambda items: (LIST, (STRUCT, items)))
    ),
    max_leaves=8,
)


@fuzz(30)
@given(structs(NESTED))
def test_structs_come_back(fields: Struct) -> None:
    assert decode(encode(fields)) == fields


def test_footer_of_pyarrow_is_encoded_to_the_same_bytes() -> None:
    stream = io.BytesIO()
    columns = {f"column {number}": pa.array([number, None], pa.float64()) for number in range(40)}
    pq.write_table(pa.table(columns), stream, row_group_size=1)
    file = stream.getvalue()
    (size,) = struct.unpack("<I", file[-8:-4])
    footer = file[-8 - size : -8]
    assert encode(decode(footer)) == footer


@pytest.mark.parametrize("length", range(8))
def test_struct_that_ends_too_early_is_refused(length: int) -> None:
    whole = encode({1: (I64, -6), 2: (LIST, (BINARY, [b"ab"]))})
    with pytest.raises(ValueError, match="ends too early"):
        decode(whole[:length])
