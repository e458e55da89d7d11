"""The vocabulary of a table: its tokenizer, and what the teacher sees of each token.

Editing a ``tokenizer.json`` (removing tokens, renumbering, merges) is done by `skeletoken`, which model2vec
uses too, so that both make the same tokenizer.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

from skeletoken import TokenizerModel
from skeletoken.external.transformers import reshape_embeddings
from skeletoken.models import Unigram

from lakevec.pipeline.distillation.word_list import WordList
from lakevec.pipeline.errors import TeacherError
from lakevec.pipeline.model.word_tokenizer import UNKNOWN, make_word_tokenizer

# Enough for a word to win over its pieces, too little to win over other words.
# WordList to try until the tokenizer makes something of one.
_MOST_PROBES = 1000
_MARGIN = 0.01


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a table.

    Parameters
    ----------
    tokens : list of str
        Token i is row i of the table.
    pieces : list of list of int
        Token ids that the teacher sees in place of each token; empty for an unknown token that it hasn't.
    before, after : list of int
        The teacher's special tokens around them.
    pad_token_id : int
        The teacher's padding token.
    tokenizer : tokenizers.Tokenizer
        Tokenizer of the table, without post-processor, truncation and padding.
    teacher_tokenizer : tokenizers.Tokenizer
        The teacher's own, without post-processor, for a prompt.
    model : transformers.PreTrainedModel
        The teacher's model, its input embeddings renumbered where tokens were dropped.
    report : dict of str to int
        What became of the words that were given.
    """

    tokens: list[str]
    pieces: list[list[int]]
    before: list[int]
    after: list[int]
    pad_token_id: int
    tokenizer: Any
    teacher_tokenizer: Any
    model: Any
    report: dict[str, int] = field(default_factory=dict)


def build_vocabulary(
    tokenizer: Any,
    model: Any,
    *,
    token_remove_pattern: str | None,
    words: WordList | None = None,
    keeps_subwords: bool = True,
    reverses_special_tokens: bool = False,
    keeps_special_tokens: bool = False,
) -> Vocabulary:
    """Take the teacher's tokens, words that are given, or both.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        The teacher's fast tokenizer.
    model : transformers.PreTrainedModel
        The teacher's model.
    token_remove_pattern : str or None
        Tokens of the teacher that begin with a match of this regular expression are left out.
    words : WordList, optional
        WordList to find whole in text; of several pieces to the teacher, or even of several words.
    keeps_subwords : bool, default=True
        Whether the teacher's own tokens are kept.
    reverses_special_tokens : bool, default=False
        Whether the teacher sees its special tokens in the reverse order, as model2vec 0.1 did it.
    keeps_special_tokens : bool, default=False
        Whether tokens that only the teacher itself writes, such as ``[CLS]``, keep their rows, as then.

    Returns
    -------
    Vocabulary

    Raises
    ------
    TeacherError
        If no token is left, or the teacher's tokenizer has ids that its embeddings don't have.
    """
    _check_embeddings(tokenizer, model)
    teacher = TokenizerModel.from_transformers_tokenizer(tokenizer)
    if not keeps_special_tokens:
        # A template may need some of them beside CLS and SEP, such as a language's; then all stay.
        with suppress(ValueError):
            teacher = teacher.prune_added_tokens()
    reader = teacher.deep_copy()
    reader.post_processor = None
    if reader.adds_prefix_space is not None:
        reader.adds_prefix_space = True  # a token stands for a word within a text
    seen = _Seen(reader)
    if keeps_subwords:
        tokens, own, report = _edit_tokenizer(
            reader, seen, token_remove_pattern, words, keeps_special_tokens=keeps_special_tokens
        )
    else:
        tokens, own, report = _make_word_tokenizer(seen, words or WordList(()))
    before, after = _find_surroundings(teacher)
    if reverses_special_tokens:
        before, after = after, before
    return Vocabulary(
        tokens=tokens,
        pieces=[seen.pieces(token) for token in tokens],
        before=before,
        after=after,
        pad_token_id=teacher.pad_token_id or 0,
        tokenizer=own,
        teacher_tokenizer=seen.tokenizer,
        model=reshape_embeddings(model, teacher),
        report=report,
    )


def _find_surroundings(teacher: TokenizerModel) -> tuple[list[int], list[int]]:
    """Return the ids that the teacher's template puts before and behind a text."""
    tokenizer = _without_limits(teacher.to_tokenizer())
    for probe in ("a", "1", "the", *list(teacher.vocabulary)[:_MOST_PROBES]):
        encoding = tokenizer.encode(probe)
        own = [place for place, special in enumerate(encoding.special_tokens_mask) if not special]
        if own:
            return encoding.ids[: own[0]], encoding.ids[own[-1] + 1 :]
    return list(teacher.bos_ids or []), list(teacher.eos_ids or [])


class _Seen:
    """What the teacher sees of a token."""

    def __init__(self, reader: TokenizerModel) -> None:
        self.reader = reader
        self.tokenizer = _without_limits(reader.to_tokenizer())
        self._ids: dict[str, int] = dict(reader.vocabulary)
        self._unknown = reader.unk_token_id
        self._texts: dict[str, str] = {}

    def understands(self, text: str) -> bool:
        """Tell whether the teacher has more for a text than its unknown token."""
        return any(piece != self._unknown for piece in self._encode(text))

    def note(self, token: str, text: str) -> None:
        """Remember how a token that is new is written."""
        self._texts[token] = text

    def text(self, token: str) -> str:
        """Return how a token that is new was written."""
        return self._texts[token]

    def score(self, token: str) -> float:
        """Return what a Unigram tokenizer's pieces of a new token add up to."""
        entries = self.reader.model.vocab.root
        return float(sum(entries[piece][1] for piece in self._encode(self._texts[token])))

    def pieces(self, token: str) -> list[int]:
        if token in self._texts:
            return self._encode(self._texts[token])
        if token in self._ids:
            return [self._ids[token]]
        # Merges on the way to a new word are tokens too, which nobody wrote.
        return self._encode(self.reader.preprocessor.decode(token).decoded)

    def _encode(self, text: str) -> list[int]:
        ids: list[int] = self.tokenizer.encode(text, add_special_tokens=False).ids
        return ids


def _edit_tokenizer(
    reader: TokenizerModel,
    seen: _Seen,
    pattern: str | None,
    words: WordList | None,
    *,
    keeps_special_tokens: bool,
) -> tuple[list[str], Any, dict[str, int]]:
    """Take tokens away from the teacher's tokenizer, and add words to it."""
    own = reader.deep_copy()
    if pattern is not None:
        expression = re.compile(pattern)
        removed = [token for token in own.sorted_vocabulary if expression.match(token)]
        if len(removed) == len(own.sorted_vocabulary):
            raise TeacherError(
                "the vocabulary is empty",
                got=f"token_remove_pattern {pattern!r}",
                expected="a pattern that leaves some tokens",
            )
        own = own.remove_tokens_from_vocabulary(removed)
    single, several, report = _sort_words(own, seen, words, pattern)
    if not keeps_special_tokens:
        own = own.prune_added_tokens()
    if single:
        own = own.add_tokens_to_vocabulary(single, preprocess_tokens=False)
        _outweigh_pieces(own, seen, single)
    if several:
        own = own.add_addedtokens(several, is_special=False, single_word=True, normalized=True)
    tokenizer = _without_limits(own.to_tokenizer())
    if single or several:
        found = [len(tokenizer.encode(seen.text(token), add_special_tokens=False).ids) for token in single]
        report["not found whole"] = sum(count != 1 for count in found)
    return list(own.sorted_vocabulary), tokenizer, report


def _outweigh_pieces(own: TokenizerModel, seen: _Seen, words: list[str]) -> None:
    """Give new words of a Unigram tokenizer a better score than their pieces have together."""
    if not isinstance(own.model, Unigram):
        return
    entries, ids = own.model.vocab.root, own.model.vocab.vocabulary
    for word in words:
        entries[ids[word]] = (word, seen.score(word) + _MARGIN)


def _sort_words(
    own: TokenizerModel, seen: _Seen, words: WordList | None, pattern: str | None
) -> tuple[list[str], list[str], dict[str, int]]:
    """Tell words that become tokens from those that the tokenizer would cut, and drop the others."""
    if words is None:
        return [], [], {}
    report = {
        **words.report,
        "changed by the normalizer": 0,
        "known already": 0,
        "removed by the pattern": 0,
        "not known to the teacher": 0,
    }
    preprocessor = own.preprocessor
    taken = set(own.sorted_vocabulary)
    single: dict[str, None] = {}
    several: dict[str, None] = {}
    for word in words.words:
        text = preprocessor.normalizer.normalize_str(word) if preprocessor.normalizer else word
        text = text.replace("▁", " ").strip()  # the mark that some normalizers write
        parts = preprocessor.preprocess(word, had_initial_subword_prefix=True)
        token = parts[0] if len(parts) == 1 else text
        report["changed by the normalizer"] += text != word
        if not parts or not text:
            report["empty"] += 1
        elif token in taken:
            report["known already"] += 1
        elif token in single or token in several:
            report["given before"] += 1
        elif len(parts) == 1 and pattern is not None and re.match(pattern, token):
            report["removed by the pattern"] += 1
        elif not seen.understands(word):
            report["not known to the teacher"] += 1
        else:
            (single if len(parts) == 1 else several)[token] = None
            seen.note(token, word)
    report |= {"added": len(single), "added, of several words": len(several)}
    return list(single), list(several), report


def _make_word_tokenizer(seen: _Seen, words: WordList) -> tuple[list[str], Any, dict[str, int]]:
    """Make a tokenizer of the given words alone."""
    report = {**words.report, "changed by the normalizer": 0, "not known to the teacher": 0}
    normalizer = seen.reader.preprocessor.normalizer
    lowercase = normalizer is not None and normalizer.normalize_str("A").endswith("a")
    kept: dict[str, None] = {}
    for word in words.words:
        token = word.lower() if lowercase else word
        report["changed by the normalizer"] += token != word
        if token in kept or token == UNKNOWN:
            report["given before"] += 1
        elif not seen.understands(word):
            report["not known to the teacher"] += 1
        else:
            kept[token] = None
            seen.note(token, word)
    if not kept:
        raise TeacherError("the vocabulary is empty", expected="at least one word that the teacher knows")
    report["added"] = len(kept)
    seen.note(UNKNOWN, "")
    return [*kept, UNKNOWN], make_word_tokenizer(list(kept), lowercase=lowercase), report


def _check_embeddings(tokenizer: Any, model: Any) -> None:
    last, rows = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if last >= rows:
        raise TeacherError(
            "the teacher's tokenizer and its embeddings do not belong together",
            got=f"token ids up to {last} and {rows} embeddings",
            expected="an embedding for each token",
        )


def _without_limits(tokenizer: Any) -> Any:
    # Only now: pruning keeps the padding token only while the tokenizer pads.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
