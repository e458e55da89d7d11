"""Added tokens with blanks or punctuation, as mined vocabularies bring them: found by the library's rules."""

from __future__ import annotations

import json

import pyarrow as pa
import pytest
from hypothesis import HealthCheck, example, given, settings
from hypothesis import strategies as st
from tokenizers import AddedToken, Tokenizer, models, normalizers, pre_tokenizers

from lakevec.pipeline.encoding.split_rules import NoSplitRule, SplitRule, find_split_rule
from lakevec.pipeline.encoding.token_cache import TokenCache
from lakevec.pipeline.encoding.tokenization import make_tokenizer
from tests.pipeline.encoding.test_tokenization import PIECES, assert_same_ids, library

# They overlap, begin alike, hold each other, and hold letters that normalizers change.
PHRASES = [
    *[
        "new york",
        "new york city",
        "york city",
        "art of",
        "of war",
        "war of art",
        "city of",
        "a b c",
        "state of",
    ],
    *["são paulo", "Élan vital", "fin de", "мир и", "Новый мир"],
]
SIGNED = ["state-of-the-art", "don't", "c++", "a-b", "-of", "art-", "of-the"]
# Those that begin with an ASCII letter need no search letter by letter.
SIMPLE = [phrase for phrase in [*PHRASES, *SIGNED] if phrase.isascii() and phrase[0].isalnum()]
SIMPLE += ["new 가-x"]
WORDS = sorted(
    {word for phrase in [*PHRASES, *SIGNED] for word in [phrase, *phrase.split(" "), *phrase.split("-")]}
)
GLUE = [
    *" \t\n-,.x'_([",
    "[MASK]",
    " [mask] ",
    " ",
    " ",
    " ",
    "",
    "  ",
    "\u00a0",
    "\u3000",
    " \u3000",
    "\u3000 ",
    "\n\u00a0",
    "\u0301",
    "\u0327",
    "\u200b",
    "\x01",
    "\0",
    "é",
    "İ",
]
texts_of_phrases = st.lists(
    st.tuples(st.sampled_from(WORDS + [word.upper() for word in WORDS]), st.sampled_from(GLUE + PIECES)),
    max_size=16,
).map(lambda parts: "".join(word + glue for word, glue in parts))

NAMES = ["bert-base-uncased", "bert-base-cased", "gpt2", "t5-small", "multilingual-e5-small-rebuilt", "clip"]


def add_phrases(name: str, phrases: list[str], **flags: bool) -> Tokenizer:
    tokenizer = Tokenizer.from_str(library(name).to_str())
    tokenizer.add_tokens([AddedToken(phrase, **flags) for phrase in phrases])
    return tokenizer


def rule_of(tokenizer: Tokenizer) -> SplitRule:
    rule = find_split_rule(tokenizer.to_str())
    assert isinstance(rule, SplitRule)
    return rule


@pytest.mark.parametrize("name", [*NAMES, "roberta-base", "glove50-4k", "xlm-roberta-base-rebuilt"])
@pytest.mark.parametrize(
    ("phrases", "single_word"),
    [(PHRASES + SIGNED, True), (PHRASES + SIGNED, False), (SIMPLE, True)],
    ids=["whole words", "anywhere", "simple"],
)
def test_phrases_have_the_librarys_ids(name: str, phrases: list[str], single_word: bool) -> None:
    theirs = add_phrases(name, phrases, single_word=single_word, normalized=True)
    assert set(rule_of(theirs).phrases) >= {"new york", "war of art"}
    mine = make_tokenizer(theirs.to_str(), None)

    @settings(max_examples=20, deadline=None, suppress_health_check=list(HealthCheck))
    @given(st.lists(texts_of_phrases, min_size=1, max_size=10))
    @example(
        [
            "start of war",
            "renew york city",
            "start of war of art of war",
            "new york cityx",
            "new  york",
            "New\nYork",
        ]
    )
    @example(
        [
            "-art of_war",
            "(art of war)",
            "art of [MASK]art of",
            "warart of war",
            "city of-the",
            "x" * 59 + " new 가-x",
        ]
    )
    @example(
        ["x " * 40 + "art of", "a" * 62 + " new york", "é" * 30 + " new yörk", "new york", "in new york."]
    )
    def check(texts: list[str]) -> None:
        assert_same_ids(mine, theirs, texts)

    check()


def test_phrases_of_real_text_have_the_librarys_ids(general_texts: list[str]) -> None:
    words = [text.split() for text in general_texts]
    phrases = sorted({" ".join(text[2:4]).lower() for text in words if len(text) > 3})[::20]
    theirs = add_phrases("bert-base-uncased", phrases, single_word=True, normalized=True)
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, general_texts[::2])


# Texts where an added token counts for nothing, but hides another one.
HIDDEN = {
    # "on a" hides "as the", so that "s the" is the next one found, and all before a sign that is not ASCII.
    "around a sign": (
        ["on a", "as the", "s the", "a girl"],
        ["on as the late night talk show some time a girl back to nudity in vi\u201d"],
    ),
    # A window of the scan begins inside of "this", but no word does.
    "in a window": (
        ["of this", "is a", "a b"],
        ["x" * length + " y" * 10 + " xof this a b" + " c" * 40 + " é" for length in range(30, 50)],
    ),
    "a word": (
        ["on kubernetes", "kubernetes"],
        ["python kubernetes", "on kubernetes", "kubernetes", "on kubernetesx"],
    ),
    "signs": (["n c", "c++"], ["in c++", "n c++", "in c ++", "c++ in c"]),
    "a longer word": (["new york", "yorker"], ["renew yorker", "new yorker", "a yorker"]),
    "a shorter one": (["the new", "new", "ne"], ["bathe new", "bathe newer", "the newer ne"]),
}


@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2", "roberta-base", "t5-small", "glove50-4k"])
@pytest.mark.parametrize(("phrases", "texts"), HIDDEN.values(), ids=HIDDEN)
def test_a_phrase_inside_a_word_hides_what_it_overlaps(
    name: str, phrases: list[str], texts: list[str]
) -> None:
    theirs = add_phrases(name, phrases, single_word=True, normalized=True)
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)


def test_a_word_without_blanks_is_found_anywhere() -> None:
    theirs = add_phrases("bert-base-uncased", ["kubernetes"], single_word=True, normalized=True)
    texts = ["x " * count + "kubernetes" + end for count in range(40) for end in ("", " a", "x", "-")]
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)


@pytest.mark.parametrize(
    ("other", "texts"),
    [
        # The text is cut there, so phrases begin and end there.
        (AddedToken("xyz", normalized=False), ["xyznew york", "new yorkxyz", "xyz new york city"]),
        # It is found first, and "new york" is not.
        (AddedToken("-new", single_word=True), ["-new yorkx foo", "-new york", "- new york"]),
        (AddedToken("y", single_word=False), ["new yorkx foo", "renew york", "yorkx foo"]),
    ],
    ids=["raw", "with a sign", "anywhere"],
)
@pytest.mark.parametrize("name", ["bert-base-uncased", "gpt2"])
def test_phrases_beside_other_added_tokens(name: str, other: AddedToken, texts: list[str]) -> None:
    theirs = add_phrases(name, ["new york", "yorkx foo"], single_word=True, normalized=True)
    theirs.add_tokens([other])
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)


def test_a_phrase_with_a_control_character_is_no_phrase_with_a_space() -> None:
    theirs = add_phrases("bert-base-cased", ["york city"], single_word=True, normalized=True)
    theirs.normalizer = None  # BERT's turns a tab into a space
    theirs.add_tokens([AddedToken("new\tyork", single_word=True)])
    texts = ["new\tyork", "new york", "renew\tyork city", "in new\tyork city"]
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)


def test_text_beside_other_characters_costs_no_call_of_the_library() -> None:
    theirs = add_phrases("bert-base-uncased", ["new york"], single_word=True, normalized=True)
    cache = TokenCache(theirs, rule_of(theirs), None)
    texts = ["the café in new york", "new york, a \U0001f642 here", "\u201cso much\u201d of new york"]
    cache.tokenize(pa.array(texts, pa.large_string()))
    assert not [segment for segment in cache.segments(0) if b" " in segment]


def test_a_region_is_tokenized_once_and_its_words_stay_known() -> None:
    theirs = add_phrases("bert-base-uncased", ["new york"], single_word=True, normalized=True)
    mine = make_tokenizer(theirs.to_str(), None)
    text = "in new york the new art of york"
    ids = [mine.tokenize(pa.array([text], pa.large_string())).ids.tolist() for _ in range(2)]
    assert ids == [theirs.encode(text, add_special_tokens=False).ids] * 2
    assert ids[0][1] == theirs.token_to_id("new york")


@pytest.mark.parametrize(
    ("content", "flags", "reason"),
    [
        ("new york", {"lstrip": True}, "takes more"),
        ("new york", {"rstrip": True}, "takes more"),
        ("new york", {"normalized": False}, "is not normalized"),
        ("new york ", {}, "begins or ends with white space"),
    ],
)
def test_unusual_phrases_are_left_to_the_library(content: str, flags: dict[str, bool], reason: str) -> None:
    theirs = add_phrases("bert-base-uncased", [content], **flags)
    rule = find_split_rule(theirs.to_str())
    assert isinstance(rule, NoSplitRule)
    assert reason in rule.reason
    assert_same_ids(
        make_tokenizer(theirs.to_str(), None), theirs, ["in new york city", "new york  ", " new york"]
    )


def test_a_normalizer_that_changes_digits_finds_phrases_with_digits() -> None:
    theirs = Tokenizer(models.WordLevel({"?": 0, "new": 1}, unk_token="?"))
    theirs.normalizer = normalizers.Sequence([normalizers.Lowercase(), normalizers.NFKC()])
    theirs.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    theirs.add_tokens([AddedToken("level 1", single_word=True, normalized=True)])
    texts = ["Level 1 new", "LEVEL \uff11", "level \u2460 new", "new level 12", "\uff4cevel 1"]
    assert json.loads(theirs.to_str())["added_tokens"][0]["normalized"]
    assert_same_ids(make_tokenizer(theirs.to_str(), None), theirs, texts)
