"""Arrays of added tokens that may span a split, and of the characters that the normalizer makes of others."""

from __future__ import annotations

import re
import unicodedata
from bisect import bisect_left

import numpy as np
from tokenizers import Tokenizer

from lakevec.pipeline.encoding.kernels.added_tokens import (
    DROPPED,
    EXACT,
    FILTER_BITS,
    NEW,
    NOT_ASCII,
    OUTSIDE,
    RING,
    UNSURE,
    AddedTokens,
    fill_filters,
)
from lakevec.pipeline.encoding.split_rules import SplitRule

# Up to U+1FFFF: the planes beyond hold rare ideographs, but this one the emoji.
_CHARACTERS = 1 << 17
# Most texts have few characters of each block.
_BLOCK = 64
# A byte that no UTF-8 holds, and so no added token.
_NO_LETTER = 0xFE
# The scan reads longer words character by character, and takes control characters of texts for spaces.
_SIMPLE = re.compile(rb"[A-Za-z0-9]{1,60}(?![A-Za-z0-9])[^\x00-\x1f]*", re.DOTALL)
_LONE_WORD = re.compile(rb"[A-Za-z0-9]*")


def make_added_tokens(tokenizer: Tokenizer, rule: SplitRule) -> AddedTokens:
    """Return the arrays of a rule's phrases, without characters; `add_letters` adds those that occur."""
    contents = sorted({phrase.encode() for phrase in rule.phrases})
    gram_bytes = min([RING, *map(len, contents)])
    tails = [content[gram_bytes : gram_bytes + 8] for content in contents]
    folded = _fold_ascii(tokenizer)
    printable = bytes(range(0x21, 0x7F))
    is_same = [
        bool((folded[list(printable)] == list(wanted)).all()) for wanted in (printable, printable.lower())
    ]
    added = AddedTokens(
        letters=np.frombuffer(b"".join(contents) + bytes(8), dtype=np.uint8),
        bounds=np.cumsum([0, *map(len, contents)], dtype=np.int64),
        ids=_find_ids(tokenizer, [content.decode() for content in contents]),
        grams=_as_words([content[:gram_bytes] for content in contents]),
        gram_bytes=gram_bytes,
        tails=_as_words(tails),
        tail_masks=_as_words([b"\xff" * len(tail) for tail in tails]),
        longest=max(map(len, contents), default=0),
        is_simple=rule.has_single_words
        and any(is_same)
        and is_same[1] == rule.folds_case
        and all(map(_SIMPLE.fullmatch, contents)),
        has_lone_words=any(map(_LONE_WORD.fullmatch, contents)),
        lowers=is_same[1],
        slots=np.full(1 << (4 * len(contents)).bit_length(), -1, dtype=np.int32),
        filter=np.zeros(FILTER_BITS // 64, dtype=np.uint64),
        words=np.zeros(FILTER_BITS // 64, dtype=np.uint64),
        pairs=np.zeros(FILTER_BITS // 64, dtype=np.uint64),
        is_free=_find_free(contents),
        most_gaps=max((sum(map(str.isspace, phrase)) for phrase in rule.phrases), default=0),
        folded=folded,
        joins_white=rule.joins_white,
        kinds=np.full(_CHARACTERS, UNSURE if rule.is_opaque else NEW, dtype=np.uint8),
        starts=np.zeros(_CHARACTERS, dtype=np.int32),
        ends=np.zeros(_CHARACTERS, dtype=np.int32),
        normal=np.arange(256, dtype=np.uint8),
        ring=np.zeros(RING, dtype=np.int64),
    )
    fill_filters(added)
    return added


def _find_free(contents: list[bytes]) -> np.ndarray:
    """Return which added tokens can't begin at a word inside another one; `contents` are sorted."""
    numbers = {content: number for number, content in enumerate(contents)}
    is_free = np.ones(len(contents), dtype=np.bool_)
    for content in contents:
        for word in re.finditer(rb"[A-Za-z0-9]+", content):
            rest = content[word.start() :]
            if rest == content:
                continue
            # Those that go on behind the other one's end; no UTF-8 holds the byte.
            is_free[bisect_left(contents, rest) : bisect_left(contents, rest + b"\xff")] = False
            held = [numbers[rest[:end]] for end in range(1, len(rest)) if rest[:end] in numbers]
            is_free[held] = False
    return is_free


def _find_ids(tokenizer: Tokenizer, contents: list[str]) -> np.ndarray:
    """Return the ids of added tokens, which are named as they are searched for; -1 if several are alike."""
    ids: dict[str, list[int]] = {}
    for id_, token in tokenizer.get_added_tokens_decoder().items():
        content = token.content
        if token.normalized and tokenizer.normalizer is not None:
            content = tokenizer.normalizer.normalize_str(content)
        ids.setdefault(content, []).append(id_)
    found = [ids.get(content, []) for content in contents]
    return np.array([some[0] if len(some) == 1 else -1 for some in found], dtype=np.int32)


def _as_words(parts: list[bytes]) -> np.ndarray:
    """Pack strings of at most eight bytes, the first byte lowest."""
    return np.array([int.from_bytes(part, "little") for part in parts], dtype=np.uint64)


def _fold_ascii(tokenizer: Tokenizer) -> np.ndarray:
    """Return what the normalizer makes of each byte; of those beyond ASCII, that depends on others."""
    if tokenizer.normalizer is None:
        folded = np.arange(256, dtype=np.uint8)
        folded[DROPPED] = folded[NOT_ASCII] = _NO_LETTER
        return folded
    folded = np.full(256, NOT_ASCII, dtype=np.uint8)
    for code in range(128):
        letters = _normalize(tokenizer, chr(code))
        if letters == "":
            folded[code] = DROPPED
        elif letters == "\0":
            folded[code] = _NO_LETTER
        elif letters is not None and len(letters) == 1 and letters.isascii():
            folded[code] = ord(letters)
    return folded


def _normalize(tokenizer: Tokenizer, character: str) -> str | None:
    """Return what becomes of a character between two digits; None if they change, too."""
    text = tokenizer.normalizer.normalize_str(f"0{character}0")
    return text[1:-1] if len(text) > 1 and text[0] == text[-1] == "0" else None


def add_letters(added: AddedTokens, tokenizer: Tokenizer, character: int) -> AddedTokens:
    """Add a block of characters around a code point."""
    known = frozenset(added.letters[: added.bounds[-1]].tobytes().decode())
    first = character // _BLOCK * _BLOCK
    normal = bytearray(added.normal)
    for code in range(first, first + _BLOCK):
        kind, letters = UNSURE, ""
        if not 0xD800 <= code < 0xE000:
            kind, letters = _classify(chr(code), _normalize(tokenizer, chr(code)), known)
        if added.joins_white and code >= 0x80 and letters.isspace():
            kind = UNSURE  # it may join the blanks beside it
        added.kinds[code] = kind
        added.starts[code] = len(normal)
        normal += letters.encode()
        added.ends[code] = len(normal)
    return added._replace(normal=np.frombuffer(bytes(normal), dtype=np.uint8))


def _classify(character: str, letters: str | None, known: frozenset[str]) -> tuple[int, str]:
    """Return the kind of a character and its normalized letters; `known` are those of all added tokens."""
    # Python and the library may know different versions of Unicode.
    if letters is None or unicodedata.category(character) == "Cn":
        return UNSURE, ""
    # Marks and Korean letters may join the character before them, and marks change places.
    joins = unicodedata.category(character)[0] == "M" or "HANGUL J" in unicodedata.name(character, "")
    if joins and letters and not all(map(str.isascii, known)):
        return UNSURE, ""
    if known.isdisjoint(letters.strip(" ")) and letters.strip(" "):
        return OUTSIDE, ""
    return (EXACT, letters) if len(letters) <= 1 else (UNSURE, "")
