"""Tokenizers of components drawn at random: whatever rule is derived gives the library's own ids."""

from __future__ import annotations

import random
from typing import Any

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Regex, Tokenizer, models, normalizers, pre_tokenizers
from tokenizers.normalizers import Normalizer
from tokenizers.pre_tokenizers import PreTokenizer

from lakevec.pipeline.encoding.split_rules import SplitRule, find_split_rule
from lakevec.pipeline.encoding.tokenization import make_tokenizer

# Blanks of every kind, marks alone and between blanks, and words that components change.
PIECES = [
    *" \t\r\n\v\f\0\x85\u00a0\u2000\u2009\u200b\u202f\u3000\ufeff\u2028",
    *[
        "  ",
        "   ",
        " \t ",
        "\r\n",
        " \u0301",
        "\u0301 ",
        " \u0301 ",
        "\u0308",
        "\u20dd",
        "▁",
        "▁▁",
        " ▁",
        "Ġ",
    ],
    *[
        "a",
        "b",
        "ab",
        "A",
        "é",
        "e\u0301",
        "1",
        "12",
        ".",
        "a.b",
        "-",
        "日本",
        "ﬁ",
        "ß",
        "İ",
        "##a",
        "don't",
        "x=\u0338",
    ],
]


def draw_normalizers(rng: random.Random) -> list[Normalizer]:
    kinds: list[Any] = [
        normalizers.NFC,
        normalizers.NFD,
        normalizers.NFKC,
        normalizers.NFKD,
        normalizers.Nmt,
        normalizers.Lowercase,
        normalizers.StripAccents,
        lambda: normalizers.Strip(left=rng.random() < 0.5, right=rng.random() < 0.5),
        lambda: normalizers.Replace(Regex(" {2,}"), rng.choice([" ", "▁"])),
        lambda: normalizers.Replace(Regex(r"\s+"), " "),
        lambda: normalizers.Replace(Regex(r"\d"), "0"),
        lambda: normalizers.BertNormalizer(
            clean_text=rng.random() < 0.7,
            handle_chinese_chars=rng.random() < 0.5,
            strip_accents=rng.choice([None, True, False]),
            lowercase=rng.random() < 0.5,
        ),
    ]
    return [rng.choice(kinds)() for _ in range(rng.choice([0, 0, 1, 1, 2, 3]))]


def draw_pre_tokenizers(rng: random.Random) -> list[PreTokenizer]:
    def metaspace() -> PreTokenizer:
        return pre_tokenizers.Metaspace(prepend_scheme=rng.choice(["always", "never", "first"]))

    def byte_level() -> PreTokenizer:
        return pre_tokenizers.ByteLevel(add_prefix_space=rng.random() < 0.5)

    stacks: list[list[Any]] = [
        [pre_tokenizers.WhitespaceSplit],
        [pre_tokenizers.Whitespace],
        [pre_tokenizers.BertPreTokenizer],
        [byte_level],
        [metaspace],
        [pre_tokenizers.WhitespaceSplit, metaspace],
        [pre_tokenizers.Whitespace, metaspace],
        [pre_tokenizers.WhitespaceSplit, pre_tokenizers.Punctuation],
        [pre_tokenizers.WhitespaceSplit, pre_tokenizers.Digits, metaspace],
        [pre_tokenizers.Whitespace, byte_level],
    ]
    return [make() for make in rng.choice(stacks)]


def random_tokenizer(rng: random.Random) -> Tokenizer:
    """Draw components; the model knows single characters, so that each of them shows in the ids."""
    before, parts = draw_normalizers(rng), draw_pre_tokenizers(rng)
    if any(isinstance(part, pre_tokenizers.ByteLevel) for part in parts):
        alphabet = sorted(pre_tokenizers.ByteLevel.alphabet())
        vocabulary = {sign: number for number, sign in enumerate(alphabet)}
        tokenizer = Tokenizer(models.BPE({**vocabulary, "ab": 256, "Ġa": 257}, [("a", "b"), ("Ġ", "a")]))
    else:
        signs = sorted({sign for piece in PIECES for sign in piece})
        pieces = [("<unk>", -10.0), *((sign, -3.0) for sign in signs), ("▁a", -2.0), ("ab", -2.5)]
        tokenizer = Tokenizer(models.Unigram(pieces, unk_id=0))
    tokenizer.normalizer = normalizers.Sequence(before)
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(parts)
    return tokenizer


def find_difference(tokenizer: Tokenizer, texts: list[str]) -> str:
    """Return the first text whose ids are not the library's; empty if there is none."""
    expected = [encoding.ids for encoding in tokenizer.encode_batch_fast(texts, add_special_tokens=False)]
    tokens = make_tokenizer(tokenizer.to_str(), None).tokenize(pa.array(texts, pa.large_string()))
    got = [part.tolist() for part in np.split(tokens.ids, tokens.offsets[1:-1])]
    return next(
        (repr(text) for text, one, other in zip(texts, got, expected, strict=True) if one != other), ""
    )


@settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
@given(
    st.randoms(use_true_random=False), st.lists(st.lists(st.sampled_from(PIECES), max_size=8), max_size=20)
)
def test_random_components_give_the_librarys_ids(rng: random.Random, texts: list[list[str]]) -> None:
    assert find_difference(random_tokenizer(rng), ["".join(pieces) for pieces in texts] or [""]) == ""


@pytest.mark.parametrize("seed", range(40))
def test_components_of_many_seeds_give_the_librarys_ids(seed: int) -> None:
    rng = random.Random(seed)
    texts = ["".join(rng.choice(PIECES) for _ in range(rng.randrange(9))) for _ in range(60)]
    assert find_difference(random_tokenizer(rng), texts) == ""


@pytest.mark.parametrize("scheme", ["always", "never"])
@pytest.mark.parametrize("text", ["a  ", "  a", "a  b", "a  \tb", "a \u0301 b"])
def test_runs_of_blanks_behind_a_mark_take_whole_texts(scheme: str, text: str) -> None:
    tokenizer = random_tokenizer(random.Random(0))
    tokenizer.normalizer = normalizers.Replace(Regex(" {2,}"), "▁")
    tokenizer.pre_tokenizer = pre_tokenizers.Sequence(
        [pre_tokenizers.WhitespaceSplit(), pre_tokenizers.Metaspace(prepend_scheme=scheme)]
    )
    assert not isinstance(find_split_rule(tokenizer.to_str()), SplitRule)
    assert find_difference(tokenizer, [text]) == ""
