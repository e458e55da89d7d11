"""Models with bigrams: their folder, their identity, and who refuses them."""

from __future__ import annotations

import json
import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.encoding.encoder import Encoder
from lakevec.pipeline.encoding.kernels import bigram_search
from lakevec.pipeline.encoding.kernels.bigram_search import BigramTable
from lakevec.pipeline.encoding.node_files import open_encoder, pack_table, table_files
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model import bigrams as bigrams_module
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.bigrams import Bigrams, pack_pairs
from lakevec.pipeline.model.description import describe
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.quantization import quantize_rows
from lakevec.pipeline.model.table import StaticTable
from tests.support.commands import convert
from tests.support.models import make_word_tokenizer

WORDS = 12
PAIRS = [[1, 2], [2, 2], [3, 1]]


def make_bigrams(kind: Any = np.float32) -> Bigrams:
    return Bigrams(np.array(PAIRS, np.int32), np.array([[4, 0], [0, 2], [1, 1]], kind))


@pytest.fixture
def table(tiny_table: StaticTable) -> StaticTable:
    return replace(tiny_table, bigrams=make_bigrams())


@pytest.fixture
def model(table: StaticTable, tmp_path: Path) -> Path:
    quality = {"score": 0.75, "without_bigrams_score": 0.25}
    publish(table, str(tmp_path / "model"), quality=quality)
    return tmp_path / "model"


def test_docstring_examples_are_true() -> None:
    import doctest

    assert doctest.testmod(bigrams_module).failed == 0
    assert doctest.testmod(bigram_search).failed == 0


def test_sum_by_hand(table: StaticTable) -> None:
    """Tokens: north (0, 1), east (1, 0). The row of north east is (4, 0), and the mean divides by 2."""
    texts = pa.array(["north east", "north odd east", "east north", "north", None, ""])
    encoder = Encoder(table, EncodeOptions(store="sum"))
    found = encoder.encode(texts)
    assert found.vectors.tolist() == [[5, 1], [5, 1], [1, 1], [0, 1], [0, 0], [0, 0]]
    assert found.tokens is not None
    assert found.tokens.tolist() == [2, 2, 2, 1, 0, 0]
    assert found.counts.tokens == 7
    assert Encoder(table).encode(texts).vectors[:2].tolist() == [[2.5, 0.5]] * 2
    assert Encoder(table, EncodeOptions(max_tokens=1)).encode(texts).vectors[0].tolist() == [0, 1]


def test_a_pair_counts_as_much_as_its_second_token(table: StaticTable) -> None:
    weighted = replace(table, position_scale=1)
    found = Encoder(weighted, EncodeOptions(store="sum")).encode(pa.array(["north east"]))
    assert found.vectors.tolist() == [[0.5 + 2, 1]]
    assert found.weights is not None
    assert found.weights.tolist() == [1.5]


@given(
    count=st.integers(1, 140),
    lengths=st.lists(st.sampled_from([0, 1, 2, 7, 300, 700]), min_size=1, max_size=7),
    width=st.sampled_from([1, 5, 33, 130, 160]),
    kind=st.sampled_from(["float32", "float16", "int8"]),
    scale=st.sampled_from([None, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=40, deadline=None)
def test_agrees_with_a_float64_reference(
    count: int, lengths: list[int], width: int, kind: str, scale: float | None, seed: int
) -> None:
    draw = np.random.default_rng(seed)
    numbers = np.sort(draw.choice(WORDS * WORDS, count, replace=False))
    pairs = np.stack(np.divmod(numbers, WORDS), axis=1).astype(np.int32)
    rows, weights = quantize_rows(draw.normal(size=(WORDS, width)).astype(np.float32), kind)
    own, scales = quantize_rows(draw.normal(size=(count, width)).astype(np.float32), kind)
    words = ["[UNK]", *(f"w{number}" for number in range(1, WORDS))]
    tokenizer = make_word_tokenizer(words).to_str()
    found = Bigrams(pairs, own, scales)
    table = StaticTable(
        rows, tokenizer, normalize=False, weights=weights, bigrams=found, position_scale=scale
    )
    texts = [draw.integers(1, WORDS, length) for length in lengths]
    strings = [" ".join(f"w{number}" for number in text) for text in texts]
    vectors = Encoder(table).encode(pa.array(strings)).vectors
    listed = {tuple(pair): row for pair, row in zip(pairs.tolist(), found.rows(), strict=True)}
    dense = table.dense_rows().astype(np.float64)
    for text, vector in zip(texts, vectors, strict=True):
        total, divisor = np.zeros(width), 0.0
        for position, token in enumerate(text):
            weight = 1.0 if scale is None else 1 / (1 + position / scale)
            pair = listed.get((text[position - 1], token), 0.0) if position else 0.0
            total += weight * (dense[token] + pair)
            divisor += weight
        np.testing.assert_allclose(vector, total / (divisor or 1), atol=4e-3 if kind == "float16" else 4e-5)
    alone = [Encoder(table).encode(pa.array([text])).vectors for text in strings]
    assert vectors.tobytes() == np.concatenate(alone).tobytes()


@pytest.mark.parametrize("count", [1, 9, 1000, 30_000])
def test_table_finds_exactly_the_listed_pairs(count: int) -> None:
    """Full buckets, too: the ids of 30,000 pairs are few, so many texts hold one."""
    draw = np.random.default_rng(count)
    packed = np.unique(draw.integers(0, 2**31 - 1, (count, 2)).astype(np.int32), axis=0)
    ids = np.append(packed.reshape(-1), draw.choice(packed.reshape(-1), 5000)).astype(np.int32)
    cuts = np.sort(draw.integers(0, len(ids), 50))
    offsets = np.concatenate([[0], cuts, [len(ids)]]).astype(np.int64)
    listed = {tuple(pair): -1 - row for row, pair in enumerate(packed.tolist())}
    expected = ids.copy()
    for first, last in pairwise(offsets):
        for place in range(first + 1, last):
            expected[place] = listed.get((int(ids[place - 1]), int(ids[place])), ids[place])
    replaced = ids.copy()
    BigramTable(packed, 0).replace(replaced, offsets)
    is_pair = expected < 0
    assert (replaced[~is_pair] == ids[~is_pair]).all()
    assert (-1 - replaced[is_pair] == expected[is_pair]).all()


def test_published_bigrams_are_loaded(table: StaticTable, model: Path) -> None:
    manifest = json.loads((model / "lakevec.json").read_text())
    assert (manifest["format_version"], manifest["bigrams"]) == ("1.2", 3)
    assert manifest["files"].keys() == {"model.safetensors", "tokenizer.json", "bigrams.safetensors"}
    loaded = load(str(model))
    assert loaded.table.bigrams is not None
    assert loaded.table.bigrams.pairs.tolist() == PAIRS
    assert loaded.table.fingerprint == table.fingerprint
    assert loaded.encode(["north east"]).tolist() == [[2.5, 0.5]]


def test_fingerprint_covers_pairs_rows_and_weights(tiny_table: StaticTable, table: StaticTable) -> None:
    own = make_bigrams()
    others = [
        replace(own, pairs=np.array([[1, 1], [2, 2], [3, 1]], np.int32)),
        replace(own, embeddings=own.embeddings + 1),
        replace(own, weights=np.ones(3, np.float32)),
    ]
    found = {replace(tiny_table, bigrams=bigrams).fingerprint for bigrams in others}
    assert len({*found, tiny_table.fingerprint, table.fingerprint}) == 5


def test_damaged_and_unlisted_bigrams_are_found(model: Path) -> None:
    file, manifest = model / "bigrams.safetensors", model / "lakevec.json"
    content = file.read_bytes()
    file.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    with pytest.raises(ModelError, match=r"bigrams\.safetensors is damaged"):
        load(str(model))
    listed = json.loads(manifest.read_text())
    del listed["files"]["bigrams.safetensors"]
    manifest.write_text(json.dumps(listed))
    # So a reader that knows no bigrams refuses the folder: its fingerprint is that of the tokens' table.
    with pytest.raises(ModelError, match="does not describe this table"):
        load(str(model))


@pytest.mark.parametrize(
    ("change", "message"),
    [
        ({"pairs": np.zeros((3, 2), np.int64)}, "pairs of bigrams: got int64"),
        ({"pairs": np.zeros((0, 2), np.int32)}, "pairs of bigrams: got int32 of shape"),
        ({"pairs": np.array([[1, 2], [1, 2], [2, 2]], np.int32)}, "bigrams are not in order"),
        ({"pairs": np.array([[2, 2], [1, 2], [3, 1]], np.int32)}, "bigrams are not in order"),
        ({"pairs": np.array([[1, 2], [2, 2], [3, 4]], np.int32)}, "tokens that the table lacks"),
        ({"pairs": np.array([[-1, 2], [2, 2], [3, 1]], np.int32)}, "tokens that the table lacks"),
        ({"embeddings": np.zeros((3, 3), np.float32)}, "embeddings of bigrams: got float32 of shape"),
        ({"embeddings": np.zeros((3, 2), np.float16)}, "embeddings of bigrams: got float16"),
        ({"embeddings": np.full((3, 2), np.nan, np.float32)}, "embeddings of bigrams hold NaN"),
        ({"weights": np.ones(2, np.float32)}, "weights of bigrams: got float32 of shape"),
        ({"weights": np.full(3, np.inf, np.float32)}, "weights of bigrams hold NaN"),
        ({"weights": np.full(3, 9e29, np.float32)}, "weighted rows hold values beyond 1e30"),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bigrams_that_do_not_fit_are_refused(
    tiny_table: StaticTable, change: dict[str, np.ndarray], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        replace(tiny_table, bigrams=replace(make_bigrams(), **change))


def test_float16_sums_beyond_the_largest_half_are_refused(tiny_table: StaticTable) -> None:
    half = replace(tiny_table, embeddings=np.full((4, 2), 40_000, np.float16))
    large = replace(make_bigrams(np.float16), embeddings=np.full((3, 2), 40_000, np.float16))
    with pytest.raises(ModelError, match="exceed 65,504"):
        replace(half, bigrams=large)


def test_encoder_keeps_its_bigrams_when_pickled_and_on_nodes(
    tiny_table: StaticTable, table: StaticTable, tmp_path: Path
) -> None:
    texts = pa.array(["north east east", None, "southwest north"])
    expected = Encoder(table).encode(texts).vectors.tobytes()
    assert expected != Encoder(tiny_table).encode(texts).vectors.tobytes()
    assert pickle.loads(pickle.dumps(Encoder(table))).encode(texts).vectors.tobytes() == expected
    opened = open_encoder(pack_table(table, node_dir=str(tmp_path)).provide(), EncodeOptions())
    assert opened.encode(texts).vectors.tobytes() == expected
    assert table_files(tiny_table).keys() == {"embeddings.npy", "table.json"}


def test_other_libraries_refuse_the_folder(model: Path) -> None:
    from model2vec import StaticModel
    from sentence_transformers import SentenceTransformer

    with pytest.raises(ValueError, match="Could not find expected model files"):
        StaticModel.from_pretrained(str(model))
    with pytest.raises(ValueError, match="Unrecognized model"):
        SentenceTransformer(str(model), device="cpu")


@pytest.mark.parametrize("to", ["model2vec", "sentence-transformers"])
def test_export_leaves_the_bigrams_out_and_says_so(
    tiny_table: StaticTable, model: Path, to: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    other = tmp_path / "other"
    assert convert([str(model), "--output", str(other), "--to", to]) == 0
    sentence = "xported without its 3 bigram rows; figures measured with them do not apply"
    assert sentence in capsys.readouterr().out
    card = (other / "README.md").read_text()
    assert sentence in card
    assert "| score | 0.25 |" in card
    assert load(str(other)).table.dense_rows().tolist() == tiny_table.dense_rows().tolist()


def test_converted_types_keep_the_bigrams(model: Path, tmp_path: Path) -> None:
    assert convert([str(model), "--output", str(tmp_path / "int8"), "--dtype", "int8"]) == 0
    small = load(str(tmp_path / "int8"))
    assert small.table.bigrams is not None
    assert (small.table.bigrams.embeddings.dtype, small.table.row_type) == (np.int8, np.float32)
    np.testing.assert_allclose(small.encode(["north east"]), [[2.5, 0.5]], rtol=0.01)


def test_inspection_and_card_tell_the_bigrams(model: Path) -> None:
    assert describe(load(str(model)))["bigrams"] == "3 pairs of neighbouring tokens add rows of their own"
    card = (model / "README.md").read_text()
    assert "3 pairs of neighbouring known tokens have rows of their own" in card
    assert "library_name: lakevec" in card
    assert "StaticModel" not in card


def test_packed_pairs_have_the_order_of_pairs() -> None:
    assert np.diff(pack_pairs(np.array(PAIRS, np.int32)).astype(np.int64)).min() > 0
