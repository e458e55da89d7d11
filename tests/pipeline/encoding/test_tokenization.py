"""By segments or as whole texts, the ids are the library's own: every split rule against hostile text."""

from __future__ import annotations

import json
from functools import cache
from pathlib import Path

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc
import pyarrow.parquet as pq
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

from lakevec.pipeline.encoding.split_rules import SplitRule, find_split_rule
from lakevec.pipeline.encoding.token_cache import TokenCache
from lakevec.pipeline.encoding.tokenization import CachedTokenizer, TextTokenizer, make_tokenizer, slices
from lakevec.pipeline.errors import DataError, ModelError
from lakevec.pipeline.model.formats.bpemb import read_sentencepiece
from lakevec.pipeline.model.formats.word_vectors import read_word_vectors
from lakevec.pipeline.model.word_tokenizer import make_word_tokenizer
from lakevec.pipeline.storage import locate
from tests.support.paths import SHARED_DATA

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
    "bpemb-spm/en.wiki.bpe.vs10000.model": "single space",
    "bpemb-spm/ja.wiki.bpe.vs5000.model": "single space",
    "glove50-4k": "white space",
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


@cache
def library(name: str) -> Tokenizer:
    if not SHARED_DATA.is_dir():
        pytest.skip("the evaluation data folder ../shared/data is not there")
    if name == "glove50-4k":
        vectors = read_word_vectors(
            locate(str(SHARED_DATA / "models/glove50-4k/glove50_4k.txt"), error=ModelError)
        )
        return make_word_tokenizer(vectors.words, lowercase=True)
    file = SHARED_DATA / "tokenizers" / name
    if name.endswith(".model"):
        return read_sentencepiece(file.read_bytes(), lowers=True)
    tokenizer = Tokenizer.from_file(str(file / "tokenizer.json"))
    tokenizer.no_truncation()
    tokenizer.no_padding()
    return tokenizer


@cache
def ours(name: str) -> TextTokenizer:
    return make_tokenizer(library(name).to_str(), None)


def assert_same_ids(mine: TextTokenizer, theirs: Tokenizer, texts: list[str]) -> None:
    tokens = mine.tokenize(pa.array(texts, pa.large_string()))
    expected = [encoding.ids for encoding in theirs.encode_batch_fast(texts, add_special_tokens=False)]
    got = np.split(tokens.ids, tokens.offsets[1:-1])
    assert [part.tolist() for part in got] == expected


@pytest.mark.parametrize("name", FAMILIES)
def test_every_tokenizer_has_its_familys_rule(name: str) -> None:
    rule = find_split_rule(library(name).to_str())
    assert (rule.name if isinstance(rule, SplitRule) else "none") == FAMILIES[name]


@pytest.mark.parametrize("name", FAMILIES)
def test_hostile_text_has_the_librarys_ids(name: str) -> None:
    theirs, mine = library(name), ours(name)

    @settings(max_examples=60, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(hostile_texts, min_size=1, max_size=20))
    @example(
        ["a \u0301b", "x=\u0338y < \u0338", "a[PAD]b c", "ab [UNK].cd", "a<mask> b", " a", "a ", "", "  "]
    )
    def check(texts: list[str]) -> None:
        assert_same_ids(mine, theirs, texts)

    check()


@pytest.mark.parametrize(
    "name",
    ["bert-base-cased", "bert-base-chinese", "bert-base-multilingual-cased-rebuilt", "bert-base-uncased"],
)
def test_every_character_has_the_librarys_ids(name: str) -> None:
    """Words are normalized here, character by character, as the library does it."""
    characters = [chr(code) for code in range(0x11000) if not 0xD800 <= code < 0xE000]
    assert_same_ids(ours(name), library(name), [f"x{c}y {c} Z{c}" for c in characters])


@pytest.mark.parametrize("rule", ["bert", "single space", "white space"])
def test_added_tokens_are_found_inside_words(rule: str) -> None:
    name = {"bert": "bert-base-uncased", "single space": "gpt2", "white space": "clip"}[rule]
    theirs = Tokenizer.from_str(library(name).to_str())
    theirs.add_tokens([AddedToken("zap", normalized=False), AddedToken("#no", normalized=False)])
    found = find_split_rule(theirs.to_str())
    assert isinstance(found, SplitRule)
    assert found.name == rule
    texts = ["xzapy", "zap zap", "a zapzap#no.b", "plain text", "Größe zap é#no", "", "#n o"]
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)


@pytest.mark.parametrize("added", ["中国", "é", "\x01x", "[é]", "[a\u200bb]", "'s", "##a"])
@pytest.mark.parametrize("normalized", [True, False])
def test_added_tokens_of_any_characters_are_found(added: str, normalized: bool) -> None:
    theirs = Tokenizer.from_str(library("bert-base-chinese").to_str())
    theirs.add_tokens([AddedToken(added, normalized=normalized)])
    texts = ["我爱中国人 é中国", f"x{added}y", f"a {added} b", "x[e]y [ab] [É]", "it's ##a e\u0301"]
    mine = make_tokenizer(theirs.to_str(), None)
    assert_same_ids(mine, theirs, texts)
    assert_same_ids(mine, theirs, texts[::-1])


@pytest.mark.parametrize("content", ["", "_", " ", "▁", "  "])
@pytest.mark.parametrize("pattern", [r"\s+", " {2,}"])
@pytest.mark.parametrize("kind", ["white space", "metaspace", "both"])
def test_replaced_white_space_ends_words_only_where_it_does(kind: str, pattern: str, content: str) -> None:
    words = {
        word: number for number, word in enumerate(["?", "a", "b", "ab", "▁a", "▁b", "▁ab", "a b", "a_b"])
    }
    theirs = Tokenizer(models.WordLevel(words, unk_token="?"))
    theirs.normalizer = normalizers.Replace(Regex(pattern), content)
    metaspace, white = pre_tokenizers.Metaspace(), pre_tokenizers.WhitespaceSplit()
    theirs.pre_tokenizer = {
        "white space": white,
        "metaspace": metaspace,
        "both": pre_tokenizers.Sequence([white, metaspace]),
    }[kind]
    texts = ["a b", "a  b", "a   b a", " a", "b ", "a \n b", "ab"]
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)


@pytest.mark.parametrize("limit", [1, 3, 8, 100, 20_000, 10**9, 2**63])
def test_any_limit_on_the_length_of_words_is_kept(limit: int) -> None:
    document = json.loads(library("bert-base-uncased").to_str())
    document["model"]["max_input_chars_per_word"] = limit
    theirs = Tokenizer.from_str(json.dumps(document))
    texts = ["a abc abcd internationalization é éàü éàüö 日本 " + "x" * 120, "ééééééééé " * 3]
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)


def test_unknown_tokens_are_counted_whatever_the_cache_holds() -> None:
    """T5 makes a known mark and an unknown token of a character that it doesn't know."""
    theirs = library("t5-small")
    mine = make_tokenizer(theirs.to_str(), theirs.token_to_id("<unk>"))
    texts = pa.array(["中", "a 中 b 中"], pa.large_string())
    assert [mine.tokenize(texts).unknown for _ in range(3)] == [3, 3, 3]


@pytest.mark.parametrize("limit", [None, 3])
@pytest.mark.parametrize("name", ["bert-base-uncased", "t5-small"])
def test_tokens_are_kept_and_counted_as_the_librarys_are(name: str, limit: int | None) -> None:
    """Scans that start again, an output that grows within a text, and segments for the library."""
    theirs = library(name)
    unknown = theirs.token_to_id("[UNK]") or theirs.token_to_id("<unk>")
    texts = ["ሴ a ሴ", "ሴ b [UNK] ሴ c[UNK]ሴ", "ሴ some words " * 23_000, "a\u0301\u0323 ሴ", "", "日本 <unk> ሴ"]
    texts += ["ሴ word " * 10_000 + "[UNK]ሴ", "x", "internationalization of ሴ words"]
    encoded = [encoding.ids for encoding in theirs.encode_batch_fast(texts, add_special_tokens=False)]
    known = [[token for token in ids if token != unknown] for ids in encoded]
    mine = make_tokenizer(theirs.to_str(), unknown, max_tokens=limit)
    for _ in ("cold", "warm"):
        tokens = mine.tokenize(pa.array(texts, pa.large_string()))
        got = [part.tolist() for part in np.split(tokens.ids, tokens.offsets[1:-1])]
        assert got == [ids[:limit] for ids in known]
        assert tokens.unknown == sum(map(len, encoded)) - sum(map(len, known))
        assert tokens.truncated == sum(limit is not None and len(ids) > limit for ids in known)


@pytest.mark.parametrize(
    "texts", [["é é", "{ " * 70_000], ["é", "{ { { " + " ".join(map(str, range(20_000)))]]
)
def test_unknown_tokens_are_counted_once_if_a_text_is_scanned_again(texts: list[str]) -> None:
    """After a text beyond ASCII, T5's texts are scanned by bytes until an array is full."""
    theirs = library("t5-small")
    unknown = theirs.token_to_id("<unk>")
    mine = make_tokenizer(theirs.to_str(), unknown)
    mine.tokenize(pa.array(["{"], pa.large_string()))
    encoded = theirs.encode_batch_fast(texts, add_special_tokens=False)
    tokens = mine.tokenize(pa.array(texts, pa.large_string()))
    assert tokens.unknown == sum(encoding.ids.count(unknown) for encoding in encoded)


@pytest.mark.parametrize("size", [1, 7, 63, 64, 65, 71, 72, 127, 128, 129, 1000])
@pytest.mark.parametrize("unit", ["a", "ab ", "a.", "é", "日", " ", "[", "internationalization "])
def test_texts_of_every_length_around_a_window_have_the_librarys_ids(unit: str, size: int) -> None:
    texts = [(unit * size)[:size], "x" + (unit * size)[:size], (unit * size)[:size] + "é"]
    assert_same_ids(ours("bert-base-uncased"), library("bert-base-uncased"), texts)


@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2", "t5-small", "xlm-roberta-base-rebuilt"])
def test_long_words_and_texts_take_time_in_proportion(name: str) -> None:
    """A word of a megabyte, and one of letters that are not ASCII."""
    assert_same_ids(ours(name), library(name), ["x" * 1_000_000, "é" * 300_000, "a b " * 200_000])


@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2", "t5-small", "ort-nmt"])
@pytest.mark.parametrize(
    "bad",
    [b"\xff", b"\xed\xa0\x80", b"\xc0\xaf", b"\xf4\x90\x80\x80", b"\xe4\xb8", b"\x80", b"\xc3 \xa9"],
    ids=["no lead", "lone surrogate", "overlong", "beyond Unicode", "cut off", "no start", "interrupted"],
)
def test_text_that_is_not_utf8_is_refused_whatever_stands_around_it(name: str, bad: bytes) -> None:
    for text in (bad, b"secret " + bad, "é日".encode() + bad, bad + b" [UNK] secret", b"a" * 70 + bad):
        texts = pa.array([b"fine", text, b"fine"], pa.large_binary()).view(pa.large_string())
        with pytest.raises(DataError, match=r"^a text is not valid UTF-8") as caught:
            ours(name).tokenize(texts)
        assert caught.value.__cause__ is None
    assert_same_ids(ours(name), library(name), ["and the cache is good for the next text"])


@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2", "xlm-roberta-base-rebuilt"])
@pytest.mark.parametrize(
    "entries", [0, 10, 1000], ids=["always full", "nearly always full", "sometimes full"]
)
def test_a_full_cache_restarts_and_gives_the_same_ids(name: str, entries: int, shared_data: Path) -> None:
    texts = pq.read_table(shared_data / "texts" / "multilingual.parquet")["text"].to_pylist()[::600]
    theirs = library(name)
    rule = find_split_rule(theirs.to_str())
    assert isinstance(rule, SplitRule)
    cache = TokenCache(theirs, rule, None, most_entries=entries, most_key_bytes=16 * entries)
    mine, most_new = CachedTokenizer(cache), 0
    for start in range(0, len(texts), 50):
        assert_same_ids(mine, theirs, texts[start : start + 50])
        fresh = TokenCache(theirs, rule, None)
        assert_same_ids(CachedTokenizer(fresh), theirs, texts[start : start + 50])
        most_new = max(most_new, len(fresh))
        assert len(fresh) <= len(cache) <= entries + most_new


@pytest.mark.parametrize("name", FAMILIES)
def test_real_multilingual_text_has_the_librarys_ids(name: str, shared_data: Path) -> None:
    texts = pq.read_table(shared_data / "texts" / "multilingual.parquet")["text"].to_pylist()
    assert_same_ids(ours(name), library(name), texts[::25])


@pytest.mark.parametrize("part_bytes", [1, 3, 7, 100, 10**6])
def test_slices_hold_all_texts_in_order(part_bytes: int) -> None:
    texts = pa.array(["a b", None, "", "c d e f g h", "é", None], pa.large_string())
    parts = [part for _, part in slices(texts, most_bytes=part_bytes)]
    assert pa.chunked_array(parts).to_pylist() == texts.to_pylist()
    assert [
        part for part in parts if len(part) > 1 and pc.sum(pc.binary_length(part)).as_py() > part_bytes
    ] == []
    assert list(slices(texts.slice(0, 0), most_bytes=part_bytes)) == []
