"""Models of other libraries load and give the vectors of their library."""

from __future__ import annotations

import gzip
import json
import shutil
from collections.abc import Callable
from functools import partial
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import safetensors.numpy
from tokenizers import Tokenizer

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.artifact import load
from lakevec.pipeline.model.formats.bpemb import read_sentencepiece
from lakevec.pipeline.model.formats.word_vectors import read_word_vectors
from lakevec.pipeline.model.publishing import publish
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.storage import locate
from tests.support.libraries import (
    MODEL2VEC,
    SENTENCE_TRANSFORMERS,
    embed,
    model2vec_says,
    sentence_transformers_say,
    write_model2vec,
)

WITHOUT_MODULES = [
    "model2vec-rs-fixtures/test-model-sentence-transformers",
    "model2vec-rs-fixtures/test-model-static-embedding",
]


@pytest.mark.parametrize("name", [*MODEL2VEC, *WITHOUT_MODULES])
def test_model2vecs_folder_gives_its_vectors(
    name: str, foreign_models: Path, general_texts: list[str]
) -> None:
    theirs = model2vec_says(foreign_models / name, general_texts[:500]).astype(np.float32)
    # model2vec rounds the vectors of a float16 table to float16.
    tolerance = 1e-3 if "float16" in name else 1e-5
    np.testing.assert_allclose(embed(foreign_models / name, general_texts[:500]), theirs, atol=tolerance)


def test_float16_rows_are_summed_in_float32(foreign_models: Path, general_texts: list[str]) -> None:
    folder = foreign_models / "model2vec-rs-fixtures/test-model-float16"
    rows = safetensors.numpy.load_file(folder / "model.safetensors")["embeddings"].astype(np.float32)
    from model2vec import StaticModel

    reference = StaticModel(rows, Tokenizer.from_file(str(folder / "tokenizer.json")), normalize=True)
    theirs = reference.encode(general_texts[:500], max_length=None)
    np.testing.assert_allclose(embed(folder, general_texts[:500]), theirs, atol=1e-5)


@pytest.mark.parametrize("name", SENTENCE_TRANSFORMERS)
def test_sentence_transformers_folder_gives_its_vectors(
    name: str, foreign_models: Path, general_texts: list[str]
) -> None:
    texts = [text for text in general_texts[:500] if text.strip()]
    theirs = sentence_transformers_say(foreign_models / name, texts)
    np.testing.assert_allclose(embed(foreign_models / name, texts), theirs, atol=1e-5)


@pytest.mark.parametrize(
    ("name", "text", "expected"),
    [
        ("test-model-float32", "hello world", "short"),
        ("test-model-float32", " ".join(["hello"] * 1000), "long"),
        ("test-model-both-configs", "hello world", "short"),
        ("test-model-sentence-transformers", "hello world", "short"),
        ("test-model-static-embedding", "hello world", "short"),
        ("test-model-modules-normalize", "hello world", "short"),
        ("test-nested-static-embedding/some/path", "hello world", "short"),
        ("test-model-vocab-quantized", "hello", "vocab_quantized"),
    ],
)
def test_fixture_gives_the_vectors_that_stand_beside_it(
    name: str, text: str, expected: str, foreign_models: Path
) -> None:
    folder = foreign_models / "model2vec-rs-fixtures"
    wanted = json.loads((folder / f"embeddings_{expected}.json").read_text())
    np.testing.assert_allclose(embed(folder / name, [text]), wanted, atol=1e-5)


def test_first_model2vec_called_its_file_otherwise(foreign_models: Path, tmp_path: Path) -> None:
    source = foreign_models / "model2vec-rs-fixtures/test-model-float32"
    for name in ("config.json", "tokenizer.json"):
        shutil.copy(source / name, tmp_path)
    shutil.copy(source / "model.safetensors", tmp_path / "embeddings.safetensors")
    np.testing.assert_array_equal(embed(tmp_path), embed(source))


def test_declared_behaviour_is_recorded(foreign_models: Path) -> None:
    source = load(str(foreign_models / "potion-base-4M-int8")).provenance["source"]
    assert source == {
        "format": "model2vec",
        "unknown words": "left out of the mean",
        "long texts": "no text is cut; model2vec itself cuts at 512 tokens unless told otherwise",
        "vectors": "scaled to length 1",
    }
    source = load(str(foreign_models / SENTENCE_TRANSFORMERS[1])).provenance["source"]
    assert source["unknown words"] == "counted in the mean, with the unknown token's row"
    assert source["vectors"] == "not normalised"


def test_word_vectors_give_the_mean_of_their_words(foreign_models: Path) -> None:
    """GloVe's file read by hand: lower case, clitics as the Penn Treebank cuts them, no unknown words."""
    file = foreign_models / "glove50-4k" / "glove50_4k.txt"
    table = {}
    for line in file.read_text(encoding="utf-8").splitlines()[1:]:
        word, *numbers = line.split(" ")
        table.setdefault(word, np.array([float(number) for number in numbers if number]))
    said = {
        "The government said, of Qwxyz": ["the", "government", "said", ",", "of"],
        "isn't it the U.S. president's?": ["is", "n't", "it", "the", "u.s.", "president", "'s", "?"],
        "well-known": ["well", "-", "known"],
    }
    expected = [np.mean([table[word] for word in words], axis=0) for words in said.values()]
    np.testing.assert_allclose(embed(file, list(said)), expected, atol=1e-5)
    assert not embed(file, ["Qwxyz"]).any()


def write_word2vec(file: Path, words: list[str], vectors: np.ndarray) -> None:
    lines = [f"{len(words)} {vectors.shape[1]}\n".encode()]
    lines += [word.encode() + b" " + row.tobytes() + b"\n" for word, row in zip(words, vectors, strict=True)]
    file.write_bytes(b"".join(lines))


VECTORS = np.random.default_rng(0).normal(size=(4, 5)).astype(np.float32)
WORDS = ["north", "south", "new_york", "c++"]


def write_text(file: Path, *, header: bool, tail: str = "", opened: Callable[..., Any] = open) -> None:
    with opened(file, "wt", encoding="utf-8") as stream:
        if header:
            stream.write("4 5\n")
        for word, row in zip(WORDS, VECTORS, strict=True):
            stream.write(" ".join([word, *map(repr, map(float, row))]) + tail + "\n")


def write_packed_word2vec(file: Path) -> None:
    write_word2vec(file, WORDS, VECTORS)
    file.write_bytes(gzip.compress(file.read_bytes()))


@pytest.mark.parametrize(
    ("name", "write"),
    [
        ("v.bin", partial(write_word2vec, words=WORDS, vectors=VECTORS)),
        ("v.bin.gz", write_packed_word2vec),
        ("glove.txt", partial(write_text, header=False)),
        ("w2v.txt", partial(write_text, header=True)),
        ("fasttext.vec", partial(write_text, header=True, tail=" ")),
        ("v.txt.gz", partial(write_text, header=True, opened=gzip.open)),
    ],
)
def test_every_form_of_word_vectors_is_read(name: str, write: Callable[[Path], None], tmp_path: Path) -> None:
    file = tmp_path / name
    write(file)
    np.testing.assert_allclose(
        embed(file, ["North", "c++ new_york"]), [VECTORS[0], VECTORS[2:].mean(axis=0)], 1e-5
    )


def test_words_that_can_not_be_rows_are_skipped_and_counted(tmp_path: Path) -> None:
    lines = ["a 1 2", "b 3 4", "a 5 6", "c nan 1", ". . . 7 8", " 1 2"]
    (tmp_path / "v.txt").write_bytes("\n".join(lines).encode() + b"\n\xff\xfe 1 2\n")
    found = read_word_vectors(locate(str(tmp_path / "v.txt"), error=ModelError))
    assert found.words == ["a", "b", ". . ."]
    assert found.skipped == {"not UTF-8": 1, "empty": 1, "seen before": 1, "not finite": 1}


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("v.txt", b""),
        ("v.txt", b"word\n"),
        ("v.txt", b"a 1 2\nb 3\n"),
        ("v.bin", b"5 300\nx "),
        ("v.bin", b"zz"),
    ],
)
def test_file_without_word_vectors_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError, match="holds no word vectors"):
        load(str(tmp_path / name))


@pytest.mark.parametrize("name", ["en.wiki.bpe.vs10000", "ja.wiki.bpe.vs5000"])
def test_bpemb_cuts_as_sentencepiece_does(
    name: str, shared_data: Path, general_texts: list[str], tmp_path: Path
) -> None:
    processors = pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
    file = shared_data / "tokenizers" / "bpemb-spm" / f"{name}.model"
    library = processors.SentencePieceProcessor(model_file=str(file))
    mine = read_sentencepiece(file.read_bytes(), lowers=True)
    import re

    prepared = [re.sub(r"\d", "0", text.lower()) for text in general_texts]
    ids = [encoding.ids for encoding in mine.encode_batch(general_texts, add_special_tokens=False)]
    assert ids == library.encode(prepared)

    shutil.copy(file, tmp_path)
    pieces = [library.id_to_piece(number) for number in range(library.get_piece_size())]
    vectors = np.random.default_rng(0).normal(size=(len(pieces), 3)).astype(np.float32)
    write_word2vec(tmp_path / f"{name}.d3.w2v.bin", pieces, vectors)
    expected = [vectors[row].mean(axis=0) for row in ids[:300]]
    np.testing.assert_allclose(embed(tmp_path, general_texts[:300]), expected, atol=1e-5)
    assert load(str(tmp_path)).provenance["source"]["format"] == "BPEmb"


def test_wordllama_gives_its_vectors(general_texts: list[str], tmp_path: Path) -> None:
    spec = find_spec("wordllama")
    if spec is None or spec.origin is None:
        pytest.skip("wordllama is not installed")
    from wordllama import WordLlama
    from wordllama.config import WordLlamaConfig  # noqa: F401  (fails early where the wheel is broken)

    root = Path(spec.origin).parent
    weights, tokenizer = "l2_supercat_256.safetensors", "l2_supercat_tokenizer_config.json"
    for folder, file in (("weights", weights), ("tokenizers", tokenizer)):
        (tmp_path / folder).mkdir()
        shutil.copy(root / folder / file, tmp_path / folder)
    library = WordLlama.load(cache_dir=tmp_path, disable_download=True)
    np.testing.assert_allclose(
        embed(tmp_path / "weights" / weights, general_texts[:300]),
        library.embed(general_texts[:300]),
        atol=1e-5,
    )


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda folder: None, "is not a model that lakevec knows"),
        (lambda folder: (folder / "modules.json").write_text("[{}]"), "expected a list of modules"),
        (
            lambda folder: (folder / "modules.json").write_text('[{"path": "", "type": "x.Transformer"}]'),
            "got a Sentence Transformer of Transformer; expected a StaticEmbedding; distil it",
        ),
        (
            lambda folder: (folder / "modules.json").write_text(
                '[{"path": "../x", "type": "x.StaticEmbedding"}]'
            ),
            "names a folder outside",
        ),
    ],
    ids=["empty", "damaged modules", "transformer", "outside"],
)
def test_folder_that_is_no_static_model_is_refused(
    make: Callable[[Path], Any], message: str, tmp_path: Path
) -> None:
    make(tmp_path)
    with pytest.raises(ModelError, match=message):
        load(str(tmp_path))


def words_of(file: Path, content: bytes) -> tuple[list[str], list[list[float]]]:
    file.write_bytes(content)
    found = read_word_vectors(locate(str(file), error=ModelError))
    return found.words, found.vectors.tolist()


@pytest.mark.parametrize(
    "content",
    [
        b"the  1 2\ncat  3 4\n",
        b" the 1 2\n  cat 3 4\n",
        b"the 1  2\ncat 3\t 4\n",
        b"the\t1\t2\ncat\t3\t4",
        b"the 1 2  \r\ncat 3 4\t\r\n",
        b"\n\nthe 1 2\n\ncat 3 4\n\n",
        b"2 2\nthe 1 2\ncat 3 4\n",
        b" 2  2 \n the 1 2\n cat 3 4\n",
        b"\xef\xbb\xbfthe 1 2\ncat 3 4\n",
    ],
)
def test_blanks_around_words_are_layout(tmp_path: Path, content: bytes) -> None:
    assert words_of(tmp_path / "w.txt", content) == (["the", "cat"], [[1, 2], [3, 4]])


def test_words_with_blanks_inside_are_found_in_text(tmp_path: Path) -> None:
    (tmp_path / "w.txt").write_text("the 1 2\n. . . 3 4\nnew  york 5 6\n\u00a0cat 7 8\n")
    found = read_word_vectors(locate(str(tmp_path / "w.txt"), error=ModelError))
    assert found.words == ["the", ". . .", "new york", "cat"]
    rows = embed(tmp_path / "w.txt", found.words)
    np.testing.assert_array_equal(rows, [[1, 2], [3, 4], [5, 6], [7, 8]])


@pytest.mark.parametrize(
    ("content", "message"),
    [
        (b"the 1 2\ncat 3\n", "1 numbers in line 2, and 2 in others"),
        (b"the 1 2\n\ncat 3 4 5\n", "3 numbers in line 3, and 2 in others"),
        (b"2 2\nthe 1 2\ncat 3 x\n", "other signs than numbers after the word in line 3"),
        (b"3 2\nthe 1 2\ncat 3 4\n", "2 rows, where line 1 promises 3"),
    ],
)
def test_odd_line_of_word_vectors_is_named(tmp_path: Path, content: bytes, message: str) -> None:
    with pytest.raises(ModelError, match=message):
        words_of(tmp_path / "w.txt", content)


def record(word: bytes, *numbers: float, end: bytes = b"\n") -> bytes:
    return word + b" " + np.array(numbers, "<f4").tobytes() + end


@pytest.mark.parametrize("end", [b"\n", b""], ids=["line ends", "none"])
def test_both_binary_layouts_of_word2vec_are_read(tmp_path: Path, end: bytes) -> None:
    body = record(b"the", 1, 2, end=end) + record(b"cat", 3, 4, end=end)
    assert words_of(tmp_path / "w.bin", b"2 2\n" + body) == (["the", "cat"], [[1, 2], [3, 4]])
    assert words_of(tmp_path / "w.bin", b"2 2\n" + body.rstrip(b"\n"))[0] == ["the", "cat"]


@pytest.mark.parametrize("end", [b"\n", b""], ids=["line ends", "none"])
def test_words_of_any_sign_are_read_from_a_binary_file(tmp_path: Path, end: bytes) -> None:
    words = ["x\u200cy", "क्\u200dष", "a\xadb", "10\xa0000"]
    body = b"".join(record(word.encode(), 1, 2, end=end) for word in words)
    assert words_of(tmp_path / "w.bin", b"5 2\n" + body + record(b"caf\xe9", 1, 2, end=end))[0] == words


@pytest.mark.parametrize("end", [b"\n", b""], ids=["line ends", "none"])
@pytest.mark.parametrize(
    ("rows", "words", "message"),
    [
        (1, [b"the", b"cat"], "more bytes after the 1 records"),
        (3, [b"the", b"cat"], "no word and 2 numbers in record 3 of 3|3 rows of 2 numbers in"),
        (3, [b"the", b"new york", b"cat"], "inside the word of record 2|more bytes|record"),
        (2, [b"new york", b"cat"], "inside the word of record|more bytes|of record"),
        (3, [b"the", b" cat", b"dog"], "inside the word of record 2|more bytes|record"),
    ],
)
def test_binary_file_that_is_not_what_it_says_is_refused(
    tmp_path: Path, rows: int, words: list[bytes], message: str, end: bytes
) -> None:
    body = b"".join(record(word, 1, 2, end=end) for word in words)
    with pytest.raises(ModelError, match=message):
        words_of(tmp_path / "w.bin", f"{rows} 2\n".encode() + body)


def test_hub_model_is_read_from_the_cache_with_its_commit(
    foreign_models: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A hub cache as huggingface_hub lays it out, read without a network; a folder in the repository too."""
    commit = "c9745ed1d9f207416be6d2e6f8de32d1f16199bf"
    cache = tmp_path / "models--org--potion"
    (cache / "refs").mkdir(parents=True)
    (cache / "refs" / "main").write_text(commit)
    source = foreign_models / "model2vec-rs-fixtures/test-model-float32"
    shutil.copytree(source, cache / "snapshots" / commit)
    shutil.copytree(foreign_models / MODEL2VEC[-1], cache / "snapshots" / commit / "small" / "one")
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path))
    monkeypatch.chdir(tmp_path)
    artifact = load("hf://org/potion")
    assert artifact.table.fingerprint == load(str(source)).table.fingerprint
    assert artifact.provenance["hub"] == {"name": "org/potion", "commit": commit}
    assert load("hf://org/potion@main/small/one").table.dimensions == 64
    with pytest.raises(ModelError, match=r"can't be fetched from the Hugging.*offline, fetch it before with"):
        load("hf://org/absent")
    with pytest.raises(
        ModelError, match=r"^model 'org/potion' does not exist: .*is written hf://org/potion$"
    ):
        load("org/potion")


def test_published_model_is_read_from_the_hubs_cache_of_links(
    tiny_table: StaticTable, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As the hub's cache lays it out: files are links to blobs of their repository, and to no other place."""
    publish(tiny_table, str(tmp_path / "model"), provenance={}, quality={})
    cache = tmp_path / "hub" / "models--org--tiny"
    snapshot = cache / "snapshots" / ("c" * 40)
    snapshot.mkdir(parents=True)
    (cache / "refs").mkdir()
    (cache / "refs" / "main").write_text("c" * 40)
    shutil.copytree(tmp_path / "model", cache / "blobs")
    for file in (cache / "blobs").iterdir():
        (snapshot / file.name).symlink_to(file)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_OFFLINE", True)
    monkeypatch.setattr("huggingface_hub.constants.HF_HUB_CACHE", str(tmp_path / "hub"))
    monkeypatch.chdir(tmp_path)
    artifact = load("hf://org/tiny")
    assert artifact.table.fingerprint == tiny_table.fingerprint
    assert artifact.is_checked
    (snapshot / "model.safetensors").unlink()
    (snapshot / "model.safetensors").symlink_to(tmp_path / "model" / "model.safetensors")
    with pytest.raises(ModelError, match="is a link"):
        load("hf://org/tiny")


def test_byte_order_mark_is_no_part_of_a_word(tmp_path: Path) -> None:
    for name, content in (
        ("a.txt", "\ufeff2 2\nhello 1 2\nworld 3 4\n"),
        ("b.txt", "\ufeffhello 1 2\nworld 3 4\r\n"),
    ):
        (tmp_path / name).write_text(content)
        found = read_word_vectors(locate(str(tmp_path / name), error=ModelError))
        assert found.words == ["hello", "world"]
        assert found.vectors.tolist() == [[1, 2], [3, 4]]


@pytest.mark.parametrize(
    ("name", "content"),
    [
        ("cut.txt", b"5 2\nhello 1 2\nworld 3 4\n"),
        ("cut.txt.gz", gzip.compress(b"hello 1 2\n")[:-6]),
        ("cut.txt", gzip.compress(b"hello 1 2\n")[:-6]),
        ("no.txt.gz", b"plain"),
    ],
    ids=["rows", "gzip", "gzip of another name", "no gzip"],
)
def test_cut_off_file_is_refused(name: str, content: bytes, tmp_path: Path) -> None:
    (tmp_path / name).write_bytes(content)
    with pytest.raises(ModelError):
        load(str(tmp_path / name))


@pytest.mark.parametrize(
    ("config", "tensors", "message"),
    [
        ({"normalize": "false"}, {}, "normalize: got 'false'; expected true or false"),
        ({}, {"embeddings": np.ones((4, 2), np.int32)}, "embeddings: got int32"),
        ({}, {"mapping": np.full(4, 0.7, np.float32)}, "mapping: got float32"),
        ({}, {"mapping": np.array([0, 1, 2, 2**32], np.int64)}, "mapping names rows that are not there"),
        ({}, {"weights": np.ones(0, np.float32)}, "weights: got float32 of shape"),
        (
            {},
            {"weights": np.full(4, 1e20, np.float32), "embeddings": np.full((4, 2), 1e20, np.float32)},
            "beyond 1e30",
        ),
        ({}, {"weights": np.array([1, np.nan, 1, 1], np.float32)}, "weights hold NaN"),
    ],
)
def test_tensors_that_are_no_table_are_refused(
    config: dict[str, Any], tensors: dict[str, np.ndarray], message: str, tmp_path: Path
) -> None:
    folder = write_model2vec(tmp_path / "m", config, **{"embeddings": np.ones((4, 2), np.float32), **tensors})
    with pytest.raises(ModelError, match=message):
        load(folder)
