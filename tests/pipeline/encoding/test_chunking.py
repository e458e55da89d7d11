"""Chunks of long texts: where they begin and end, how long they are, and that they are the text's own."""

from __future__ import annotations

import copy
import pickle
import re
import sys
from functools import cache
from itertools import pairwise

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from tokenizers import Tokenizer

from lakevec.pipeline.encoding import chunking
from lakevec.pipeline.encoding.chunk_plan import ChunkPlan, TextWords
from lakevec.pipeline.encoding.chunking import Chunker, Chunks
from lakevec.pipeline.encoding.encoder import Encoder, TableRows
from lakevec.pipeline.encoding.options import ChunkOptions, EncodeOptions
from lakevec.pipeline.encoding.words import SPACE, find_words, may_divide
from lakevec.pipeline.errors import DataError, SettingsError, SetupError
from lakevec.pipeline.model.table import StaticTable
from lakevec.pipeline.model.word_tokenizer import make_word_tokenizer
from tests.support.chunk_texts import PIECES
from tests.support.tokenizers import read_shared

# A tokenizer of each family, and of each model of words.
NAMES = [
    "bert-base-uncased",
    "bert-base-multilingual-cased-rebuilt",
    "gpt2",
    "ModernBERT-base",
    "clip",
    "multilingual-e5-small-rebuilt",
    "t5-small",
    "skeletoken-small-bpe",
    "bpemb-spm/ja.wiki.bpe.vs5000.model",
]
# White space at which a text may be cut; a no-break space joins words.
BLANK = r"[ \t-\r\x85\u1680\u2000-\u2006\u2008-\u200a\u2028\u2029\u205f\u3000]"
texts_of_pieces = st.lists(
    st.sampled_from(PIECES) | st.characters(exclude_categories=["Cs"]), max_size=60
).map("".join)


@cache
def encoder_of(name: str) -> tuple[Encoder, Tokenizer]:
    tokenizer = Tokenizer.from_str(read_shared(name))
    rows = np.random.default_rng(0).normal(size=(tokenizer.get_vocab_size() + 1, 4)).astype(np.float32)
    return Encoder(TableRows(rows, read_shared(name), normalize=True, unknown_token_id=None)), tokenizer


def word_encoder() -> Encoder:
    words = make_word_tokenizer(["one", "two"], lowercase=True).to_str()
    return Encoder(StaticTable(np.eye(3, 2, dtype=np.float32), words, normalize=False))


def spans(chunks: Chunks) -> list[list[tuple[int, int]]]:
    """Return the spans of each text's chunks."""
    found: dict[int, list[tuple[int, int]]] = {}
    columns = (chunks.parents, chunks.index, chunks.start, chunks.end)
    for parent, index, start, end in zip(*(column.to_pylist() for column in columns), strict=True):
        assert index == len(found.setdefault(parent, []))
        found[parent].append((start, end))
    assert list(found) == sorted(found)
    return list(found.values())


def cut(text: str, tokens: int, overlap: int = 0) -> list[str]:
    chunks = Chunker(word_encoder(), ChunkOptions(tokens, overlap)).split(pa.array([text]))
    assert chunks.texts.to_pylist() == [text[start:end] for start, end in spans(chunks)[0]]
    return chunks.texts.to_pylist()


def may_cut(text: str, place: int) -> bool:
    """Whether no word is at both sides of a place."""
    if place in (0, len(text)) or re.search(BLANK, text[place - 1 : place + 1]):
        return True
    data = np.frombuffer(text.encode(), dtype=np.uint8)
    return bool(may_divide(data, np.array([len(text[:place].encode())]))[0])


def check(text: str, chunks: list[tuple[int, int]], options: ChunkOptions, tokenizer: Tokenizer) -> None:
    """Check what every split promises."""

    def count(start: int, end: int) -> int:
        return len(tokenizer.encode(text[start:end], add_special_tokens=False).ids)

    assert re.fullmatch(f"{BLANK}*", text[: chunks[0][0]])
    assert re.fullmatch(f"{BLANK}*", text[chunks[-1][1] :])
    for start, end in chunks:
        assert may_cut(text, start)
        assert may_cut(text, end)
        assert count(start, end) <= options.tokens or not re.search(BLANK, text[start:end])
    for (start, end), (later_start, later_end) in pairwise(chunks):
        assert start < later_start
        assert end < later_end
        assert re.fullmatch(f"{BLANK}*", text[end:later_start])
        assert later_start >= end or options.overlap
    if count(0, len(text)) <= options.tokens:
        assert chunks == [(0, len(text))]


@pytest.mark.parametrize("name", NAMES)
@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(
    texts=st.lists(texts_of_pieces, max_size=6),
    tokens=st.sampled_from([1, 4, 16, 40]),
    share=st.sampled_from([0, 2, 4]),
)
def test_chunks_keep_every_promise(name: str, texts: list[str], tokens: int, share: int) -> None:
    encoder, tokenizer = encoder_of(name)
    options = ChunkOptions(tokens, tokens // share if share else 0)
    chunks = Chunker(encoder, options).split(pa.array([*texts, None], pa.string()))
    *found, last = spans(chunks)
    assert last == [(None, None)]
    assert len(found) == len(texts)
    for text, own in zip(texts, found, strict=True):
        check(text, own, options, tokenizer)
    # A chunk has the bits of its text, embedded alone.
    cuts = [text[start:end] for text, own in zip(texts, found, strict=True) for start, end in own]
    assert chunks.texts.to_pylist() == [*cuts, None]
    alone = [encoder.encode(pa.array([text])).vectors for text in cuts]
    assert encoder.encode(chunks.texts).vectors[:-1].tobytes() == b"".join(one.tobytes() for one in alone)


def test_paragraphs_come_before_sentences_and_sentences_before_white_space() -> None:
    # "x" is no known token, so it doesn't count.
    assert cut("One two x. One\n\ntwo. One two", 4) == ["One two x. One", "two. One two"]
    assert cut("One two x. One two one two", 4) == ["One two x.", "One two one two"]
    assert cut("One two one\r\nx two one one two", 4) == ["One two one", "x two one one two"]
    assert cut("One two\u00a0one two one", 2) == ["One", "two\u00a0one", "two one"]
    assert cut("One two e.g. one two. One", 3) == ["One two e.g. one", "two. One"]
    # A line break alone is white space in a sentence.
    assert cut("One two\none. Two one", 4) == ["One two\none.", "Two one"]


def test_scripts_without_spaces_are_cut_between_sentences_and_words() -> None:
    encoder, _ = encoder_of("bert-base-multilingual-cased-rebuilt")
    thai = ["ภาษา", "ไทย", "เป็น", "ภาษา", "ที่", "มี", "ระดับ", "เสียง"]
    url = "https://example.com/?Q=" + "ab" * 40
    chunks = Chunker(encoder, ChunkOptions(9)).split(
        pa.array(["你好。我们喜欢北京天安门", "".join(thai), url])
    )
    own: dict[int, list[str]] = {0: [], 1: [], 2: []}
    for parent, text in zip(chunks.parents.to_pylist(), chunks.texts.to_pylist(), strict=True):
        own[parent].append(text)
    assert own[0] == ["你好。", "我们喜欢北京天安门"]
    assert own[2] == [url]
    ends = np.cumsum([len(word) for word in thai]).tolist()
    assert set(np.cumsum([len(text) for text in own[1]]).tolist()) < set(ends)
    assert "".join(own[1]) == "".join(thai)


def test_overlap_begins_at_a_sentence_if_one_fits() -> None:
    text = "One two one. Two one. One two one two two."
    assert cut(text, 6, 3) == ["One two one. Two one.", "Two one. One two one two", "two one two two."]
    assert cut("one two two one two one two", 4, 2) == ["one two two one", "two one two one", "two one two"]


def test_long_text_is_split_like_a_short_one(monkeypatch: pytest.MonkeyPatch) -> None:
    texts = pa.array([("One two, ü one. Two one " * 3 + "one?\n\n") * 60, " " * 3000])
    chunker = Chunker(word_encoder(), ChunkOptions(7, 2))
    whole = spans(chunker.split(texts))
    monkeypatch.setattr(chunking, "_BLOCK_BYTES", 300)
    assert len(list(chunker.split_parts(texts))) > 10
    # White space that is too long to be looked at whole is left out.
    assert spans(chunker.split(texts)) == [whole[0], [(0, 0)]]
    # A word may be longer than a block.
    long = "one " + "x" * 5000 + "one two one"
    assert spans(Chunker(word_encoder(), ChunkOptions(2)).split(pa.array([long]))) == [
        [(0, 5011), (5012, 5015)]
    ]


@pytest.mark.parametrize(
    "word",
    ["ภาษาไทยเป็นภาษาที่มีระดับเสียง", "我们喜欢北京天安门广场上的人", "日本語の文章をたくさん書く"],
    ids=["th", "zh", "ja"],
)
def test_every_character_of_a_long_stretch_is_in_a_chunk(word: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(chunking, "_BLOCK_BYTES", 300)
    encoder, _ = encoder_of("bert-base-multilingual-cased-rebuilt")
    for text in (word * 60, f"{word * 7} {word * 50} one\n\n{word * 30}。"):
        for tokens, overlap in [(9, 4), (16, 8), (16, 1), (40, 20), (40, 0)]:
            chunks = Chunker(encoder, ChunkOptions(tokens, overlap)).split(pa.array([text]))
            [own] = spans(chunks)
            is_in = np.zeros(len(text), dtype=bool)
            for start, end in own:
                is_in[start:end] = True
            assert "".join(np.array([*text])[~is_in]).strip() == ""
            assert all(one < other for one, other in pairwise(own))


def test_text_of_ideographic_spaces_alone_has_one_empty_chunk() -> None:
    encoder, _ = encoder_of("gpt2")
    chunks = Chunker(encoder, ChunkOptions(1)).split(pa.array(["\u3000" * 9]))
    assert chunks.texts.to_pylist() == [""]
    assert spans(chunks) == [[(0, 0)]]
    # It makes no script without spaces of the word before it.
    words = find_words(np.frombuffer("one\u3000京".encode(), dtype=np.uint8), np.array([0, 9]))
    assert words.is_unspaced.tolist() == [False, True]


def test_long_text_of_few_known_tokens_is_one_chunk() -> None:
    for text in ["  one " + "nowhere " * 50, "  one " + "ภาษาไทย " * 20]:
        assert cut(text, 1) == [text]
        assert len(cut(text + "two", 1)) == 2


def test_null_with_bytes_beneath_is_one_null_chunk() -> None:
    text = "one " * 50
    texts = pa.array([text, text])
    _, offsets, data = texts.buffers()
    texts = pa.StringArray.from_buffers(2, offsets, data, pa.py_buffer(b"\x02"))
    chunks = Chunker(word_encoder(), ChunkOptions(25)).split(texts)
    assert chunks.parents.to_pylist() == [0, 1, 1]
    assert chunks.texts.to_pylist()[0] is None


def test_chunks_before_one_that_is_too_long_are_chosen_once(monkeypatch: pytest.MonkeyPatch) -> None:
    chosen: list[int] = []
    choose = ChunkPlan._choose
    monkeypatch.setattr(
        ChunkPlan, "_choose", lambda plan, done, most: chosen.append(done) or choose(plan, done, most)
    )
    starts = np.arange(1000) * 4
    levels = np.full(1000, SPACE)
    words = TextWords(starts, starts + 3, levels, [1] * 1000, list(range(1001)))
    plan = ChunkPlan(words, ChunkOptions(10))
    new = plan.unchecked()
    plan.check(new, [0] * (len(new) - 2) + [3, 0])
    assert len(chosen) < len(new) + 5
    assert plan.chunks[:98] == new[:98]
    assert plan.chunks[98:] == [(980, 987), (987, 997), (997, 1000)]


def test_pickled_chunker_splits_in_the_same_way() -> None:
    chunker = Chunker(word_encoder(), ChunkOptions(3, 1))
    texts = pa.array(["One two one. Two one two"])
    for other in (pickle.loads(pickle.dumps(chunker)), copy.copy(chunker)):
        assert spans(other.split(texts)) == spans(chunker.split(texts))


def test_batches_are_bounded_by_the_rows_that_they_repeat() -> None:
    texts = ["one " * 400, *["one"] * 500]
    chunks = Chunker(word_encoder(), ChunkOptions(2)).split(pa.array(texts))
    # The average row is small, but the long text's row is a megabyte.
    rows = pa.record_batch({"id": range(501), "notes": ["x" * (1 << 20), *["x"] * 500]})
    sizes, parents, indices = [], [], []
    for some, repeated in chunks.batches(rows):
        sizes.append(repeated.nbytes)
        parents += some.parents.to_pylist()
        indices += some.index.to_pylist()
        assert repeated["id"] == some.parents
    assert max(sizes) < 33 << 20
    assert (parents, indices) == (chunks.parents.to_pylist(), chunks.index.to_pylist())
    assert len(sizes) < 20


def test_what_can_not_be_split_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    words = make_word_tokenizer(["one"], lowercase=True).to_str()
    table = StaticTable(np.eye(2, dtype=np.float32), words, normalize=False)
    with pytest.raises(SettingsError, match="max_tokens can't be used with chunks"):
        Chunker(Encoder(table, EncodeOptions(max_tokens=3)), ChunkOptions(3))
    with pytest.raises(SettingsError, match="max_tokens: got 0; expected 1 or more"):
        EncodeOptions(max_tokens=0)
    with pytest.raises(SettingsError, match="chunk overlap: got 2; expected 0 to 1"):
        ChunkOptions(3, 2)
    for start in (b"one ", b"one " * 50):
        invalid = pa.array([start + b"\xff two"], pa.binary()).view(pa.string())
        with pytest.raises(DataError, match="not valid UTF-8"):
            Chunker(word_encoder(), ChunkOptions(1)).split(invalid)
    monkeypatch.setitem(sys.modules, "icu4py.breakers", None)
    with pytest.raises(SetupError, match=r"needs icu4py.*pip install 'lakevec\[chunk\]'"):
        Chunker(word_encoder(), ChunkOptions(3))
