"""Byte-level BPE and Unigram here: the ids are the library's, and only odd segments go there."""

from __future__ import annotations

import json
import random
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer, models, normalizers, pre_tokenizers

from lakevec.pipeline.encoding.split_rules import SplitRule, find_split_rule
from lakevec.pipeline.encoding.token_cache import TokenCache
from lakevec.pipeline.encoding.tokenization import CachedTokenizer, make_tokenizer
from lakevec.pipeline.encoding.word_model_tables import make_lattice, make_letters, make_pairs
from tests.pipeline.encoding.test_tokenization import PIECES, assert_same_ids, library, ours

NAMES = ["gpt2", "roberta-base", "ModernBERT-base", "t5-small", "multilingual-e5-small-rebuilt"]
SCRIPTS = [
    *"中国人大学。、日本語ひらがなカタカナーｶﾞｱ한국어각가ㄱㅏไทยกำЖдиαβγאבمرحবাংলা",
    *"'sS1½Ⅷ²ªﬁ…￥①㌀㈱ｱﾞ\u3099\u0301\u200d\ufe0f\u1100\u1161",
    *[
        "'s",
        "'ll",
        "n't",
        " '",
        "''",
        "!'",
        "東京都",
        "<s>",
        "</s>",
        "▁",
        " ",
        " ",
        "  ",
        "\u3000",
        "\n",
        "\n\n",
        "\r\n",
        " \n",
        "\n ",
        "\u3000\u3000",
        "\xa0",
        "😀",
    ],
]
texts_of_scripts = st.lists(st.sampled_from(SCRIPTS) | st.sampled_from(PIECES), max_size=30).map("".join)


@pytest.mark.parametrize("name", NAMES)
def test_segments_of_any_script_have_the_librarys_ids(name: str) -> None:
    theirs, mine = library(name), ours(name)

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(texts_of_scripts, min_size=1, max_size=10))
    @example(["don't 't's 'S 'll''ve x'Re", " 's", "a '", "中" * 300, "ｱ" * 9000, "x'", "'", " ", "각" * 200])
    def check(texts: list[str]) -> None:
        assert_same_ids(mine, theirs, texts)

    check()


@pytest.mark.parametrize("name", ["gpt2", "ModernBERT-base", "multilingual-e5-small-rebuilt"])
def test_every_character_has_the_librarys_ids(name: str) -> None:
    characters = [chr(code) for code in range(0x10200) if not 0xD800 <= code < 0xE000]
    assert_same_ids(ours(name), library(name), [f"x{c}y {c} 1{c}中-{c}" for c in characters])


class CountingTokenizer:
    """A tokenizer that counts the texts and words that it tokenizes."""

    def __init__(self, tokenizer: Tokenizer) -> None:
        self.tokenizer = tokenizer
        self.count = 0

    def __getattr__(self, name: str) -> Any:
        return getattr(self.tokenizer, name)

    def encode_batch(self, groups: list[list[str]], **options: Any) -> Any:
        self.count += sum(map(len, groups))
        return self.tokenizer.encode_batch(groups, **options)

    def encode_batch_fast(self, texts: list[str], **options: Any) -> Any:
        self.count += len(texts)
        return self.tokenizer.encode_batch_fast(texts, **options)


@pytest.mark.parametrize("name", ["gpt2", "multilingual-e5-small-rebuilt"])
def test_few_segments_of_chinese_and_japanese_go_to_the_library(name: str, shared_data: Path) -> None:
    languages = [("lang", "in", ["zh", "ja"])]
    table = pq.read_table(shared_data / "texts" / "multilingual.parquet", filters=languages)
    texts, theirs = table["text"].to_pylist()[::50], CountingTokenizer(library(name))
    rule = find_split_rule(theirs.to_str())
    assert isinstance(rule, SplitRule)
    cache = TokenCache(theirs, rule, None)
    assert_same_ids(CachedTokenizer(cache), library(name), texts)
    assert 0 < theirs.count < 0.1 * len(cache)


def draw_pieces(rng: random.Random) -> list[tuple[str, float]]:
    """Pieces with equal scores and equal sums, so that the order decides."""
    letters = "abc中é"
    pieces = {rng.choice(["", "▁"]) + "".join(rng.choices(letters, k=rng.randrange(1, 5))) for _ in range(30)}
    return [("<unk>", 0.0), *((piece, rng.choice([-1.0, -2.0, -3.0, -4.0, 1.5])) for piece in sorted(pieces))]


@pytest.mark.parametrize("seed", range(12))
def test_any_unigram_breaks_ties_as_the_library_does(seed: int) -> None:
    rng = random.Random(seed)
    theirs = Tokenizer(models.Unigram(draw_pieces(rng), unk_id=0, byte_fallback=seed % 5 == 0))
    theirs.pre_tokenizer = pre_tokenizers.Metaspace(prepend_scheme=rng.choice(["always", "never", "first"]))
    texts = ["".join(rng.choices("aabbcc中éxy ", k=rng.randrange(12))) for _ in range(200)]
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)
    assert_same_ids(make_tokenizer(theirs.to_str(), 0), drop_unknown(theirs), texts)


def drop_unknown(tokenizer: Tokenizer) -> Any:
    """Return the tokenizer, whose encodings lack token 0."""

    class Encoding:
        def __init__(self, ids: list[int]) -> None:
            self.ids = [token for token in ids if token != 0]

    class Dropping:
        def encode_batch_fast(self, texts: list[str], **options: Any) -> list[Encoding]:
            return [Encoding(encoding.ids) for encoding in tokenizer.encode_batch_fast(texts, **options)]

    return Dropping()


@pytest.mark.parametrize("seed", range(12))
def test_any_byte_level_merges_are_those_of_the_library(seed: int) -> None:
    rng = random.Random(seed)
    tokens = sorted(pre_tokenizers.ByteLevel.alphabet())
    merges: list[tuple[str, str]] = []
    for _ in range(60):
        pair = (
            rng.choice([*"abcĠäåĽ", *(left + right for left, right in merges)]),
            rng.choice(tokens[64:70] + list("abc")),
        )
        if pair not in merges:
            merges.append(pair)
            tokens.append("".join(pair))
    tokens = list(dict.fromkeys(tokens))
    theirs = Tokenizer(models.BPE({token: number for number, token in enumerate(tokens)}, merges))
    theirs.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=seed % 2 == 0)
    theirs.normalizer = rng.choice([normalizers.NFC(), normalizers.NFD(), normalizers.Lowercase()])
    texts = ["".join(rng.choices("aabbccABC中国é1 '", k=rng.randrange(25))) for _ in range(200)]
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)


@pytest.mark.parametrize(
    "change",
    [
        {"dropout": 0.5},
        {"ignore_merges": True},
        {"end_of_word_suffix": "</w>"},
        {"continuing_subword_prefix": "#"},
    ],
    ids=lambda change: next(iter(change)),
)
def test_a_byte_level_model_with_options_is_left_to_the_library(change: dict[str, Any]) -> None:
    document = json.loads(library("gpt2").to_str())
    assert len(make_pairs(document).slots) > 0
    document["model"] |= change
    assert len(make_pairs(document).slots) == 0


def test_an_added_token_of_letters_leaves_all_segments_to_the_library() -> None:
    theirs = Tokenizer.from_str(library("gpt2").to_str())
    theirs.add_tokens(["zap", "utf8"])
    texts = ["zap it", "a utf8zap", "中zap国"]
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)


@pytest.mark.parametrize("blank", ["\xa0", "\u2003", "\u3000", "\x85", "\v"])
def test_white_space_that_no_normalizer_changes_ends_words_only_where_it_does(blank: str) -> None:
    theirs = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("a", -1.0), (blank, -1.0)], unk_id=0))
    metaspace = pre_tokenizers.Metaspace()
    for splitter in (metaspace, pre_tokenizers.Sequence([pre_tokenizers.WhitespaceSplit(), metaspace])):
        theirs.pre_tokenizer = splitter
        texts = [blank, f"a{blank}a", f"{blank}a", f"a{blank}", f"a {blank}a"]
        assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)


def test_unknown_tokens_of_unigram_are_counted() -> None:
    theirs = Tokenizer(models.Unigram([("<unk>", 0.0), ("▁", -1.0), ("a", -1.0)], unk_id=0))
    theirs.pre_tokenizer = pre_tokenizers.Metaspace()
    tokens = make_tokenizer(theirs.to_str(), 0).tokenize(pa.array(["axxa xa", "x"], pa.large_string()))
    assert (tokens.ids.tolist(), tokens.unknown) == ([1, 2, 2, 1, 2, 1], 3)


def test_paths_have_room_for_the_longest_word() -> None:
    """A kernel writes one place more than a word has bytes."""
    tokenizer = library("multilingual-e5-small-rebuilt")
    lattice = make_lattice(json.loads(tokenizer.to_str()))
    letters = make_letters(tokenizer, "", is_unigram=True)
    assert min(map(len, (lattice.best, lattice.origins, lattice.chosen))) > len(letters.word)
