"""``lakevec mine``: which words it takes, in which order, and which it never takes."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lakevec.pipeline.corpus import counts_folder
from lakevec.pipeline.distillation.word_list import read_words
from lakevec.pipeline.errors import InputError
from lakevec.pipeline.storage import locate
from tests.support.commands import mine as main
from tests.support.paths import SHARED_DATA


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


def test_places_that_can_not_be_looked_at_are_refused(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts, too_long = write_counts(tmp_path / "counts", WORDS, PHRASES), "a" * 300
    assert run(str(tmp_path / too_long), model, tmp_path / "out") == 2
    assert re.search("counts '.*' can't be read: got OSError, ", capsys.readouterr().err)
    assert run(counts, model, tmp_path / too_long) == 2
    assert re.search("can't look at '.*': got OSError, ", capsys.readouterr().err)
