"""Chunk by chunk or text by text, the ids are the library's own: every cut rule against hostile text."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from conftest import SHARED_DATA
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from pipeline.encoding.chunking import CutRule, find_cut_rule
from pipeline.encoding.tokenization import TextTokenizer, make_tokenizer

FAMILIES = {
    "ModernBERT-base": "single space",
    "bert-base-cased": "bert",
    "bert-base-cased-rebuilt": "bert",
    "bert-base-chinese": "bert",
    "bert-base-multilingual-cased-rebuilt": "bert",
    "bert-base-uncased": "bert",
    "clip": "white space",
    "djl-fake-with-padding": "white space",
    "gpt2": "single space",
    "model2vec-test_tokenizer": "bert",
    "multilingual-e5-small-rebuilt": "single space",
    "ort-nmt": "none",
    "roberta-base": "single space",
    "skeletoken-small-bpe": "none",
    "skeletoken-small-wordpiece": "none",
    "t5-small": "white space",
    "vespa-real_tokenizer": "bert",
    "xlm-roberta-base-rebuilt": "white space",
}

# What is hard: control characters, marks behind spaces, all kinds of white space, joiners, scripts without
# spaces, right-to-left, compatibility characters, literal added tokens, the marks tokenizers use themselves.
PIECES = [
    *"abcXYZ0189 \t\r\n\v\f\0\x01\x1c\x7f\x85.,;:!?'\"-_()[]{}<>|=#@/\\`~^$%&*+",
    *"\u00a0\u1680\u180e\u2000\u2009\u200b\u200c\u200d\u2028\u202f\u205f\u2060\u3000\ufeff\u00ad\u202e\u2066",
    *"\u0301\u0308\u0338\u0344\u3099\u20dd\u093c\u0e33\u0131\u017f\u2019\u2013\u201c\u1100\u1161\u11a8",
    *"éÉüÅßẞİΣς\u212aÅ;≮≠ﬁ１Ａ\uff3b\uff5d…、。「」”—\u3400\u4dbf\u4dc0一\u9fff\uf900\U00020000\U00020bb7",
    *"中国人日本語ひらがなカタカナ한국어ไทยمرحباשלוםनमस्ते😀\U0001f1e8\U0001f469\U0001f3fd",
    *["hello", "World", "the", "don't", "I'll", "'s", "##a", "Ġ", "▁", "▁▁", "</w>", "  ", "   ", "\r\n"],
    *[
        "a" * 101,
        "x" * 30,
        "9" * 12,
        "internationalization",
        " \u0301",
        "\u3000a",
        "\U0001f469\u200d\U0001f467",
    ],
    *["[UNK]", "[PAD]", "[pad]", "[Pad]", "[PA\0D]", "[P\u00c1D]", "[unk]", "[CLS]", "[MASK]", "<s>", "</s>"],
    *["<pad>", "<mask>", "<unk>", "<|endoftext|>", "<|ENDOFTEXT|>", "<|startoftext|>", "|||IP_ADDRESS|||"],
    "<extra_id_7>",
]
hostile_texts = st.lists(st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=24).map(
    "".join
)


@lru_cache(maxsize=2)
def library(name: str) -> Tokenizer:
    if not SHARED_DATA.is_dir():
        pytest.skip("the evaluation data folder ../shared/data is not there")
    tokenizer = Tokenizer.from_file(str(SHARED_DATA / "tokenizers" / name / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@lru_cache(maxsize=2)
def ours(name: str) -> TextTokenizer:
    return make_tokenizer(library(name).to_str(), None)


def assert_same_ids(mine: TextTokenizer, theirs: Tokenizer, texts: list[str]) -> None:
    tokens = mine.tokenize(pa.array(texts, pa.large_string()))
    expected = [encoding.ids for encoding in theirs.encode_batch_fast(texts, add_special_tokens=False)]
    got = np.split(tokens.ids, tokens.offsets[1:-1])
    assert [part.tolist() for part in got] == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tokenizer_has_its_familys_rule(name: str) -> None:
    rule = find_cut_rule(library(name).to_str())
    assert (rule.name if isinstance(rule, CutRule) else "none") == FAMILIES[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_hostile_text_has_the_librarys_ids(name: str) -> None:
    theirs, mine = library(name), ours(name)

    @settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(hostile_texts, min_size=1, max_size=20))
    @example(
        ["a \u0301b", "x=\u0338y < \u0338", "a[PAD]b c", "ab [UNK].cd", "a<mask> b", " a", "a ", "", "  "]
    )
    def check(texts: list[str]) -> None:
        assert_same_ids(mine, theirs, texts)

    check()


@pytest.mark.parametrize("name", FAMILIES)
def test_real_multilingual_text_has_the_librarys_ids(name: str, shared_data: Path) -> None:
    texts = pq.read_table(shared_data / "texts" / "multilingual.parquet")["text"].to_pylist()
    assert_same_ids(ours(name), library(name), texts[::25])
