"""Models with bigrams: their folder, their identity, and who refuses them."""

from __future__ import annotations

import hashlib
import json
import mmap
import pickle
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
import safetensors.numpy
from hypothesis import given, settings
from hypothesis import strategies as st

from lakevec.pipeline.corpus.bigrams import count_bigrams
from lakevec.pipeline.encoding import bigram_table
from lakevec.pipeline.encoding.bigram_table import BigramTable
from lakevec.pipeline.encoding.encoder import Encoder, warm_up
from lakevec.pipeline.encoding.kernels.bigram_search import fill_buckets
from lakevec.pipeline.encoding.kernels.pooling import Terms
from lakevec.pipeline.encoding.node_files import open_encoder, pack_table, table_files
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model import bigrams as bigrams_module
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.bigrams import Bigrams, check_bigrams, pack_pairs, quantize_bigrams
from lakevec.pipeline.model.description import describe
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.quantization import quantize_rows
from lakevec.pipeline.model.table import StaticTable
from tests.support.commands import convert
from tests.support.models import make_word_tokenizer

WORDS = 12
PAIRS = [[1, 2], [2, 2], [3, 1]]


def make_bigrams() -> Bigrams:
    """The rows are (5, 0), (1, 2) and (1, 2)."""
    rows = np.array([[10, 0], [2, 1], [2, 1]], np.int8)
    return Bigrams(np.array(PAIRS, np.int32), rows, np.array([0.5, 2], np.float32))


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
    assert doctest.testmod(bigram_table).failed == 0


def test_sum_by_hand(table: StaticTable) -> None:
    """Tokens: north (0, 1), east (1, 0). In north east, (5, 0) is in place of (1, 0)."""
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


def sum_by_the_rules(table: StaticTable, ids: list[int]) -> np.ndarray:
    """Add up a text's rows in the order that docs/artifact.md names."""
    rows, pairs = table.dense_rows(), table.bigrams
    assert pairs is not None
    places = {tuple(pair): place for place, pair in enumerate(pairs.pairs.tolist())}
    own, listed = [], []
    for position, token in enumerate(ids):
        scale = table.position_scale
        weight = np.float32(1.0 if scale is None else 1.0 / (1.0 + position / scale))
        place = places.get((ids[position - 1], token)) if position else None
        if place is None:
            own.append(weight * rows[token])
        else:
            listed.append(weight * pairs.embeddings[place].astype(np.float32))
    total, zeros = np.zeros(rows.shape[1]), np.zeros_like(rows[0])
    for start in range(0, len(ids), 256):
        first, second = (sum(terms[start : start + 256], start=zeros) for terms in (own, listed))
        total += first + pairs.scales * second
    return total.astype(np.float32)


@given(
    count=st.integers(1, 140),
    lengths=st.lists(
        st.sampled_from([0, 1, 2, 7, 30, 255, 256, 257, 512, 700, 1500]), min_size=1, max_size=7
    ),
    width=st.sampled_from([1, 5, 33, 128, 130, 160, 300]),
    columns=st.sampled_from([1, 4, 32, 129, None]),
    kind=st.sampled_from(["float32", "float16", "int8"]),
    scale=st.sampled_from([None, 3.0]),
    seed=st.integers(0, 2**32 - 1),
)
@settings(max_examples=60, deadline=None)
def test_sums_have_the_bits_that_the_rules_give(
    count: int,
    lengths: list[int],
    width: int,
    columns: int | None,
    kind: str,
    scale: float | None,
    seed: int,
) -> None:
    """Alone and in a batch; all columns and the first ones."""
    draw = np.random.default_rng(seed)
    numbers = np.sort(draw.choice(WORDS * WORDS, count, replace=False))
    pairs = np.stack(np.divmod(numbers, WORDS), axis=1).astype(np.int32)
    rows, weights = quantize_rows(draw.normal(size=(WORDS, width)).astype(np.float32), kind)
    lengths_of_rows = draw.exponential(size=(count, 1)) ** 2
    bigrams = quantize_bigrams(pairs, lengths_of_rows * draw.normal(size=(count, width)))
    words = ["[UNK]", *(f"w{number}" for number in range(1, WORDS))]
    tokenizer = make_word_tokenizer(words).to_str()
    table = StaticTable(rows, tokenizer, weights=weights, bigrams=bigrams, position_scale=scale)
    texts = [draw.integers(1, WORDS, length).tolist() for length in lengths]
    strings = [" ".join(f"w{number}" for number in text) for text in texts]
    columns = None if columns is None else min(columns, width)
    encoder = Encoder(table, EncodeOptions(store="sum", dimensions=columns))
    found = encoder.encode(pa.array(strings)).vectors
    expected = np.stack([sum_by_the_rules(table, text)[:columns] for text in texts])
    np.testing.assert_array_equal(found, expected)
    alone = [encoder.encode(pa.array([text])).vectors for text in strings]
    assert found.tobytes() == np.concatenate(alone).tobytes()


def test_columns_are_rounded_by_their_own_scales() -> None:
    """The last columns of a PCA are far smaller than the first; the largest values of all are kept."""
    rows = np.random.default_rng(0).normal(size=(1000, 64)) * np.geomspace(1e30 / 10, 1e-3, 64)
    bigrams = quantize_bigrams(np.stack([np.arange(1000)] * 2, axis=1).astype(np.int32), rows)
    errors = np.abs(bigrams.rows() - rows).max(axis=0)
    assert (errors <= np.abs(rows).max(axis=0) / 254 * 1.00001).all()
    check_bigrams(bigrams, width=64, tokens=1000)


def test_largest_integers_are_added_exactly() -> None:
    """The sum of 256 numbers -128 just fits into int16."""
    tokenizer = make_word_tokenizer(["[UNK]", "a"]).to_str()
    for value in (127, -128):
        rows = np.full((1, 160), value, np.int8)
        bigrams = Bigrams(np.array([[1, 1]], np.int32), rows, np.ones(160, np.float32))
        table = StaticTable(np.ones((2, 160), np.float32), tokenizer, bigrams=bigrams)
        found = Encoder(table, EncodeOptions(store="sum")).encode(pa.array(["a " * 257]))
        assert (found.vectors == 1 + 256 * value).all()


@pytest.mark.parametrize("lengths", ["equal", "different"])
def test_rounded_rows_hardly_change_vectors(lengths: str, general_texts: list[str]) -> None:
    """Cosines to vectors of the unrounded rows, with lengths of rows from a hundredth to five on."""
    strings = [text.lower() for text in general_texts[:500]]
    texts, names = pa.array(strings), {word for text in strings for word in text.split() if word.isalpha()}
    plain = StaticTable(
        np.random.default_rng(0).normal(size=(len(names) + 1, 256)).astype(np.float32),
        make_word_tokenizer(["[UNK]", *sorted(names)]).to_str(),
    )
    tokens = Encoder(plain).tokenizer.tokenize(texts.cast(pa.large_string()))
    pairs = count_bigrams(tokens, 1000).pairs
    rows = np.random.default_rng(1).normal(size=(len(pairs), 256))
    if lengths == "different":
        rows *= np.random.default_rng(2).exponential(size=(len(pairs), 1))
    bigrams = quantize_bigrams(pairs, rows)
    found = Encoder(replace(plain, bigrams=bigrams)).encode(texts).vectors
    places = {tuple(pair): place for place, pair in enumerate(pairs.tolist())}
    exact = np.zeros(found.shape)
    for text, (first, last) in enumerate(pairwise(tokens.offsets)):
        ids = tokens.ids[first:last].tolist()
        for position, token in enumerate(ids):
            place = places.get((ids[position - 1], token)) if position else None
            exact[text] += plain.embeddings[token] if place is None else rows[place]
    is_known = exact.any(axis=1)
    cosines = (found * exact).sum(axis=1)[is_known] / np.linalg.norm(exact[is_known], axis=1)
    assert cosines.min() > 0.999


@pytest.mark.parametrize("tokens", [50_000, 2**31 - 1], ids=["keys of 4 bytes", "keys of 8 bytes"])
@pytest.mark.parametrize("count", [1, 9, 1000, 30_000])
def test_table_finds_exactly_the_listed_pairs(count: int, tokens: int) -> None:
    """With 30,000 pairs, some buckets are full; with few ids, many texts hold a pair."""
    draw = np.random.default_rng(count)
    pairs = np.unique(draw.integers(0, tokens, (count, 2)).astype(np.int32), axis=0)
    ids = np.append(pairs.reshape(-1), draw.choice(pairs.reshape(-1), 5000)).astype(np.int32)
    cuts = np.sort(draw.integers(0, len(ids), 50))
    offsets = np.concatenate([[0], cuts, [len(ids)]]).astype(np.int64)
    rows = np.arange(len(pairs), dtype=np.int32).view(np.int8).reshape(-1, 4)
    bigrams = Bigrams(pairs, rows, np.ones(4, np.float32))
    table = BigramTable(bigrams, tokens)
    weights = np.arange(len(ids), dtype=np.float32)
    terms, listed = table.split(Terms(ids.copy(), offsets, weights))
    assert terms.weights is not None
    assert listed.weights is not None
    numbers = listed.rows.view(np.int32).reshape(-1)
    places = {tuple(pair): place for place, pair in enumerate(pairs.tolist())}
    for text, (first, last) in enumerate(pairwise(offsets)):
        found = [None] * min(last - first, 1)
        found += [places.get((int(ids[place - 1]), int(ids[place]))) for place in range(first + 1, last)]
        is_pair = np.array([place is not None for place in found], bool)
        own = slice(*terms.offsets[text : text + 2])
        assert terms.ids[own].tolist() == ids[first:last][~is_pair].tolist()
        assert terms.weights[own].tolist() == (first + np.flatnonzero(~is_pair)).tolist()
        own = slice(*listed.offsets[text : text + 2])
        assert numbers[listed.ids[own]].tolist() == [place for place in found if place is not None]
        assert listed.weights[own].tolist() == (first + np.flatnonzero(is_pair)).tolist()
    assert len(terms.ids) + len(listed.ids) == len(ids)
    again = BigramTable(table.bigrams, tokens).bigrams
    assert again.embeddings.tobytes() == listed.rows.tobytes()
    assert np.shares_memory(again.embeddings, table.bigrams.embeddings)


def test_published_bigrams_are_loaded(table: StaticTable, model: Path) -> None:
    manifest = json.loads((model / "lakevec.json").read_text())
    assert (manifest["format_version"], manifest["bigrams"]) == ("1.2", 3)
    assert manifest["files"].keys() == {"model.safetensors", "tokenizer.json", "bigrams.safetensors"}
    loaded = load(str(model))
    assert loaded.table.bigrams is not None
    assert loaded.table.bigrams.pairs.tolist() == PAIRS
    assert loaded.table.fingerprint == table.fingerprint
    assert loaded.encode(["north east"]).tolist() == [[2.5, 0.5]]


def test_fingerprint_covers_pairs_and_rows(tiny_table: StaticTable, table: StaticTable) -> None:
    own = make_bigrams()
    others = [
        replace(own, pairs=np.array([[1, 1], [2, 2], [3, 1]], np.int32)),
        replace(own, embeddings=own.embeddings + 1),
        replace(own, scales=own.scales / 2),
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
        ({"embeddings": np.zeros((3, 3), np.int8)}, r"embeddings of bigrams: got int8 of shape \(3, 3\)"),
        (
            {"embeddings": np.zeros((3, 2), np.float32)},
            r"got float32 of shape \(3, 2\); expected int8 of shape \(3, 2\); tune the model again",
        ),
        ({"scales": np.ones(3, np.float32)}, "scales of bigrams: got float32 of shape"),
        ({"scales": np.ones(2)}, "scales of bigrams: got float64 of shape"),
        ({"scales": np.array([1, 0], np.float32)}, "scales of bigrams: got 0 for column 1; expected above 0"),
        ({"scales": np.array([-1, 1], np.float32)}, "scales of bigrams: got -1 for column 0"),
        ({"scales": np.array([1, np.nan], np.float32)}, "scales of bigrams: got nan for column 1"),
        ({"scales": np.array([np.inf, 1], np.float32)}, "scales of bigrams: got inf for column 0"),
        (
            {"scales": np.array([1, 1e29], np.float32)},
            r"got 1e[+]29 for column 1; expected above 0, at most 7\.874e[+]27; tune the model again",
        ),
    ],
    ids=lambda value: value if isinstance(value, str) else "",
)
def test_bigrams_that_do_not_fit_are_refused(
    tiny_table: StaticTable, change: dict[str, Any], message: str
) -> None:
    with pytest.raises(ModelError, match=message):
        replace(tiny_table, bigrams=replace(make_bigrams(), **change))


def test_file_of_other_tensors_is_refused(model: Path) -> None:
    """Such as a file with one scale, which no release has written."""
    file, manifest = model / "bigrams.safetensors", model / "lakevec.json"
    tensors = safetensors.numpy.load_file(file)
    del tensors["scales"]
    safetensors.numpy.save_file({**tensors, "scale": np.ones(1, np.float32)}, file)
    listed = json.loads(manifest.read_text())
    data = file.read_bytes()
    entry = {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
    listed["files"]["bigrams.safetensors"] = entry
    manifest.write_text(json.dumps(listed))
    with pytest.raises(ModelError, match="got embeddings, pairs, scale; expected embeddings, pairs, scales;"):
        load(str(model))


def test_machine_code_of_a_warm_process_serves_mapped_files(
    tiny_table: StaticTable, table: StaticTable, tmp_path: Path
) -> None:
    warm_up(table)
    before = list(fill_buckets.signatures)
    assert before
    open_encoder(pack_table(table, node_dir=str(tmp_path)).provide(), EncodeOptions())
    assert fill_buckets.signatures == before, "a worker would compile"


def test_encoder_keeps_its_bigrams_when_pickled_and_on_nodes(
    tiny_table: StaticTable, table: StaticTable, tmp_path: Path
) -> None:
    texts = pa.array(["north east east", None, "southwest north"])
    expected = Encoder(table).encode(texts).vectors.tobytes()
    assert expected != Encoder(tiny_table).encode(texts).vectors.tobytes()
    assert pickle.loads(pickle.dumps(Encoder(table))).encode(texts).vectors.tobytes() == expected
    opened = open_encoder(pack_table(table, node_dir=str(tmp_path)).provide(), EncodeOptions())
    assert opened.encode(texts).vectors.tobytes() == expected
    assert opened._bigrams is not None
    base = opened._bigrams.bigrams.embeddings
    while isinstance(base, np.ndarray):
        base = base.base  # type: ignore[assignment]
    assert isinstance(base, mmap.mmap), "workers would copy the rows"
    assert table_files(tiny_table).keys() == {"embeddings.npy", "table.json"}


@pytest.mark.parametrize("lost", ["bigram_*.npy", "bigram_scales.npy"], ids=["all", "one"])
def test_copy_that_lost_its_bigrams_is_not_taken_for_a_plain_table(
    table: StaticTable, tmp_path: Path, lost: str
) -> None:
    """Such as one that another process removes: the task fails, and Spark tries it again."""
    folder = pack_table(table, node_dir=str(tmp_path)).provide()
    for file in folder.glob(lost):
        file.unlink()
    with pytest.raises(FileNotFoundError, match="bigram_"):
        open_encoder(folder, EncodeOptions())


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
    assert small.table.bigrams.rows().tolist() == make_bigrams().rows().tolist()
    assert small.table.embeddings.dtype == np.int8
    np.testing.assert_allclose(small.encode(["north east"]), [[2.5, 0.5]], rtol=0.01)


def test_inspection_and_card_tell_the_bigrams(model: Path) -> None:
    assert describe(load(str(model)))["bigrams"] == "3 pairs of neighbouring tokens have rows of their own"
    card = (model / "README.md").read_text()
    assert "3 pairs of neighbouring known tokens have rows of their own" in card
    assert "library_name: lakevec" in card
    assert "StaticModel" not in card


def test_packed_pairs_have_the_order_of_pairs() -> None:
    assert np.diff(pack_pairs(np.array(PAIRS, np.int32))).min() > 0
