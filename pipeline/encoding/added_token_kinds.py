"""Added tokens that a split rule must look for: literals, which one segment holds, and phrases, which split.

The tokenizer finds added tokens before it splits words: in the raw text those that are not normalized, and
then the others in the normalized text between them. At each place it takes the longest one. If that must be a
single word and is none, it counts for nothing, but those that it overlaps are not found either.
"""

from __future__ import annotations

import json
from bisect import bisect_left
from collections.abc import Callable
from dataclasses import dataclass
from itertools import chain
from typing import Any

from tokenizers import Tokenizer

ASCII_PUNCTUATION = bytes(byte for byte in range(0x21, 0x7F) if not chr(byte).isalnum())

# Canonical decomposition turns other characters into these: U+037E into ";", U+226E into "<" and a mark. So
# an added token that begins with one of them may begin with another byte in a text.
_MADE_BY_DECOMPOSITION = b";`<>="


@dataclass(frozen=True)
class AddedTokenPattern:
    """An added token, which the tokenizer finds before it splits words.

    Parameters
    ----------
    content : bytes
        The token's text.
    normalized : bool
        Whether the tokenizer searches normalized text for it.
    """

    content: bytes
    normalized: bool


class NoRuleError(Exception):
    """Why a tokenizer has no split rule."""


def split_added_tokens(
    added: list[dict[str, Any]], normalizer: dict[str, Any] | None, *, finds_blanks_only: bool
) -> tuple[tuple[str, ...], bool, list[dict[str, Any]]]:
    """Tell phrases from other added tokens.

    Phrases are added tokens with white space and, without `finds_blanks_only`, normalized ones that no
    literal can stand for. If phrases must be single words, they include what one may hide that begins inside
    a word, where the scan looks for none.

    Returns
    -------
    phrases : tuple of str
        As the tokenizer searches for them.
    has_single_words : bool
        Whether phrases count only where no letter or digit touches them.
    others : list of dict
    """
    phrases: list[dict[str, Any]] = []
    others: list[dict[str, Any]] = []
    for token in added:
        is_phrase = any(map(str.isspace, token["content"].strip(" ")))
        if not finds_blanks_only and token["normalized"] and normalizer:
            is_phrase = is_phrase or not _is_plain(token["content"])
        (phrases if is_phrase else others).append(token)
    normalize = _read_normalizer(normalizer) if normalizer else str
    contents = [_name(token, normalize, is_raw=not normalizer) for token in phrases]
    has_single_words = _are_single_words(phrases, others)
    if phrases and has_single_words:
        # Raw tokens hide only each other.
        rivals = [token for token in others if token["normalized"] == phrases[0]["normalized"]]
        hidden = _find_hidden(contents, rivals, normalize)
        others = [token for token in others if token not in hidden]
        contents += [_name(token, normalize, is_raw=not normalizer) for token in hidden]
        has_single_words = _are_single_words(hidden, others)
    return tuple(contents), has_single_words, others


def _are_single_words(phrases: list[dict[str, Any]], others: list[dict[str, Any]]) -> bool:
    """Return whether phrases count only where no letter or digit touches them."""
    # The text is cut at raw tokens first, so a phrase may begin or end there.
    cuts_words = any(
        not token["normalized"]
        and not token["single_word"]
        and any(map(_is_letter, token["content"][:1] + token["content"][-1:]))
        for token in others
    )
    is_alike = len({token["normalized"] for token in phrases}) < 2
    return is_alike and not cuts_words and all(token["single_word"] for token in phrases)


def _find_hidden(
    phrases: list[str], rivals: list[dict[str, Any]], normalize: Callable[[str], str]
) -> list[dict[str, Any]]:
    """Return the added tokens that a phrase hides, if it is found inside a word and so counts for nothing."""
    tokens: dict[str, list[dict[str, Any]]] = {}
    for token in rivals:
        tokens.setdefault(normalize(token["content"]), []).append(token)
    contents = sorted(tokens)
    hidden: dict[int, dict[str, Any]] = {}
    for phrase in phrases:
        for start in range(len(phrase)):
            rest = phrase[start:]
            found = [rest[:end] for end in range(1, len(rest)) if rest[:end] in tokens]
            for content in contents[bisect_left(contents, rest) :]:
                if not content.startswith(rest):
                    break
                found.append(content)
            begins_word = start > 0 and not _is_letter(phrase[start - 1])
            for token in chain.from_iterable(tokens[content] for content in found):
                if begins_word or not token["single_word"]:
                    hidden[token["id"]] = token
    return list(hidden.values())


def _is_letter(character: str) -> bool:
    """Return whether the library takes a character for a part of a word; false if in doubt."""
    return character.isalpha() or character.isdecimal() or character == "_"


def _name(token: dict[str, Any], normalize: Callable[[str], str], *, is_raw: bool) -> str:
    """Return the text of a phrase that the tokenizer searches for; refuse what mined words never are."""
    if token["lstrip"] or token["rstrip"] or not (token["normalized"] or is_raw):
        raise NoRuleError("an added token holds white space, and takes more or is not normalized")
    content = normalize(token["content"])
    if not content or "\0" in content or content != content.strip():
        raise NoRuleError("an added token begins or ends with white space")
    return content


def refuse_white_space(added: list[dict[str, Any]], *, drops_spaces: bool = False) -> None:
    """Refuse added tokens with white space, which could span a split."""
    for token in added:
        content: str = token["content"]
        # ModernBERT has tokens of 2 to 24 spaces. Rules that keep spaces never split a run of them.
        run_of_spaces = len(content) > 1 and not content.strip(" ") and not drops_spaces
        if not content or (any(map(str.isspace, content)) and not run_of_spaces):
            raise NoRuleError("an added token holds white space")


def make_literals(added: list[dict[str, Any]], *, is_normalized: bool) -> tuple[AddedTokenPattern, ...]:
    """Prepare added tokens for a bytewise search; refuse those that normalization may change."""
    refuse_white_space(added, drops_spaces=True)
    literals = []
    for token in added:
        literal = AddedTokenPattern(token["content"].encode(), bool(token["normalized"] and is_normalized))
        # The library normalizes the token before it searches for it; in ASCII that changes only case.
        if literal.normalized and not _is_plain(token["content"]):
            raise NoRuleError("an added token is searched for in normalized text")
        literals.append(literal)
    return tuple(literals)


def _is_plain(content: str) -> bool:
    """Return whether a bytewise search finds a normalized added token."""
    first = content[:1].encode()
    is_sign = first in ASCII_PUNCTUATION and first not in _MADE_BY_DECOMPOSITION
    return is_sign and content.isascii() and content.isprintable()


def _read_normalizer(normalizer: dict[str, Any]) -> Callable[[str], str]:
    document = {"model": {"type": "WordLevel", "vocab": {}, "unk_token": ""}, "normalizer": normalizer}
    read = Tokenizer.from_str(json.dumps({"version": "1.0", "added_tokens": [], **document})).normalizer
    normalize: Callable[[str], str] = read.normalize_str
    return normalize
