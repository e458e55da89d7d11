from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tiny_teacher import distill_as
from tokenizers import Tokenizer

from lakevec.jobs.distill import main, to_options
from lakevec.pipeline.distillation import weighting
from lakevec.pipeline.distillation.options import DistillOptions
from lakevec.pipeline.distillation.pca import reduce_rows
from lakevec.pipeline.distillation.teacher import load_teacher
from lakevec.pipeline.distillation.vocabulary_quantization import cluster_rows
from lakevec.pipeline.distillation.weighting import read_counts, zipf_weights
from lakevec.pipeline.distillation.word_list import read_words
from lakevec.pipeline.errors import InputError, SettingsError, TeacherError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.settings.distill import DistillSettings


@pytest.fixture(scope="module")
def reference(minilm_folder: Path) -> object:
    """The same teacher distilled by model2vec."""
    from model2vec.distill import distill as distill_reference

    return distill_reference(str(minilm_folder), device="cpu", quantize_to="float32")


@pytest.fixture
def small_teacher(minilm_folder: Path, tmp_path: Path) -> Path:
    """A copy of the teacher that a test may damage."""
    folder = tmp_path / "teacher"
    shutil.copytree(minilm_folder, folder)
    return folder


def test_weights_by_rank_are_the_formula() -> None:
    """Three tokens: 1/rank = 1/2, 1/3, 1/4, which add up to 13/12."""
    weights = weighting.sif_weights(weighting.zipf_frequencies(3), coefficient=0.1)
    shares = [6 / 13, 4 / 13, 3 / 13]
    np.testing.assert_allclose(weights, [0.1 / (0.1 + share) for share in shares])


def test_pca_keeps_the_longest_axis_and_its_sign() -> None:
    """Points on the line (1, 1, 0), the furthest of them in the negative direction."""
    rows = np.array([[-5, -5, 0], [1, 1, 0], [2, 2, 0], [2, 2, 0]], dtype=np.float32)
    reduced = reduce_rows(rows, dimensions=1)
    np.testing.assert_allclose(reduced.rows[:, 0], np.sqrt(2) * np.array([5, -1, -2, -2]), atol=1e-5)
    assert reduced.explained_variance == pytest.approx(1.0)


def test_pca_is_centred_unscaled_and_keeps_distances_at_full_width() -> None:
    rows = np.random.default_rng(0).normal(size=(60, 12)).astype(np.float32) + 3
    scores = reduce_rows(rows, dimensions=12).rows
    np.testing.assert_allclose(scores.mean(axis=0), 0, atol=1e-5)
    np.testing.assert_allclose(
        np.linalg.norm(scores[0] - scores[1]), np.linalg.norm(rows[0] - rows[1]), rtol=1e-5
    )


def test_axes_of_texts_are_those_of_rows_as_often_as_they_occur() -> None:
    """Rows that count k times, once each, beside rows that stand there k times."""
    random = np.random.default_rng(0)
    rows = (random.normal(size=(40, 6)) * [9, 7, 5, 3, 2, 1]).astype(np.float32) + 4
    times = random.integers(1, 6, size=40)
    shared = reduce_rows(rows, dimensions=3, shares=times)
    repeated = reduce_rows(np.repeat(rows, times, axis=0), dimensions=3)
    np.testing.assert_allclose(np.repeat(shared.rows, times, axis=0), repeated.rows, atol=1e-4)
    assert shared.explained_variance == pytest.approx(repeated.explained_variance, abs=1e-6)
    np.testing.assert_allclose(np.average(shared.rows, axis=0, weights=times), 0, atol=1e-5)


@pytest.mark.parametrize("whitening", [0.5, 1.0])
def test_whitening_divides_by_a_power_of_the_variance(whitening: float) -> None:
    random = np.random.default_rng(0)
    rows = (random.normal(size=(400, 5)) * [9, 7, 5, 3, 0]).astype(np.float32)
    shares = random.random(400)
    plain, white = (reduce_rows(rows, dimensions=5, shares=shares, whitening=w).rows for w in (0, whitening))
    before, after = (np.average(found**2, axis=0, weights=shares) for found in (plain, white))
    np.testing.assert_allclose(after[:4] / after[0], (before[:4] / before[0]) ** (1 - whitening), rtol=1e-4)
    np.testing.assert_allclose(white[:, 0], plain[:, 0], rtol=1e-5)
    assert not white[:, 4].any()


def test_more_dimensions_than_the_teacher_has_are_refused() -> None:
    with pytest.raises(SettingsError) as caught:
        reduce_rows(np.zeros((60, 12), np.float32), dimensions=13)
    assert str(caught.value) == (
        "dimensions: got 13; expected at most 12, for a teacher of width 12 and 60 rows"
    )


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


def test_provenance_says_what_made_the_table(minilm_model: str) -> None:
    manifest = json.loads((Path(minilm_model) / "lakevec.json").read_text())
    assert manifest["provenance"]["teacher"]["revision"].startswith("sha256:")
    assert manifest["provenance"]["recipe"]["pca_dimensions"] == 256
    assert manifest["provenance"]["versions"].keys() >= {"lakevec", "torch", "transformers"}
    assert 0.9 < manifest["quality"]["explained_variance"] < 1


def test_job_publishes_float16_without_normalisation_when_asked(
    minilm_folder: Path, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """Only digits are kept as tokens, to be quick: the pattern leaves out all that begin otherwise."""
    output = tmp_path / "model"
    words = [
        "--teacher",
        str(minilm_folder),
        "--output",
        str(output),
        "--dimensions",
        "8",
        "--dtype",
        "float16",
    ]
    assert main([*words, "--no-normalize", "--token-remove-pattern", r"(?!\[PAD|\[UNK)\D"]) == 0
    table = load(str(output)).table
    assert (table.embeddings.dtype, table.dimensions, table.normalize) == (np.float16, 8, False)
    assert 100 < table.rows < 2000
    assert f"published {table.fingerprint} to {output}" in capsys.readouterr().out


def test_batch_size_changes_nothing_that_matters(minilm_folder: Path) -> None:
    pattern = r"(?!\[PAD|\[UNK)\D"
    one, other = (
        distill_as(minilm_folder, dimensions=8, token_remove_pattern=pattern, batch_size=size)
        for size in (7, 400)
    )
    np.testing.assert_allclose(one.table.embeddings, other.table.embeddings, atol=1e-4)


def test_defaults_of_library_and_command_line_are_the_same() -> None:
    assert DistillOptions() == to_options(DistillSettings(teacher="t", output="o"))


@pytest.mark.parametrize(
    ("words", "message"),
    [
        (["--teacher", "/nowhere"], "teacher '/nowhere' does not exist: expected an existing folder"),
        (["--token-remove-pattern", ""], "the vocabulary is empty: got token_remove_pattern ''"),
        (["--dimensions", "385"], "dimensions: got 385; expected at most 384"),
        (["--device", "teapot"], "device 'teapot' can't be used"),
        (["--revision", "main"], "revision: got 'main'; expected none for a teacher in a folder"),
    ],
    ids=["missing", "no tokens", "too wide", "no device", "revision of a folder"],
)
def test_job_refuses_in_one_line(
    words: list[str],
    message: str,
    minilm_folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    output = tmp_path / "model"
    assert main(["--teacher", str(minilm_folder), "--output", str(output), *words]) == 2
    assert capsys.readouterr().err.splitlines()[-1].startswith(f"lakevec distill: {message}")
    assert not output.exists()


def test_output_that_exists_is_refused_before_any_work(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert main(["--teacher", "/nowhere", "--output", str(tmp_path)]) == 2
    assert capsys.readouterr().err.startswith(f"lakevec distill: model output '{tmp_path}' exists")


def test_teacher_without_safetensors_is_refused(small_teacher: Path) -> None:
    (small_teacher / "model.safetensors").rename(small_teacher / "pytorch_model.bin")
    with pytest.raises(TeacherError, match="has no safetensors weights"):
        load_teacher(str(small_teacher))


def test_teacher_with_damaged_weights_is_refused(small_teacher: Path) -> None:
    weights = small_teacher / "model.safetensors"
    weights.write_bytes(b"\xff" * 8 + weights.read_bytes()[8:])
    with pytest.raises(TeacherError, match="can't be loaded"):
        load_teacher(str(small_teacher))


def test_teacher_without_any_tokenizer_is_refused(small_teacher: Path) -> None:
    for name in ("tokenizer.json", "vocab.txt", "tokenizer_config.json", "special_tokens_map.json"):
        (small_teacher / name).unlink()
    with pytest.raises(TeacherError, match=r"has no tokenizer: expected tokenizer\.json, or files"):
        load_teacher(str(small_teacher))


def test_teacher_with_a_slow_tokenizer_is_refused(small_teacher: Path) -> None:
    """A byte-level tokenizer of transformers that has no `tokenizers` twin."""
    for name in ("tokenizer.json", "vocab.txt", "special_tokens_map.json"):
        (small_teacher / name).unlink()
    (small_teacher / "tokenizer_config.json").write_text('{"tokenizer_class": "ByT5Tokenizer"}')
    with pytest.raises(TeacherError) as caught:
        load_teacher(str(small_teacher))
    assert str(caught.value) == (
        f"teacher '{small_teacher}' has no fast tokenizer: got ByT5Tokenizer; "
        "expected one that the tokenizers library can run; convert it to tokenizer.json first"
    )


def test_static_model_is_no_teacher(minilm_model: str) -> None:
    with pytest.raises(TeacherError, match="has no Transformer module"):
        load_teacher(minilm_model)


def test_code_in_a_teacher_folder_is_never_run(small_teacher: Path, tmp_path: Path) -> None:
    config = json.loads((small_teacher / "config.json").read_text())
    config["auto_map"] = {"AutoModel": "evil.Model", "AutoConfig": "evil.Config"}
    config["model_type"] = "evil"
    (small_teacher / "config.json").write_text(json.dumps(config))
    (small_teacher / "evil.py").write_text(f"open({str(tmp_path / 'ran')!r}, 'w')")
    with pytest.raises(TeacherError):
        load_teacher(str(small_teacher))
    assert not (tmp_path / "ran").exists()


def test_hub_teacher_records_the_commit_it_was_resolved_to(
    minilm_folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub cache as huggingface_hub lays it out, read without a network."""
    commit = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
    cache = tmp_path / "models--org--minilm"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    shutil.copytree(minilm_folder, cache / "snapshots" / commit)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    teacher = load_teacher("hf://org/minilm")
    assert (teacher.name, teacher.revision) == ("org/minilm", commit)


def test_hub_teacher_that_can_not_be_reached_says_so(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    with pytest.raises(TeacherError, match="'hf://org/absent' can't be fetched from the Hugging Face hub"):
        load_teacher("hf://org/absent")


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


@pytest.mark.parametrize(
    ("columns", "message"),
    [
        ({"token": ["1"], "n": [1]}, "expected Parquet with the columns token"),
        ({"token": ["1"], "count": ["many"]}, "can't be read"),
        ({"token": ["1"], "count": [-1]}, "got nulls or counts below 0"),
        ({"token": ["1", None], "count": [1, 2]}, "got nulls or counts below 0"),
        ({"token": ["nobody's"], "count": [1]}, "no count for any of"),
        ({"token": ["1"], "count": [0]}, "no count for any of"),
    ],
    ids=["column", "type", "negative", "null", "other tokens", "zeros"],
)
def test_counts_that_can_not_be_used_are_refused(
    columns: dict[str, list[object]], message: str, tmp_path: Path
) -> None:
    pq.write_table(pa.table(columns), tmp_path / "counts.parquet")
    with pytest.raises(InputError, match=message):
        read_counts(str(tmp_path / "counts.parquet")).lookup(["1", "2"])


def test_zipf_weights_are_the_logarithm_of_the_rank() -> None:
    np.testing.assert_allclose(zipf_weights(3), [0, np.log(2), np.log(3)])


@pytest.mark.parametrize(
    ("name", "content", "column", "expected"),
    [
        ("words.txt", "b\na\n\nb\n c \n", "word", ["b", "a", "c"]),
        ("words.csv", "name,count\nx,1\ny,3\nz,3\n", "name", ["y", "z", "x"]),
        ("words.csv", "word\nx\ny\n", "word", ["x", "y"]),
    ],
    ids=["text", "counts", "no counts"],
)
def test_vocabulary_is_read_in_order(
    name: str, content: str, column: str, expected: list[str], tmp_path: Path
) -> None:
    (tmp_path / name).write_text(content)
    assert list(read_words(str(tmp_path / name), column=column).words) == expected


def test_vocabulary_is_read_from_a_lake(tmp_path: Path) -> None:
    table = pa.table({"word": ["rare", "often", None], "count": [1, 5, 2]})
    pq.write_table(table, tmp_path / "part-0.parquet")
    assert read_words(str(tmp_path), column="word").words == ("often", "rare")


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("words.txt", "\n \n", r"holds no word: got 2 lines; expected at least one"),
        (
            "words.csv",
            "other\nx\n",
            "expected text of one word a line, or Parquet or CSV with a string column 'word'",
        ),
        ("words.parquet", "no parquet", "can't be read"),
        ("words.txt", b"\xff\xfe", "can't be read"),
    ],
    ids=["empty", "column", "damaged", "not text"],
)
def test_vocabulary_of_nothing_is_refused(
    name: str, content: str | bytes, message: str, tmp_path: Path
) -> None:
    (tmp_path / name).write_bytes(content if isinstance(content, bytes) else content.encode())
    with pytest.raises(InputError, match=message):
        read_words(str(tmp_path / name), column="word")
    with pytest.raises(InputError, match="can't be read"):
        read_words("/nowhere/words.txt", column="word")


def test_k_means_refuses_more_rows_than_tokens() -> None:
    with pytest.raises(
        SettingsError, match=r"vocabulary_clusters: got 5; expected at most 4, the number of tokens"
    ):
        cluster_rows(np.zeros((4, 2), np.float32), 5)


def test_share_of_variance_decides_how_many_axes_stay() -> None:
    rows = np.random.default_rng(0).normal(size=(500, 6)).astype(np.float32) * [100, 10, 1, 1, 1, 1]
    kept = reduce_rows(rows.astype(np.float32), dimensions=0.999)
    assert kept.rows.shape == (500, 2)
    assert 0.999 <= kept.explained_variance < 1
    assert reduce_rows(rows.astype(np.float32), dimensions="auto").rows.shape == (500, 6)
    np.testing.assert_array_equal(reduce_rows(rows, dimensions="none").rows, rows)


def test_words_of_a_csv_are_words_whatever_they_look_like(tmp_path: Path) -> None:
    (tmp_path / "words.csv").write_text("word,count\n007,3\nNULL,2\nTRUE,1\n")
    assert read_words(str(tmp_path / "words.csv"), column="word").words == ("007", "NULL", "TRUE")


def test_sizes_that_can_not_be_are_refused_before_the_teacher_works(
    minilm_folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lakevec.pipeline.distillation.recipe.embed_sequences", None)
    for more, message in (
        ({"dimensions": 385}, "at most 384, for a teacher of width 384"),
        ({"vocabulary_clusters": 100}, "at most 100, for a teacher of width 384 and 100 rows"),
        ({"vocabulary_clusters": 10**6}, "at most 29525, the number of tokens"),
        ({"counts": "/nowhere"}, "can't be read"),
    ):
        with pytest.raises((SettingsError, InputError), match=message):
            distill_as(minilm_folder, **more)
