"""The recipe as a whole: parity with model2vec, published recipes, counts and clusters."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
import torch
from tokenizers import Tokenizer

from lakevec.pipeline.errors import InputError, SettingsError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.table import StaticTable
from tests.support.teachers import (
    make_teacher,
)
from tests.support.tiny_teacher import distill_as, make_tiny_teacher


def test_recipe_of_the_first_model2vec(tmp_path: Path) -> None:
    """Written again from its description: [SEP] token [CLS], the token's own state, PCA, log of the rank."""
    model = make_teacher("BERT", tmp_path)
    table = distill_as(tmp_path, recipe="model2vec-0.1", dimensions=8).table
    assert not table.normalize
    vocabulary = json.loads((tmp_path / "tokenizer.json").read_text())["model"]["vocab"]
    kept = [token for token in sorted(vocabulary, key=vocabulary.get) if not token.startswith("[unused")]
    own = Tokenizer.from_str(table.tokenizer_json)
    assert [own.id_to_token(row) for row in range(table.rows)] == kept
    ids = torch.tensor([[vocabulary["[SEP]"], vocabulary[token], vocabulary["[CLS]"]] for token in kept])
    with torch.inference_mode():
        states = torch.cat([model(input_ids=part).last_hidden_state[:, 1] for part in ids.split(512)])
    assert_is_reduced_and_ranked(table, states.double().numpy())


def assert_is_reduced_and_ranked(table: StaticTable, states: np.ndarray) -> None:
    """Compare with PCA by singular values and ``log(1 + i)``; the unknown token's row is never read."""
    centred = states - states.mean(axis=0)
    _, _, axes = np.linalg.svd(centred, full_matrices=False)
    expected = (centred @ axes[: table.dimensions].T) * np.log1p(np.arange(len(states)))[:, None]
    rows = table.dense_rows()[: len(states)].astype(np.float64)
    known = np.arange(len(states)) != table.unknown_token_id
    signs = np.sign((rows * expected).sum(axis=0))
    np.testing.assert_allclose(rows[known], (expected * signs)[known], atol=2e-3)


def test_first_recipe_with_words_takes_the_mean_over_their_own_pieces(tmp_path: Path) -> None:
    model = make_teacher("BERT", tmp_path)
    words = ["the", "supervillain", "ganondorf", "of", "hyrule", "abracadabra", "invaded", "castle"]
    (tmp_path / "words.txt").write_text("\n".join(words))
    given = {"mode": "word", "vocabulary": str(tmp_path / "words.txt")}
    table = distill_as(tmp_path, recipe="model2vec-0.1", dimensions=4, **given).table
    original = Tokenizer.from_file(str(tmp_path / "tokenizer.json"))
    states = []
    for word in words:
        ids = original.encode(word, add_special_tokens=False).ids
        with torch.inference_mode():
            output = model(input_ids=torch.tensor([[102, *ids, 101]])).last_hidden_state[0]
        states.append(output[1:-1].mean(dim=0).double().numpy())
    # The unknown token stands behind the words, at their mean, and so turns no axis.
    assert_is_reduced_and_ranked(table, np.array(states))


@pytest.fixture(scope="module")
def reference(minilm_folder: Path) -> object:
    """The same teacher distilled by model2vec."""
    from model2vec.distill import distill as distill_reference

    return distill_reference(str(minilm_folder), device="cpu", quantize_to="float32")


def test_tokens_and_tokenizer_are_those_of_model2vec(
    minilm_model: str, reference: object, general_texts: list[str]
) -> None:
    ours = Tokenizer.from_str(load(minilm_model).table.tokenizer_json)
    theirs = reference.tokenizer  # type: ignore[attr-defined]
    theirs.no_truncation()
    assert ours.get_vocab() == theirs.get_vocab()
    for our, their in zip(ours.encode_batch(general_texts), theirs.encode_batch(general_texts), strict=True):
        assert our.ids == their.ids


def test_table_is_that_of_model2vec(minilm_model: str, reference: object) -> None:
    """The unknown token's row is the one rest: it is zero here, so that all readers agree."""
    table = load(minilm_model).table
    theirs = reference.embedding  # type: ignore[attr-defined]
    known = np.arange(table.rows) != table.unknown_token_id
    signs = np.sign((table.embeddings * theirs).sum(axis=0))
    assert np.abs(table.embeddings[known] * signs - theirs[known]).max() <= 1e-3
    assert not table.embeddings[table.unknown_token_id].any()


def test_batch_size_changes_nothing_that_matters(minilm_folder: Path) -> None:
    pattern = r"(?!\[PAD|\[UNK)\D"
    one, other = (
        distill_as(minilm_folder, dimensions=8, token_remove_pattern=pattern, batch_size=size)
        for size in (7, 400)
    )
    np.testing.assert_allclose(one.table.embeddings, other.table.embeddings, atol=1e-4)


def write_counts(file: Path, tokens: list[str], counts: list[int]) -> str:
    pq.write_table(pa.table({"token": tokens, "count": pa.array(counts, pa.int64())}), file)
    return str(file)


def test_counted_weights_are_those_of_the_formula(minilm_folder: Path, tmp_path: Path) -> None:
    """Rows of one token add up, tokens of others are left out, what was never seen has weight 1."""
    counts = write_counts(tmp_path / "counts.parquet", ["1", "2", "1", "nobody's"], [60, 30, 10, 7])
    plain: dict[str, Any] = {"dimensions": 8, "axes": "tokens", "whitening": 0}
    plain["token_remove_pattern"] = r"(?!\[PAD|\[UNK)\D"
    bare, weighed, alone = (
        distill_as(minilm_folder, **plain, **more)
        for more in ({"weighting": "none"}, {"counts": counts}, {"counts": counts, "counts_share": 1})
    )
    ids = Tokenizer.from_str(bare.table.tokenizer_json).get_vocab()
    first, second = (70 / (ids["1"] + 2)) ** 0.5, (30 / (ids["2"] + 2)) ** 0.5
    mixed = first / (first + second)
    for distilled, share_of_first in ((weighed, mixed), (alone, 0.7)):
        expected = {"1": 0.0005 / (0.0005 + share_of_first), "2": 0.0005 / (1.0005 - share_of_first), "3": 1}
        for token, weight in expected.items():
            factors = distilled.table.embeddings[ids[token]] / bare.table.embeddings[ids[token]]
            np.testing.assert_allclose(factors, weight, rtol=1e-4)
    recipe = weighed.provenance["recipe"]
    assert (recipe["weighting"], recipe["sif_coefficient"], recipe["counts_share"]) == (
        "sif by counts",
        0.0005,
        0.5,
    )


def test_counts_decide_about_the_axes_too(minilm_folder: Path, tmp_path: Path) -> None:
    """The table with counts against the same sums written out; a few hundred tokens, 8 axes."""
    few = r"(?!\[PAD|\[UNK)[^a-z]|.{3}"
    plain = {"token_remove_pattern": few}
    bare = distill_as(minilm_folder, **plain, dimensions="none", weighting="none").table
    ids = {token: i for token, i in Tokenizer.from_str(bare.tokenizer_json).get_vocab().items() if i}
    names = sorted(ids, key=lambda token: ids[token])
    seen = np.random.default_rng(0).integers(0, 1000, len(names)) * (np.arange(len(names)) % 3 > 0)
    counts = write_counts(tmp_path / "counts.parquet", names, seen.tolist())
    found = distill_as(minilm_folder, **plain, dimensions=8, counts=counts)
    rows = bare.dense_rows().astype(np.float64)
    frequencies = np.zeros(len(rows))
    frequencies[[ids[name] for name in names]] = seen
    frequencies = np.sqrt(frequencies / np.arange(2, len(rows) + 2))
    frequencies /= frequencies.sum()
    weights = 0.0005 / (0.0005 + frequencies)
    unknown = Tokenizer.from_str(bare.tokenizer_json).token_to_id("[UNK]")
    weights[unknown] = 0
    share = frequencies * weights**2
    share = 0.9 * share / share.sum() + 0.1 / len(share)
    # bare's row of the unknown token is 0, though the teacher saw it: leave it out of the comparison.
    centred = rows - share @ rows
    variances, axes = np.linalg.eigh((centred * share[:, None]).T @ centred)
    expected = weights[:, None] * (centred @ axes[:, :-9:-1]) * (variances[:-9:-1] / variances[-1]) ** -0.25
    keep = np.arange(len(rows)) != unknown
    mine = found.table.dense_rows()[keep]
    similar = (mine * expected[keep]).sum(axis=0) / (
        np.linalg.norm(mine, axis=0) * np.linalg.norm(expected[keep], axis=0)
    )
    np.testing.assert_allclose(np.abs(similar), 1, atol=1e-3)
    np.testing.assert_allclose(
        np.linalg.norm(mine, axis=0), np.linalg.norm(expected[keep], axis=0), rtol=1e-2
    )
    recipe = found.provenance["recipe"]
    assert (recipe["pca_axes"], recipe["whitening"]) == ("texts", 0.5)


def test_sizes_that_can_not_be_are_refused_before_the_teacher_works(
    minilm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakevec.pipeline.distillation.recipe.embed_sequences", None)
    for more, message in (
        ({"dimensions": 385}, "at most 384, for a teacher of width 384"),
        ({"vocabulary_clusters": 100}, "at most 100, for a teacher of width 384 and 100 rows"),
        (
            {"vocabulary_clusters": 10**6},
            "vocabulary_clusters: got 1000000; expected at most 29525, the number of tokens",
        ),
        ({"counts": "/nowhere"}, "can't be read"),
    ):
        with pytest.raises((SettingsError, InputError), match=message):
            distill_as(minilm_folder, **more)


def test_input_columns_are_reduced_with_the_output(tmp_path: Path) -> None:
    teacher = make_tiny_teacher(tmp_path / "teacher")
    plain = distill_as(teacher, dimensions="auto").table
    width = plain.dimensions
    wide = distill_as(teacher, dimensions=width + 8, input_columns=8)
    narrow = distill_as(teacher, dimensions=10, input_columns=8)
    assert (wide.table.dimensions, narrow.table.dimensions) == (width + 8, 10)
    assert wide.provenance["recipe"]["input_columns"] == 8
    np.testing.assert_allclose(narrow.table.embeddings, wide.table.embeddings[:, :10], atol=1e-3)
    # All columns keep every product, so what remains of it without the output is that of the input columns.
    inputs = wide.table.embeddings @ wide.table.embeddings.T - plain.embeddings @ plain.embeddings.T
    values = np.linalg.eigvalsh(inputs)[::-1]
    assert values[7] > 1e-3 * values[0]
    assert np.abs(values[8:]).max() < 1e-3 * values[0]
    with pytest.raises(SettingsError, match="input_columns: got 99"):
        distill_as(teacher, dimensions=10, input_columns=99)


def test_position_scale_is_part_of_the_table(tmp_path: Path) -> None:
    found = distill_as(make_tiny_teacher(tmp_path / "teacher"), dimensions=8, position_scale=75.0)
    assert found.table.position_scale == 75.0
    assert found.provenance["recipe"]["position_scale"] == 75.0
