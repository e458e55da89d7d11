"""Signs as bits: what each bit means, and that other libraries pack alike."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as arrays

from lakevec.pipeline.encoding.encoder import Encoded, EncodingCounts
from lakevec.pipeline.encoding.packed_signs import pack_signs, packed_width, unpack_signs
from lakevec.pipeline.encoding.stored_vectors import VectorType, read_back, to_arrow_columns

some_vectors = arrays.arrays(
    np.float32,
    st.tuples(st.integers(0, 6), st.integers(1, 40)),
    elements=st.sampled_from([0.0, -0.0, 1e-45, -1e-45, 0.5, -0.5, 1e30, -1e30]),
)


@given(some_vectors)
def test_each_bit_says_whether_its_element_is_above_zero(vectors: np.ndarray) -> None:
    packed = pack_signs(vectors)
    assert packed.shape == (len(vectors), packed_width(vectors.shape[1]))
    for vector, row in zip(vectors, packed.tolist(), strict=True):
        digits = "".join(f"{byte:08b}" for byte in row)
        assert digits == "".join("1" if value > 0 else "0" for value in vector).ljust(len(digits), "0")


@given(some_vectors)
def test_unpacked_signs_are_one_and_minus_one_or_all_zero(vectors: np.ndarray) -> None:
    signs = unpack_signs(pack_signs(vectors), vectors.shape[1])
    known = (vectors > 0).any(axis=1)
    assert signs.dtype == np.int8
    assert (signs[known] == np.where(vectors[known] > 0, 1, -1)).all()
    assert not signs[~known].any()
    assert (pack_signs(signs) == pack_signs(vectors)).all()


@given(some_vectors)
def test_hamming_distance_of_bits_is_the_cosine_of_signs(vectors: np.ndarray) -> None:
    packed, signs = pack_signs(vectors), unpack_signs(pack_signs(vectors), vectors.shape[1])
    for one in range(len(vectors)):
        for other in range(len(vectors)):
            if signs[one].any() and signs[other].any():
                distance = int(np.bitwise_count(packed[one] ^ packed[other]).sum())
                assert vectors.shape[1] - 2 * distance == int(signs[one].astype(int) @ signs[other])


@pytest.mark.filterwarnings("ignore::DeprecationWarning")
def test_sentence_transformers_and_faiss_pack_alike() -> None:
    quantization = pytest.importorskip("sentence_transformers.quantization")
    faiss = pytest.importorskip("faiss")
    vectors = np.random.default_rng(1).standard_normal((5, 64), dtype=np.float32)
    packed = pack_signs(vectors)
    assert (packed == quantization.quantize_embeddings(vectors, precision="ubinary")).all()
    index = faiss.IndexBinaryFlat(64)
    index.add(packed)
    distances, _ = index.search(packed[:1], 5)
    expected = sorted(int(((vectors[0] > 0) != (vector > 0)).sum()) for vector in vectors)
    assert distances[0].tolist() == expected


@given(some_vectors, st.data())
def test_arrow_array_has_a_fixed_size_and_nulls(vectors: np.ndarray, data: st.DataObject) -> None:
    is_null = np.array(data.draw(st.lists(st.booleans(), min_size=len(vectors), max_size=len(vectors))), bool)
    encoded = Encoded(vectors, is_null, EncodingCounts(rows=len(vectors)))
    [(name, column)] = to_arrow_columns(encoded, "v", VectorType.BINARY).items()
    assert (name, column.type) == ("v", pa.binary(packed_width(vectors.shape[1])))
    column.validate(full=True)
    expected = [
        None if gone else bytes(row) for gone, row in zip(is_null, pack_signs(vectors).tolist(), strict=True)
    ]
    assert column.to_pylist() == expected


@pytest.mark.parametrize(
    ("kind", "size"), [("float32", 400), ("float16", 200), ("int8", 104), ("binary", 13)], ids=str
)
def test_vectors_read_back_are_near_and_their_size_is_told(kind: str, size: int) -> None:
    vectors = np.random.default_rng(2).standard_normal((50, 100), dtype=np.float32)
    vectors[3] = 0
    read = read_back(vectors, VectorType(kind))
    assert (read.dtype, read.shape, VectorType(kind).vector_bytes(100)) == (np.float32, (50, 100), size)
    assert not read[3].any()
    lengths = np.linalg.norm(vectors, axis=1) * np.linalg.norm(read, axis=1)
    cosines = (vectors * read).sum(axis=1)[lengths > 0] / lengths[lengths > 0]
    assert cosines.min() > (0.7 if kind == "binary" else 0.999)
