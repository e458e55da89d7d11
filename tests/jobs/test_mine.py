"""``lakevec mine``: which words it takes, in which order, and which it never takes."""

from __future__ import annotations

import doctest
import json
import random
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lakevec.pipeline.corpus import counts_folder, word_filters
from lakevec.pipeline.corpus import vocabulary_mining as mining
from lakevec.pipeline.corpus.vocabulary_mining import count_pieces, npmi
from lakevec.pipeline.corpus.word_filters import LetterPairs, WordFilter, is_like_a_secret
from lakevec.pipeline.distillation.word_list import read_words
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.storage import locate
from tests.support.commands import mine as main
from tests.support.paths import SHARED_DATA


def test_docstring_examples_are_true() -> None:
    assert doctest.testmod(word_filters).failed == 0
    assert doctest.testmod(mining).failed == 0


def write_counts(folder: Path, words: list[tuple[str, int, int]], phrases: list[tuple[str, int, int]]) -> str:
    """What ``lakevec count`` would leave."""
    for name, column, rows in (("words", "word", words), ("phrases", "phrase", phrases)):
        (folder / name).mkdir(parents=True)
        columns = zip(*rows, strict=True) if rows else ([], [], [])
        kinds = [pa.string(), pa.int64(), pa.int64()]
        arrays = [pa.array(values, kind) for values, kind in zip(columns, kinds, strict=True)]
        pq.write_table(
            pa.table(dict(zip([column, "count", "documents"], arrays, strict=True))),
            folder / name / "0.parquet",
        )
    counts_folder.finish(
        locate(str(folder), error=InputError), pa.table({"id": [0]}), {"kind": "lakevec count"}
    )
    return str(folder)


@pytest.fixture
def model(tmp_path: Path) -> str:
    pieces = ["[UNK]", "a", "data", "##frame", "nu", "##mp", "##y", "the", "new", "york", "##s", "##8", "##k"]
    tokenizer = Tokenizer(models.WordPiece({p: n for n, p in enumerate(pieces)}, unk_token="[UNK]"))
    tokenizer.normalizer = normalizers.BertNormalizer()
    tokenizer.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    (tmp_path / "teacher").mkdir()
    tokenizer.save(str(tmp_path / "teacher" / "tokenizer.json"))
    return str(tmp_path / "teacher")


WORDS = [
    ("the", 9000, 900),
    ("dataframe", 100, 50),
    ("numpy", 60, 30),
    ("new", 400, 300),
    ("york", 50, 40),
    ("datas", 100, 4),
    ("news", 19, 19),
    ("data8", 200, 100),
    ("as", 500, 100),
    ("thes", 120, 100),
]
PHRASES = [("new york", 50, 40), ("the new", 90, 80), ("the york", 10, 10)]


def run(counts: str, model: str, output: Path, *words: str) -> int:
    return main(["--counts", counts, "--model", model, "--output", str(output), *words])


def test_words_that_are_split_come_ranked_by_what_they_save(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = write_counts(tmp_path / "counts", WORDS, PHRASES)
    assert run(counts, model, tmp_path / "out") == 0
    rows = pq.read_table(tmp_path / "out").to_pylist()
    assert rows[1] == {
        "word": "numpy",
        "count": 60,
        "documents": 30,
        "pieces": 3,
        "saving": 120,
        "rank": 2,
    }
    assert [(row["word"], row["pieces"], row["saving"], row["rank"]) for row in rows] == [
        ("thes", 2, 120, 1),
        ("numpy", 3, 120, 2),
        ("dataframe", 2, 100, 3),
    ]
    record = json.loads((tmp_path / "out" / "_mine.json").read_text())
    assert record["report"] == {
        "frequent enough": 8,
        "with digits": 1,
        "too short": 1,
        "known to the tokenizer": 3,
        "behind the top": 0,
        "taken": 3,
    }
    assert "numpy" in capsys.readouterr().out
    assert read_words(str(tmp_path / "out"), column="word").words == ("thes", "dataframe", "numpy")
    assert run(counts, model, tmp_path / "out") == 2
    assert "exists: choose another --output" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("words", "taken"),
    [
        (["--min-documents", "1", "--min-count", "1"], ["thes", "numpy", "dataframe", "datas", "news"]),
        (["--top", "1"], ["thes"]),
        (["--digits"], ["data8", "thes", "numpy", "dataframe"]),
        (["--min-pieces", "3"], ["numpy"]),
        (["--max-chars", "5"], ["thes", "numpy"]),
        (["--min-chars", "5"], ["numpy", "dataframe"]),
        (["--phrases"], ["thes", "numpy", "dataframe", "new york"]),
        (["--phrases", "--min-npmi", "-1", "--max-chars", "7"], ["thes", "numpy", "the new"]),
        (["--script", "Latin"], ["thes", "numpy", "dataframe"]),
    ],
    ids=" ".join,
)
def test_options_choose(model: str, tmp_path: Path, words: list[str], taken: list[str]) -> None:
    counts = write_counts(tmp_path / "counts", WORDS, PHRASES)
    assert run(counts, model, tmp_path / "out", *words) == 0
    assert pq.read_table(tmp_path / "out")["word"].to_pylist() == taken


def test_nothing_to_add_and_no_counts_are_told(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = write_counts(tmp_path / "counts", WORDS, PHRASES)
    assert run(counts, model, tmp_path / "out", "--script", "Greek") == 2
    assert "hold no word to add: got 8 frequent enough" in capsys.readouterr().err
    assert run(str(tmp_path / "teacher"), model, tmp_path / "out") == 2
    assert "expected what 'lakevec count' wrote" in capsys.readouterr().err
    assert run(counts, model, tmp_path / "out", "--min-chars", "9", "--max-chars", "3") == 2
    assert "min_chars is more than max_chars" in capsys.readouterr().err
    assert not (tmp_path / "out").exists()


SECRETS = [
    "d41d8cd98f00b204e9800998ecf8427e",  # md5
    "AKIAIOSFODNN7EXAMPLE",
    "wJalrXUtnFEMIK7MDENGbPxRfiCYEXAMPLEKEY",
    "9f86d081884c",
    "0xdeadbeef1",
    "eyJhbGciOiJIUzI1NiIsInR5cCI6IkpXVCJ9",
    "4111111111111111",
    "someone@example.org",
    "https://example.org/x?y=z",
    "c:\\users\\somebody",
    "a9x8b7c6d5e4",
]
NO_SECRETS = [
    "dataframe",
    "float64",
    "tokenization",
    "internationalization",
    "utf8",
    "défaut",
    "can't",
    "x-ray",
]


def english() -> LetterPairs:
    words = {word for word in dir(np) + dir(random) if word.isalpha()} | {
        "tokenization",
        "internationalization",
    }
    return LetterPairs(sorted(words))


def test_secrets_never_get_into_a_vocabulary() -> None:
    fit = WordFilter(1, 100, (), True, english())
    assert {word: bool(fit.reason_against(word)) for word in SECRETS} == dict.fromkeys(SECRETS, True)
    assert {word: fit.reason_against(word) for word in NO_SECRETS} == dict.fromkeys(NO_SECRETS, "")
    assert not any(is_like_a_secret(word) for word in NO_SECRETS)


def test_random_letters_are_told_from_words_of_a_lake(shared_data: Path) -> None:
    texts = pq.read_table(shared_data / "texts" / "general-en.parquet")["text"].to_pylist()[::100]
    words = sorted({word.lower() for text in texts for word in text.split() if word.isalpha()})
    letters = LetterPairs(words)
    fit = WordFilter(1, 100, (), True, letters)
    draw = random.Random(0)
    drawn = ["".join(draw.choices("abcdefghijklmnopqrstuvwxyz", k=20)) for _ in range(500)]
    missed = [word for word in drawn if not fit.reason_against(word)]
    refused = [word for word in words if len(word) >= 10 and fit.reason_against(word)]
    assert len(missed) <= 5
    assert len(refused) <= 0.005 * sum(len(word) >= 10 for word in words)


def test_scripts_are_told_by_letters() -> None:
    fit = WordFilter(1, 100, ("Latin", "Cyrillic"), True, LetterPairs([]))
    assert fit.reason_against("Straße") == fit.reason_against("слово") == ""
    assert fit.reason_against("λόγος") == fit.reason_against("logos中") == "of another script"


@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2", "t5-small"])
def test_pieces_are_those_of_a_word_within_a_text(name: str, shared_data: Path) -> None:
    tokenizer = Tokenizer.from_file(str(SHARED_DATA / "tokenizers" / name / "tokenizer.json"))
    words = ["hello", "numpy", "dataframe"]
    for word, pieces in zip(words, count_pieces(tokenizer, words), strict=True):
        both = tokenizer.encode(f"I like {word} very much", add_special_tokens=False).tokens
        without = tokenizer.encode("I like very much", add_special_tokens=False).tokens
        assert pieces == len(both) - len(without)


def test_npmi_of_words_that_are_always_together_is_one() -> None:
    count, words = np.array([5, 5, 5]), np.array([[5, 5, 5], [50, 5, 5], [100, 100, 500]])
    found = npmi(count, words, 1000)
    assert found[0] == pytest.approx(1)
    assert found[0] > found[1] > found[2]


@pytest.mark.usefixtures("shared_data")
def test_mined_words_and_phrases_become_tokens(tmp_path: Path) -> None:
    """Through the editing of the tokenizer that distilling does, without a teacher's forward passes."""
    transformers = pytest.importorskip("transformers")
    from lakevec.pipeline.distillation.options import DistillOptions
    from lakevec.pipeline.distillation.vocabulary import build_vocabulary

    file = SHARED_DATA / "tokenizers" / "bert-base-uncased" / "tokenizer.json"
    (tmp_path / "t").mkdir()
    (tmp_path / "t" / "tokenizer.json").write_bytes(file.read_bytes())
    words = [("numpy", 900, 90), ("new", 50, 50), ("york", 50, 50), ("dataframe", 90, 80)]
    counts = write_counts(tmp_path / "counts", words, [("new york", 50, 50)])
    assert run(counts, str(tmp_path / "t"), tmp_path / "words", "--phrases") == 0
    tokenizer: Any = transformers.PreTrainedTokenizerFast(
        tokenizer_file=str(file), unk_token="[UNK]", pad_token="[PAD]", cls_token="[CLS]", sep_token="[SEP]"
    )
    config = transformers.BertConfig(
        hidden_size=4, num_hidden_layers=1, num_attention_heads=1, intermediate_size=4
    )
    vocabulary = build_vocabulary(
        tokenizer,
        transformers.BertModel(config),
        DistillOptions(token_remove_pattern=None, words=read_words(str(tmp_path / "words"), column="word")),
    )
    tokenizer = Tokenizer.from_str(vocabulary.tokenizer_json)
    encoded = tokenizer.encode("A NumPy DataFrame, in New York", add_special_tokens=False)
    assert [token.strip() for token in encoded.tokens] == ["a", "numpy", "dataframe", ",", "in", "new york"]
