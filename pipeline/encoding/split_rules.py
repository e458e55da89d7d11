"""Split rules: where to split a text so that its segments, tokenized alone, have the token ids of the text.

A rule follows from the components in ``tokenizer.json``, never from a model's name. A tokenizer with an
unknown component or option has no rule, and gets whole texts. Tests compare each rule with whole-text
tokenization of hostile texts (``tests/pipeline/encoding/test_tokenization.py``).
"""

from __future__ import annotations

import json
from dataclasses import dataclass, replace
from typing import Any

from lakevec.pipeline.encoding.added_token_kinds import (
    ASCII_PUNCTUATION,
    AddedTokenPattern,
    NoRuleError,
    make_literals,
    refuse_white_space,
    split_added_tokens,
)
from lakevec.pipeline.model.word_tokenizer import WORD_PATTERN

_WHITE_SPACE = b" \t\r\n"

_GPT2 = r"'s|'t|'re|'ve|'m|'ll|'d| ?\p{L}+| ?\p{N}+| ?[^\s\p{L}\p{N}]+|\s+(?!\S)|\s+"
_LLAMA3 = (
    r"(?i:'s|'t|'re|'ve|'m|'ll|'d)|[^\r\n\p{L}\p{N}]?\p{L}+|\p{N}{1,3}"
    r"| ?[^\s\p{L}\p{N}]+[\r\n]*|\s*[\r\n]+|\s+(?!\S)|\s+"
)
_QWEN2 = _LLAMA3.replace(r"\p{N}{1,3}", r"\p{N}")
# In all of them, a match begins at a single space between two words, and no match ends after it.
_BYTE_LEVEL_PATTERNS = (_GPT2, _LLAMA3, _QWEN2)
_CLIP = r"<\|startoftext\|>|<\|endoftext\|>|'s|'t|'re|'ve|'m|'ll|'d|[\p{L}]+|[\p{N}]|[^\s\p{L}\p{N}]+"

# Normalizers that change single characters, or join a character with the marks after it. None joins anything
# with an ASCII space.
_CANONICAL = frozenset({"NFC", "NFD", "Lowercase", "StripAccents"})
# These also turn other characters into white space, or treat a space and the mark after it as one.
_COMPATIBLE = frozenset({"NFKC", "NFKD", "Nmt", "Precompiled"})
_SPACE_RUNS = {"Regex": " {2,}"}
_WHITE_RUNS = {"Regex": r"\s+"}
_DIGIT = {"Regex": r"\d"}


@dataclass(frozen=True)
class SplitRule:
    """Where to split a tokenizer's texts.

    Parameters
    ----------
    name : {"bert", "white space", "single space"}
        Family of the rule.
    reason : str
        The components that give the rule.
    separators : bytes
        Bytes between segments, which are dropped. Empty for "single space": segments begin with the space.
    isolated : bytes
        Bytes that are segments of their own.
    isolates_ideographs : bool
        Whether each CJK ideograph of U+3400 to U+4DBF and U+4E00 to U+9FFF is a segment of its own.
    needs_ascii_neighbours : bool
        Whether a split needs printable ASCII on both sides.
    folds_case : bool
        Whether the cache may lowercase ASCII letters of a segment.
    literals : tuple of AddedTokenPattern
        Added tokens that may span a split. With "bert", the whole word around one, from white space to white
        space, is one segment. With "single space", a segment with one includes the next word.
    phrases : tuple of str
        Other added tokens that may span a split, as the tokenizer searches for them: normalized, if it has a
        normalizer. The text around one, from split to split, is one segment.
    has_single_words : bool
        Whether phrases count only where no letter or digit touches them.
    joins_white : bool
        Whether the normalizer may shorten runs of white space.
    is_opaque : bool
        Whether the normalizer may change any characters beyond ASCII together.
    """

    name: str
    reason: str
    separators: bytes = b""
    isolated: bytes = b""
    isolates_ideographs: bool = False
    needs_ascii_neighbours: bool = False
    folds_case: bool = False
    literals: tuple[AddedTokenPattern, ...] = ()
    phrases: tuple[str, ...] = ()
    has_single_words: bool = False
    joins_white: bool = False
    is_opaque: bool = False

    @property
    def joins_words(self) -> bool:
        """Whether white space, or a word next to it, may change the tokens of a word."""
        return self.name == "single space" or self.needs_ascii_neighbours or bool(self.phrases)


@dataclass(frozen=True)
class NoSplitRule:
    """Why a tokenizer gets whole texts.

    Parameters
    ----------
    reason : str
        The component without a rule.
    """

    reason: str


def find_split_rule(tokenizer_json: str) -> SplitRule | NoSplitRule:
    """Return the split rule of a tokenizer.

    Examples
    --------
    >>> from tokenizers import Tokenizer, models, pre_tokenizers
    >>> tokenizer = Tokenizer(models.WordLevel({"a": 0}, unk_token="a"))
    >>> find_split_rule(tokenizer.to_str()).reason
    'no rule for these pre-tokenizers: none'
    >>> tokenizer.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    >>> find_split_rule(tokenizer.to_str()).name
    'white space'
    """
    document = json.loads(tokenizer_json)
    if document["model"].get("dropout"):
        return NoSplitRule("BPE dropout is random")
    parts = _Components(
        normalizers=_flatten(document.get("normalizer"), "normalizers"),
        pre_tokenizers=_flatten(document.get("pre_tokenizer"), "pretokenizers"),
        added=document.get("added_tokens") or [],
        normalizer=document.get("normalizer"),
    )
    try:
        for find in (_find_bert, _find_byte_level, _find_metaspace, _find_white_space):
            if (rule := find(parts)) is not None:
                return rule
    except NoRuleError as error:
        return NoSplitRule(str(error))
    return NoSplitRule(f"no rule for these pre-tokenizers: {_names(parts.pre_tokenizers)}")


@dataclass(frozen=True)
class _Components:
    normalizers: list[dict[str, Any]]
    pre_tokenizers: list[dict[str, Any]]
    added: list[dict[str, Any]]
    normalizer: dict[str, Any] | None

    @property
    def normalizer_types(self) -> set[str]:
        return {part["type"] for part in self.normalizers}

    @property
    def pre_tokenizer_types(self) -> list[str]:
        return [part["type"] for part in self.pre_tokenizers]

    def make_rule(self, name: str, **options: Any) -> SplitRule:
        reason = f"normalizers: {_names(self.normalizers)}; pre-tokenizers: {_names(self.pre_tokenizers)}"
        return SplitRule(
            name,
            reason,
            joins_white="Replace" in self.normalizer_types or self._is_opaque,
            is_opaque=self._is_opaque,
            **options,
        )

    @property
    def _is_opaque(self) -> bool:
        return not self.normalizer_types.isdisjoint({"Nmt", "Precompiled"})

    def take_phrases(self, *, finds_blanks_only: bool) -> tuple[_Components, dict[str, Any]]:
        """Return the components without phrases, and the rule's options for those."""
        phrases, has_single_words, others = split_added_tokens(
            self.added, self.normalizer if self.normalizers else None, finds_blanks_only=finds_blanks_only
        )
        return replace(self, added=others), {"phrases": phrases, "has_single_words": has_single_words}


def _flatten(component: dict[str, Any] | None, children: str) -> list[dict[str, Any]]:
    if component is None:
        return []
    if component["type"] == "Sequence":
        return [leaf for child in component[children] for leaf in _flatten(child, children)]
    return [component]


def _names(parts: list[dict[str, Any]]) -> str:
    return ", ".join(part["type"] for part in parts) or "none"


def _find_bert(parts: _Components) -> SplitRule | None:
    """Match BertPreTokenizer: words between white space, and single punctuation characters."""
    if parts.pre_tokenizer_types != ["BertPreTokenizer"]:
        return None
    # A composing normalizer joins "=" with the mark after it, across the split.
    if not parts.normalizer_types <= {"BertNormalizer"}:
        raise NoRuleError(f"normalizers that BERT lacks: {_names(parts.normalizers)}")
    parts, phrases = parts.take_phrases(finds_blanks_only=False)
    return parts.make_rule(
        "bert",
        separators=_WHITE_SPACE,
        isolated=ASCII_PUNCTUATION,
        isolates_ideographs=any(part["handle_chinese_chars"] for part in parts.normalizers),
        folds_case=any(part["lowercase"] for part in parts.normalizers),
        literals=make_literals(parts.added, is_normalized=bool(parts.normalizers)),
        **phrases,
    )


def _find_byte_level(parts: _Components) -> SplitRule | None:
    """Match ByteLevel with a known pattern: a single space belongs to the next word."""
    *before, last = parts.pre_tokenizers or [{"type": ""}]
    if last["type"] != "ByteLevel":
        return None
    own_pattern = last.get("use_regex", True)
    known_split = (
        len(before) == 1
        and before[0]["type"] == "Split"
        and before[0]["behavior"] == "Isolated"
        and not before[0]["invert"]
        and before[0]["pattern"].get("Regex") in _BYTE_LEVEL_PATTERNS
    )
    is_known = (not before and own_pattern) or (known_split and not own_pattern)
    if not is_known:
        return _find_clip(parts)
    if not parts.normalizer_types <= _CANONICAL:
        raise NoRuleError(f"normalizers before ByteLevel: {_names(parts.normalizers)}")
    # If a lone mark is stripped, the spaces around it become neighbours.
    return _make_single_space(parts, needs_ascii_neighbours="StripAccents" in parts.normalizer_types)


def _find_clip(parts: _Components) -> SplitRule:
    """Match CLIP's pattern, which drops all white space."""
    split = parts.pre_tokenizers[0]
    if (
        len(parts.pre_tokenizers) != 2
        or split["type"] != "Split"
        or split["pattern"].get("Regex") != _CLIP
        or (split["behavior"], split["invert"]) != ("Removed", True)
        or parts.pre_tokenizers[1].get("add_prefix_space", True)
    ):
        raise NoRuleError(f"an unknown pattern: {_names(parts.pre_tokenizers)}")
    for part in parts.normalizers:
        if part["type"] not in _CANONICAL and not _shortens_runs(part, _WHITE_RUNS, " "):
            raise NoRuleError(f"normalizers before CLIP's pattern: {_names(parts.normalizers)}")
    parts, phrases = parts.take_phrases(finds_blanks_only=True)
    refuse_white_space(parts.added, drops_spaces=True)
    return parts.make_rule("white space", separators=_WHITE_SPACE, **phrases)


def _find_metaspace(parts: _Components) -> SplitRule | None:
    """Match Metaspace alone: a single space becomes the mark of the next word."""
    if parts.pre_tokenizer_types != ["Metaspace"]:
        return None
    if not parts.pre_tokenizers[0].get("split", True):
        raise NoRuleError("Metaspace that does not split")
    for part in parts.normalizers:
        known = part["type"] in _CANONICAL | _COMPATIBLE or _shortens_runs(part, _SPACE_RUNS, " ▁")
        # The space at the start of a segment becomes its mark. If Strip removes that space, only a scheme
        # that marks all texts gives the segment its mark.
        keeps_mark = part["type"] == "Strip" and (
            not part["strip_left"] or _prepend_scheme(parts.pre_tokenizers[0]) == "always"
        )
        zeroes_digits = part["type"] == "Replace" and part["pattern"] == _DIGIT and part["content"] == "0"
        if not known and not keeps_mark and not zeroes_digits:
            raise NoRuleError(f"normalizers before Metaspace: {_names(parts.normalizers)}")
    if "Strip" in parts.normalizer_types and parts.added:
        # The text before an added token is stripped like a whole text.
        raise NoRuleError("Strip before Metaspace, with added tokens")
    return _make_single_space(parts, needs_ascii_neighbours=True)


def _find_white_space(parts: _Components) -> SplitRule | None:
    """Match pre-tokenizers that first drop white space, and then handle single words."""
    first, *rest = parts.pre_tokenizers or [{"type": ""}]
    finds_words = (
        first["type"] == "Split"
        and first["pattern"].get("Regex") == WORD_PATTERN
        and (first["behavior"], first["invert"]) == ("Removed", True)
    )
    if first["type"] not in ("WhitespaceSplit", "Whitespace") and not finds_words:
        return None
    for part in rest:
        # "first" marks only the first word of a text, but each segment would be a first word.
        fits = part["type"] == "Metaspace" and _prepend_scheme(part) != "first"
        if not fits and part["type"] not in ("WhitespaceSplit", "Whitespace", "Punctuation", "Digits"):
            return None
    for part in parts.normalizers:
        known = part["type"] in _CANONICAL | _COMPATIBLE | {"BertNormalizer", "Strip"}
        # Only spaces may replace the runs: Metaspace's mark would join words, or follow the last one.
        shortens = _shortens_runs(part, _SPACE_RUNS, " ") or _shortens_runs(part, _WHITE_RUNS, " ")
        if not known and not shortens:
            raise NoRuleError(f"normalizers before white space: {_names(parts.normalizers)}")
    parts, phrases = parts.take_phrases(finds_blanks_only=True)
    refuse_white_space(parts.added, drops_spaces=True)
    return parts.make_rule(
        "white space",
        separators=_WHITE_SPACE,
        **phrases,
        needs_ascii_neighbours=not parts.normalizer_types <= _CANONICAL | {"BertNormalizer"},
    )


def _prepend_scheme(metaspace: dict[str, Any]) -> str:
    old = "always" if metaspace.get("add_prefix_space", True) else "never"
    return str(metaspace.get("prepend_scheme", old))


def _shortens_runs(part: dict[str, Any], pattern: dict[str, str], contents: str) -> bool:
    """Return whether a normalizer only replaces runs of white space with one of these characters."""
    return part["type"] == "Replace" and part["pattern"] == pattern and part["content"] in tuple(contents)


def _make_single_space(parts: _Components, *, needs_ascii_neighbours: bool) -> SplitRule:
    """Make the rule; its literals are added tokens that include the next space. Others never span a split."""
    parts, phrases = parts.take_phrases(finds_blanks_only=True)
    takers = [token for token in parts.added if token["rstrip"]]
    if takers and phrases["phrases"]:
        raise NoRuleError("an added token takes the space after it, which may begin another")
    literals = make_literals(takers, is_normalized=bool(parts.normalizers))
    refuse_white_space(parts.added)
    return parts.make_rule(
        "single space", needs_ascii_neighbours=needs_ascii_neighbours, literals=literals, **phrases
    )
