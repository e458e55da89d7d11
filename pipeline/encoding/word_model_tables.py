"""Tables for byte-level BPE and Unigram, made from a tokenizer whose segments the kernels can split."""

from __future__ import annotations

import json
import unicodedata
from typing import Any

import numpy as np
from tokenizers import Tokenizer, pre_tokenizers

from lakevec.pipeline.encoding.kernels import byte_pairs, unigram
from lakevec.pipeline.encoding.kernels.byte_pairs import (
    BLANK,
    FOR_LIBRARY,
    LETTER,
    NUMBER,
    SIGN,
    UNSEEN,
    BytePairs,
    fill_pairs,
)
from lakevec.pipeline.encoding.kernels.unicode_words import WORD_ROOM
from lakevec.pipeline.encoding.kernels.unigram import Lattice, fill_trie
from lakevec.pipeline.encoding.kernels.word_models import Letters, WordModels
from lakevec.pipeline.encoding.split_rules import SplitRule

_CHARACTERS = 1 << 16
_BLOCK = 256
# Bytes of the longest normalized word.
_LONGEST_WORD = unigram.MOST_BYTES + WORD_ROOM
_MARK = "▁"
# SentencePiece's penalty of an unknown character, relative to the lowest score.
_UNKNOWN_PENALTY = 10.0
# Characters that Unicode joins with the one before or after, though their categories don't say so (UAX 29):
# Thai and Lao vowels, a Malayalam letter, half-width voice marks, and half-width Korean letters.
_JOINING = frozenset("\u0e33\u0eb3\u0d4e\uff9e\uff9f") | {chr(code) for code in range(0xFFA0, 0xFFDD)}
# Korean letters that join into syllables.
_JAMO = frozenset(
    chr(code)
    for first, last in ((0x1100, 0x1200), (0xA960, 0xA980), (0xD7B0, 0xD800))
    for code in range(first, last)
)
# A text with one of these signs is more often an added token than other text.
_SIGNS = "<[|{}]>▁"


def make_models(tokenizer: Tokenizer, rule: SplitRule, unknown_token_id: int | None) -> WordModels | None:
    """Return a tokenizer's model, without characters; None if the library tokenizes all its segments."""
    document = json.loads(tokenizer.to_str())
    signs = find_signs(document)
    # BERT's words are split in the scan, or have something unusual.
    if signs is None or rule.name == "bert":
        return None
    pairs, lattice = make_pairs(document), make_lattice(document)
    if len(pairs.slots) == len(lattice.slots) == 0:
        return None
    letters = make_letters(tokenizer, signs, is_unigram=len(lattice.slots) > 0)
    return WordModels(pairs, lattice, letters, -1 if unknown_token_id is None else unknown_token_id)


def make_pairs(document: dict[str, Any]) -> BytePairs:
    """Return the merges of a byte-level BPE; without slots if the kernel can't tokenize with them."""
    model = document["model"]
    merges: list[tuple[str, str]] = []
    byte_ids = np.zeros(256, dtype=np.int32)
    if _is_byte_level(document):
        vocabulary: dict[str, int] = model["vocab"]
        merges = [
            (left, right)
            for left, right in (
                merge.split(" ") if isinstance(merge, str) else merge for merge in model["merges"]
            )
        ]
        byte_ids[:] = [vocabulary[sign] for sign in _byte_signs()]
    ids = [(vocabulary[left], vocabulary[right], vocabulary[left + right]) for left, right in merges]
    parts = np.array(ids, dtype=np.uint64).reshape(-1, 3)
    pairs = BytePairs(
        slots=np.full(1 << (2 * len(ids) - 1).bit_length() if ids else 0, -1, dtype=np.int32),
        pairs=parts[:, 0] << np.uint64(32) | parts[:, 1],
        merged=parts[:, 2].astype(np.int32),
        byte_ids=byte_ids,
        symbols=np.empty(byte_pairs.MOST_BYTES, dtype=np.int32),
        ranks=np.empty(byte_pairs.MOST_BYTES, dtype=np.int32),
    )
    if ids:
        fill_pairs(pairs)
    return pairs


def _is_byte_level(document: dict[str, Any]) -> bool:
    """Return whether a tokenizer is a plain BPE of bytes with GPT-2's pattern."""
    model, splitter = document["model"], document.get("pre_tokenizer") or {}
    if "merges" not in model or splitter.get("type") != "ByteLevel" or not splitter.get("use_regex", True):
        return False
    vocabulary = model["vocab"]
    has_options = any(
        model.get(name)
        for name in ("continuing_subword_prefix", "end_of_word_suffix", "ignore_merges", "dropout")
    )
    is_distinct = len(set(vocabulary.values())) == len(vocabulary)
    return not has_options and is_distinct and all(sign in vocabulary for sign in _byte_signs())


def _byte_signs() -> list[str]:
    """Return the character that stands for each byte in a byte-level vocabulary."""
    plain = [*range(0x21, 0x7F), *range(0xA1, 0xAD), *range(0xAE, 0x100)]
    others = iter(range(0x100, 0x200))
    return [chr(byte) if byte in plain else chr(next(others)) for byte in range(256)]


def make_lattice(document: dict[str, Any]) -> Lattice:
    """Return the pieces of a Unigram model; without slots if the kernel can't tokenize with them."""
    model = document["model"]
    is_known = _is_unigram(document)
    vocabulary: list[tuple[str, float]] = model["vocab"] if is_known else []
    contents = [piece.encode() for piece, _ in vocabulary]
    scores = np.array([score for _, score in vocabulary], dtype=np.float64)
    room = sum(map(len, contents)) + 1
    places = _LONGEST_WORD + 1 if is_known else 0
    lattice = Lattice(
        slots=np.full(1 << (2 * room - 1).bit_length() if is_known else 0, -1, dtype=np.int32),
        parents=np.zeros(room, dtype=np.int32),
        letters=np.zeros(room, dtype=np.uint8),
        pieces=np.full(room, -1, dtype=np.int32),
        scores=scores,
        unknown=int(model["unk_id"]) if is_known else -1,
        unknown_score=float(scores.min() - _UNKNOWN_PENALTY) if is_known else 0.0,
        best=np.empty(places, dtype=np.float64),
        origins=np.empty(places, dtype=np.int32),
        chosen=np.empty(places, dtype=np.int32),
    )
    if not is_known:
        return lattice
    bounds = np.cumsum([0, *map(len, contents)], dtype=np.int64)
    nodes = fill_trie(np.frombuffer(b"".join(contents), dtype=np.uint8), bounds, lattice)
    few = {name: getattr(lattice, name)[:nodes].copy() for name in ("parents", "letters", "pieces")}
    return lattice._replace(**few)


def _is_unigram(document: dict[str, Any]) -> bool:
    """Return whether a tokenizer is a Unigram on words that begin with a mark."""
    model = document["model"]
    if model.get("unk_id") is None or not model.get("vocab") or model.get("byte_fallback"):
        return False
    if model.get("alpha") is not None or model.get("nbest_size") is not None:  # random splits
        return False
    pieces = [piece for piece, _ in model["vocab"]]
    # With scores this high, a run of unknown characters could be a piece.
    is_usual = min(score for _, score in model["vocab"]) < _UNKNOWN_PENALTY and len(set(pieces)) == len(
        pieces
    )
    splitter = document.get("pre_tokenizer") or {}
    parts = splitter.get("pretokenizers", [splitter])
    kinds = [part.get("type") for part in parts]
    has_mark = parts[-1].get("replacement", _MARK) == _MARK and parts[-1].get("split", True)
    return is_usual and has_mark and kinds in (["Metaspace"], ["WhitespaceSplit", "Metaspace"])


def make_letters(tokenizer: Tokenizer, signs: str, *, is_unigram: bool) -> Letters:
    """Return the table of characters, without characters; `add_block` adds those that occur.

    `signs` are those of `find_signs`.
    """
    two, joined = (_pieces(tokenizer, text) for text in ("0 0", "0  0"))
    letters = Letters(
        kinds=np.full(_CHARACTERS, UNSEEN, dtype=np.uint8),
        starts=np.zeros(_CHARACTERS, dtype=np.int32),
        ends=np.zeros(_CHARACTERS, dtype=np.int32),
        normal=np.frombuffer(b"", dtype=np.uint8),
        mark=np.frombuffer(_MARK.encode() if is_unigram else b" ", dtype=np.uint8),
        keeps_blanks=not is_unigram,
        takes_blanks=" " not in signs,
        joins_blanks=two == joined,
        marks_start=two[0] != "0",
        marks_words=two[1] != "0",
        signs=np.frombuffer(signs.replace(" ", "").encode() or b"\0", dtype=np.uint8),
        word=np.zeros(_LONGEST_WORD, dtype=np.uint8),
        word_kinds=np.zeros(_LONGEST_WORD, dtype=np.uint8),
    )
    letters.word.flags.writeable = letters.word_kinds.flags.writeable = False
    return letters


def _normalize(tokenizer: Tokenizer, text: str) -> str:
    return tokenizer.normalizer.normalize_str(text) if tokenizer.normalizer else text


def _pieces(tokenizer: Tokenizer, text: str) -> list[str]:
    """Return the words of a text, as the model sees them."""
    return [word for word, _ in tokenizer.pre_tokenizer.pre_tokenize_str(_normalize(tokenizer, text))]


def find_signs(document: dict[str, Any]) -> str | None:
    """Return characters of which every added token has one; None if there are no such characters.

    A segment without them holds no added token, so it has no need of the library. A space counts only behind
    the first character of a segment.
    """
    signs = set()
    for token in document.get("added_tokens") or []:
        content: str = token["content"]
        found = [sign for sign in content if not sign.isalnum()]
        if not found:
            return None
        if " " in content[1:]:
            signs.add(" ")
            continue
        if content[0] == " ":
            return None
        signs.add(next((sign for sign in found if sign in _SIGNS), found[0]))
    return "".join(sorted(signs))


def add_block(letters: Letters, tokenizer: Tokenizer, character: int) -> Letters:
    """Add a block of characters around a code point, as the tokenizer handles each alone."""
    first = character // _BLOCK * _BLOCK
    signs = frozenset(letters.signs.tobytes().decode())
    results = [
        "" if 0xD800 <= code < 0xE000 else _letters_of(chr(code), tokenizer, signs)
        for code in range(first, first + _BLOCK)
    ]
    if letters.keeps_blanks:
        kinds = _byte_level_kinds(tokenizer.pre_tokenizer, results)
    else:
        kinds = [
            LETTER if not result.isspace() else _blank_kind(chr(code), tokenizer, joins=letters.joins_blanks)
            for code, result in enumerate(results, start=first)
        ]
    normal = letters.normal.tobytes()
    for code, result, kind in zip(range(first, first + _BLOCK), results, kinds, strict=True):
        letters.kinds[code] = kind if result else FOR_LIBRARY
        letters.starts[code] = len(normal)
        normal += result.encode()
        letters.ends[code] = len(normal)
    return letters._replace(normal=np.frombuffer(normal, dtype=np.uint8))


def _letters_of(character: str, tokenizer: Tokenizer, signs: frozenset[str]) -> str:
    """Return a character's normalized letters; "" if they depend on others or on added tokens."""
    category = unicodedata.category(character)
    if character in signs or category in ("Cn", "Cs"):
        return ""
    if tokenizer.normalizer is None and isinstance(tokenizer.pre_tokenizer, pre_tokenizers.ByteLevel):
        return character
    is_joining = category[0] not in "LNPSZ" or character in _JOINING or character in _JAMO
    if is_joining and character not in "\t\n\r":
        return ""
    text = _normalize(tokenizer, f"0{character}0")
    result = text[1:-1]
    if not result or text[0] != "0" or text[-1] != "0" or unicodedata.category(result[0])[0] == "M":
        return ""
    is_syllable = "\uac00" <= character <= "\ud7a3"
    joins = not is_syllable and not _JAMO.isdisjoint(result)
    is_split = _MARK in result or (len(result) > 1 and any(map(str.isspace, result)))
    return "" if joins or is_split or not signs.isdisjoint(result) else result


def _blank_kind(character: str, tokenizer: Tokenizer, *, joins: bool) -> int:
    """Return `BLANK` if it splits words like a space, and a run of it does, too, if spaces join."""
    if _normalize(tokenizer, f"0{character}0") != "0 0":
        return FOR_LIBRARY
    like_one = _pieces(tokenizer, "0 0")
    runs = [f"0{character}0"] + [f"0{character * 2}0", f"0{character} 0"] * joins
    return BLANK if all(_pieces(tokenizer, run) == like_one for run in runs) else FOR_LIBRARY


def _byte_level_kinds(splitter: pre_tokenizers.PreTokenizer, results: list[str]) -> list[int]:
    """Return the kind of each character: the pattern keeps it in a row of letters, numbers or other signs."""
    kinds = [FOR_LIBRARY] * len(results)
    left = [index for index, result in enumerate(results) if len(result) == 1]
    # The library takes a millisecond for a block, and most characters are letters.
    for around, kind in (("a", LETTER), ("0", NUMBER), ("-", SIGN), ("", BLANK)):
        # In a run of white space, the last character is a word of its own; other signs stay together.
        signs = [results[index] for index in left]
        cells = [f"{around}{sign}{around}" if around else f"0{sign * 2}" for sign in signs]
        starts = {start for _, (start, _) in splitter.pre_tokenize_str("0".join(cells) + "0")}
        for place, index in enumerate(left):
            splits = 4 * place + 2 in starts, 4 * place + 1 in starts
            if all(splits) if kind == BLANK else not any(splits):
                kinds[index] = kind
        left = [index for index in left if kinds[index] == FOR_LIBRARY]
        if not left:
            break
    return kinds
