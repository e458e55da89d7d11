from __future__ import annotations

import copy
import os
import pickle
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import replace
from pathlib import Path
from typing import Literal

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.encoding.encoder import Encoded, Encoder, EncodingCounts, TableRows, list_array
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.encoding.stored_vectors import VectorType, to_arrow_columns
from lakevec.pipeline.encoding.tokenization import make_tokenizer
from lakevec.pipeline.errors import DataError, SettingsError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from tests.support.models import make_word_tokenizer
from tests.support.paths import ROOT


@pytest.fixture(scope="module")
def minilm_encoder(minilm_model: str) -> Encoder:
    return Encoder(load(minilm_model).table)


def test_worked_example_by_hand(tiny_table: StaticTable) -> None:
    texts = pa.array(["North east", "north north SOUTHWEST east", "nowhere", "", None, "  "])
    encoded = Encoder(tiny_table).encode(texts)
    assert encoded.vectors.tolist() == [[0.5, 0.5], [0.0, 0.25], [0, 0], [0, 0], [0, 0], [0, 0]]
    assert encoded.is_null.tolist() == [False, False, False, False, True, False]
    assert encoded.counts == EncodingCounts(
        rows=6, nulls=1, empties=1, zero_vectors=3, tokens=6, unknown_tokens=1, truncated=0
    )


def test_to_arrow_has_sparks_type_and_null_only_for_null_text(tiny_table: StaticTable) -> None:
    vectors = Encoder(tiny_table).encode(pa.array(["east", None, ""])).to_arrow()
    assert vectors.to_pylist() == [[1.0, 0.0], None, [0.0, 0.0]]
    assert vectors.type.value_type == pa.float32()


def test_max_tokens_takes_exactly_the_first_known_tokens(tiny_table: StaticTable) -> None:
    texts = pa.array(["nowhere north nowhere east southwest", "north"])
    encoded = Encoder(tiny_table, EncodeOptions(max_tokens=2)).encode(texts)
    assert encoded.vectors.tolist() == [[0.5, 0.5], [0.0, 1.0]]
    assert (encoded.counts.truncated, encoded.counts.tokens, encoded.counts.unknown_tokens) == (1, 3, 2)


@pytest.mark.parametrize("kind", [pa.string(), pa.large_string(), pa.string_view()], ids=str)
def test_every_arrow_string_type_gives_the_same_vectors(tiny_table: StaticTable, kind: pa.DataType) -> None:
    encoded = Encoder(tiny_table).encode(pa.array(["east", None, "north"], kind))
    assert encoded.vectors.tolist() == [[1, 0], [0, 0], [0, 1]]


def test_sliced_and_chunked_arrays_are_read_at_the_right_place(tiny_table: StaticTable) -> None:
    texts = pa.array(["north", "east", None, "southwest"])
    encoder = Encoder(tiny_table)
    assert encoder.encode(texts.slice(1, 2)).vectors.tolist() == [[1, 0], [0, 0]]
    chunked = pa.chunked_array([texts.slice(3, 1), texts.slice(0, 0), texts.slice(0, 2)])
    assert encoder.encode(chunked).vectors.tolist() == [[-1, -1], [0, 1], [1, 0]]


def test_more_elements_than_a_list_array_can_count_are_refused() -> None:
    vectors = np.broadcast_to(np.zeros((1, 1), np.int8), (65_536, 65_536))
    with pytest.raises(
        DataError, match=r"^too many vectors for one Arrow list array: got 65536 of width 65536;"
    ):
        list_array(vectors, np.zeros(65_536, bool))


@pytest.mark.parametrize("kind", [VectorType.FLOAT32, VectorType.FLOAT16, VectorType.INT8])
def test_stored_vectors_are_finite_whatever_the_table_holds(kind: VectorType) -> None:
    vectors = np.array([[1e30, -1e30], [1e-38, -1e-38], [1e-45, 0], [0, 0]], np.float32)
    columns = to_arrow_columns(Encoded(vectors, np.zeros(4, bool), EncodingCounts()), "v", kind)
    stored = np.array(columns["v"].to_pylist(), np.float64)
    stored *= np.array(columns.get("v_scale", pa.array([1.0] * 4)).to_pylist())[:, None]
    assert np.isfinite(stored).all()
    assert (np.sign(stored[:2]) == np.sign(vectors[:2])).all() or kind is VectorType.FLOAT16


def test_no_texts_give_no_vectors(tiny_table: StaticTable) -> None:
    assert Encoder(tiny_table).encode(pa.array([], pa.string())).vectors.shape == (0, 2)


def test_invalid_utf8_is_refused_without_quoting_it(tiny_table: StaticTable) -> None:
    texts = pa.array([b"secret \xff"], pa.binary()).view(pa.string())
    with pytest.raises(DataError) as caught:
        Encoder(tiny_table).encode(texts)
    assert str(caught.value) == (
        "a text is not valid UTF-8: expected valid UTF-8 in every row; "
        "clean the column first, for example with Spark's make_valid_utf8(column)"
    )
    assert caught.value.__cause__ is None


def test_numbers_are_refused(tiny_table: StaticTable) -> None:
    with pytest.raises(DataError, match=r"^can't embed this column: got int64; expected strings$"):
        Encoder(tiny_table).encode(pa.array([1]))


@given(
    texts=st.lists(st.one_of(st.none(), st.text(max_size=60)), min_size=1, max_size=30),
    order=st.randoms(use_true_random=False),
    size=st.integers(1, 30),
)
@settings(max_examples=60, deadline=None)
def test_bits_do_not_depend_on_batch_or_order(
    minilm_encoder: Encoder, texts: list[str | None], order: object, size: int
) -> None:
    whole = minilm_encoder.encode(pa.array(texts, pa.string())).vectors
    assert np.isfinite(whole).all()
    shuffled = list(range(len(texts)))
    order.shuffle(shuffled)  # type: ignore[attr-defined]
    again = np.empty_like(whole)
    for start in range(0, len(texts), size):
        rows = shuffled[start : start + size]
        again[rows] = minilm_encoder.encode(pa.array([texts[row] for row in rows], pa.string())).vectors
    assert whole.tobytes() == again.tobytes()


def test_slices_of_many_and_of_long_texts_do_not_change_bits(minilm_encoder: Encoder) -> None:
    texts = ["lake " * (1 + 7919 * index % 400) for index in range(2500)] + ["vector " * 400_000, "lake"]
    whole = minilm_encoder.encode(pa.array(texts)).vectors
    for index in (0, 1023, 1024, 2499, 2500, 2501):
        alone = minilm_encoder.encode(pa.array([texts[index]])).vectors
        assert whole[index].tobytes() == alone[0].tobytes()


def test_bits_do_not_depend_on_the_cache_or_the_size_of_batches(
    minilm_model: str, general_texts: list[str]
) -> None:
    """A hundred thousand rows at once, in batches, one by one; cache cold, warm, in another order."""
    table = load(minilm_model).table
    texts = pa.array(general_texts * 10)
    encoder = Encoder(table)
    cold = encoder.encode(texts).vectors
    warm = encoder.encode(texts).vectors
    assert cold.tobytes() == warm.tobytes()
    backwards = Encoder(table)
    for start in range(len(general_texts) - 997, -997, -997):
        part = slice(max(start, 0), start + 997)
        assert backwards.encode(texts[part]).vectors.tobytes() == cold[part].tobytes()
    alone = Encoder(table)
    for row in range(0, len(general_texts), 37):
        assert alone.encode(texts[row : row + 1]).vectors.tobytes() == cold[row].tobytes()


def test_table_in_any_place_gives_the_same_bits(minilm_model: str, general_texts: list[str]) -> None:
    """Vector loads want a table at a multiple of 64 bytes."""
    table = load(minilm_model).table
    texts = pa.array(general_texts[:200])
    expected = Encoder(table).encode(texts).vectors
    for shift in (4, 16, 60):
        room = np.empty(table.embeddings.nbytes + 128, np.uint8)
        start = -room.ctypes.data % 64 + shift
        moved = room[start : start + table.embeddings.nbytes].view(np.float32).reshape(table.embeddings.shape)
        moved[:] = table.embeddings
        encoder = Encoder(TableRows(moved, table.tokenizer_json, True, table.unknown_token_id))
        assert encoder.encode(texts).vectors.tobytes() == expected.tobytes()


def as_halves(table: StaticTable) -> tuple[StaticTable, StaticTable]:
    """A table stored as float16, and its float32 copy."""
    stored = table.embeddings.astype(np.float16)
    return replace(table, embeddings=stored), replace(table, embeddings=stored.astype(np.float32))


@pytest.mark.parametrize("store", ["mean", "sum"])
def test_float16_table_gives_the_bits_of_its_float32_copy(
    minilm_model: str, general_texts: list[str], store: Literal["mean", "sum"]
) -> None:
    half, copy = as_halves(load(minilm_model).table)
    shared = replace(half, mapping=np.arange(half.rows, dtype=np.int32)[::-1].copy())
    texts, options = pa.array(general_texts[::10]), EncodeOptions(store=store)
    expected = Encoder(copy, options).encode(texts).vectors
    assert Encoder(half, options).encode(texts).vectors.tobytes() == expected.tobytes()
    backwards = Encoder(replace(shared, embeddings=half.embeddings[::-1].copy()), options)
    assert backwards.encode(texts).vectors.tobytes() == expected.tobytes()


def test_processor_without_float16_gives_the_same_bits(tiny_table: StaticTable, tmp_path: Path) -> None:
    """Numba compiles for any processor that an environment variable names."""
    half, copy = as_halves(tiny_table)
    publish(half, str(tmp_path / "half"), provenance={}, quality={})
    code = (
        "import pyarrow as pa; from lakevec import Encoder, load;"
        "from lakevec.pipeline.encoding.kernels.compilation import widens_halves;"
        f"encoded = Encoder(load({str(tmp_path / 'half')!r}).table).encode(pa.array(['north east', 'east']));"
        "print(widens_halves(), encoded.vectors.tobytes().hex())"
    )
    env = os.environ | {"NUMBA_CPU_NAME": "generic", "NUMBA_CPU_FEATURES": "", "PYTHONPATH": str(ROOT)}
    said = subprocess.run([sys.executable, "-c", code], env=env, capture_output=True, text=True)
    expected = Encoder(copy).encode(pa.array(["north east", "east"])).vectors
    assert said.stdout.split() == ["False", expected.tobytes().hex()], said.stderr


def test_text_of_100_mb_has_the_vector_of_a_straightforward_reference(minilm_model: str) -> None:
    from tokenizers import Tokenizer

    table = load(minilm_model).table
    unit = "Größe, 日本語 and the eigenvalues of a symmetric matrix; don't [retry] 3.14159 times: Ελλάδα! "
    copies = 100_000_000 // len(unit.encode())
    ids = Tokenizer.from_str(table.tokenizer_json).encode(unit, add_special_tokens=False).ids
    rows = table.embeddings[[row for row in ids if row != table.unknown_token_id]].astype(np.float64)
    encoded = Encoder(table).encode(pa.array([unit * copies]))
    expected = rows.sum(axis=0) / np.linalg.norm(rows.sum(axis=0))
    assert encoded.counts.tokens == len(rows) * copies
    np.testing.assert_allclose(encoded.vectors[0], expected, atol=1e-6)


@pytest.mark.parametrize("letter", ["x", "é", "ش"])
def test_word_of_10_mb_is_unknown_as_it_is_to_the_library(minilm_model: str, letter: str) -> None:
    word = letter * (10_000_000 // len(letter.encode()))
    encoded = Encoder(load(minilm_model).table).encode(pa.array([word, "a date"]))
    assert (encoded.counts.unknown_tokens, encoded.counts.zero_vectors) == (1, 1)
    assert encoded.vectors[1].any()


def test_agrees_with_model2vec_on_real_texts(minilm_model: str, general_texts: list[str]) -> None:
    from model2vec import StaticModel

    reference = StaticModel.from_pretrained(minilm_model)
    ours = Encoder(load(minilm_model).table).encode(pa.array(general_texts)).vectors
    assert len(general_texts) == 10_000
    assert np.abs(ours - reference.encode(general_texts)).max() <= 1e-5


def test_agrees_with_model2vec_under_the_same_truncation(tiny_table: StaticTable) -> None:
    from model2vec import StaticModel
    from tokenizers import Tokenizer

    reference = StaticModel(
        tiny_table.embeddings, Tokenizer.from_str(tiny_table.tokenizer_json), normalize=False, max_length=2
    )
    # model2vec first cuts at max_length x median token length characters; these texts stay below.
    texts = ["north east southwest", "east", "east north east"]
    ours = Encoder(tiny_table, EncodeOptions(max_tokens=2)).encode(pa.array(texts)).vectors
    assert np.abs(ours - reference.encode(texts)).max() <= 1e-5


def test_tokenizer_own_truncation_and_padding_are_ignored() -> None:
    tokenizer = make_word_tokenizer(["[UNK]", "a", "b"])
    tokenizer.enable_truncation(2)
    tokenizer.enable_padding(length=8)
    tokens = make_tokenizer(tokenizer.to_str(), 0).tokenize(pa.array(["a b a b", "b"], pa.large_string()))
    assert (tokens.ids.tolist(), tokens.offsets.tolist()) == ([1, 2, 1, 2, 2], [0, 4, 5])


def test_tokenizer_without_an_unknown_token_keeps_every_id() -> None:
    tokenizer = make_word_tokenizer(["zero", "one"], unknown=None)
    tokens = make_tokenizer(tokenizer.to_str(), None).tokenize(pa.array(["zero one zero"], pa.large_string()))
    assert (tokens.ids.tolist(), tokens.unknown) == ([0, 1, 0], 0)


@pytest.fixture
def busy_threads() -> Iterator[None]:
    """Threads that switch as often as they can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    yield
    sys.setswitchinterval(interval)


def test_threads_share_an_encoder(busy_threads: None, minilm_model: str, general_texts: list[str]) -> None:
    parts = [pa.array(general_texts[start::8]) for start in range(8)]
    model = load(minilm_model)
    alone = [Encoder(model.table).encode(part) for part in parts]
    shared = Encoder(model.table)
    with ThreadPoolExecutor(4) as threads:
        together = list(threads.map(shared.encode, parts))
        by_artifact = list(threads.map(model.encode, parts))
    for part, expected, vectors in zip(together, alone, by_artifact, strict=True):
        assert part.vectors.tobytes() == expected.vectors.tobytes() == vectors.tobytes()
        assert part.counts == expected.counts


@pytest.mark.parametrize("dtype", [np.float32, np.float16], ids=["float32", "float16"])
def test_pickles_and_copies_give_the_same_bits(minilm_model: str, dtype: type) -> None:
    table = load(minilm_model).table
    table = replace(table, embeddings=table.embeddings.astype(dtype))
    texts = pa.array(["parse a date", "unbelievably long-winded", None])
    encoder = Encoder(table, EncodeOptions(max_tokens=4, store="sum"))
    expected = encoder.encode(texts)
    pickled = pickle.dumps(encoder)
    for other in (pickle.loads(pickled), copy.copy(encoder), copy.deepcopy(encoder)):
        again = other.encode(texts)
        assert again.vectors.tobytes() == expected.vectors.tobytes()
        assert again.counts == expected.counts
        assert again.tokens.tolist() == expected.tokens.tolist()
    # The table and the tokenizer, but no token cache.
    assert len(pickled) < table.token_rows().nbytes + len(table.tokenizer_json) + 10_000


def test_pickled_models_give_the_same_bits(minilm_model: str) -> None:
    model = load(minilm_model)
    texts = ["parse a date", None]
    expected = model.encode(texts)
    again = pickle.loads(pickle.dumps(model))
    assert again.encode(texts).tobytes() == expected.tobytes()
    assert again.table.fingerprint == model.table.fingerprint


@pytest.mark.parametrize("store", ["mean", "sum"])
@pytest.mark.parametrize("kind", ["float32", "float16", "int8"])
@pytest.mark.parametrize("dimensions", [1, 5, 32, 100])
def test_vectors_of_the_first_columns_are_those_of_a_table_that_has_no_others(
    kind: str, store: Literal["mean", "sum"], dimensions: int
) -> None:
    words = ["[UNK]", *(f"w{number}" for number in range(30))]
    random = np.random.default_rng(dimensions)
    rows = random.standard_normal((len(words), 100), dtype=np.float32)
    embeddings = (rows * 20).astype(kind)
    weights = random.random(len(words), dtype=np.float32) if kind == "int8" else None
    table = StaticTable(embeddings, make_word_tokenizer(words).to_str(), weights=weights)
    narrow = StaticTable(embeddings[:, :dimensions].copy(), table.tokenizer_json, weights=weights)
    texts = pa.array([" ".join(random.choice(words, size)) for size in (0, 1, 2, 9, 300)])
    expected = Encoder(narrow, EncodeOptions(store=store)).encode(texts).vectors
    options = EncodeOptions(store=store, dimensions=dimensions)
    for encoder in (Encoder(table, options), Encoder(table.cut(dimensions), options)):
        assert encoder.dimensions == dimensions
        assert encoder.encode(texts).vectors.tobytes() == expected.tobytes()
    assert table.cut(dimensions).fingerprint == narrow.fingerprint
    again = pickle.loads(pickle.dumps(Encoder(table, options)))
    assert again.encode(texts).vectors.tobytes() == expected.tobytes()


def test_table_that_is_not_cut_is_the_same(tiny_table: StaticTable) -> None:
    assert tiny_table.cut(None) is tiny_table.cut(2) is tiny_table


def test_more_dimensions_than_columns_are_refused(tiny_table: StaticTable) -> None:
    message = (
        "dimensions: got 3; expected 1 to 2, the width of the model's table; ask for fewer, or take a wider "
        "model"
    )
    for ask in (lambda: tiny_table.cut(3), lambda: Encoder(tiny_table, EncodeOptions(dimensions=3))):
        with pytest.raises(SettingsError) as caught:
            ask()
        assert str(caught.value) == message
    with pytest.raises(SettingsError, match="dimensions: got 0; expected 1 or more"):
        EncodeOptions(dimensions=0)
