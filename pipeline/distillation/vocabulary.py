"""The vocabulary of a table: its tokenizer, and the teacher's input for each of its tokens.

`skeletoken` edits ``tokenizer.json``: it removes tokens, renumbers them and adds merges. model2vec uses it
too, so both make the same tokenizer.
"""

from __future__ import annotations

import re
from contextlib import suppress
from dataclasses import dataclass
from typing import Any

from skeletoken import TokenizerModel
from skeletoken.external.transformers import reshape_embeddings
from skeletoken.models import Unigram

from lakevec.pipeline.distillation.options import DistillOptions
from lakevec.pipeline.distillation.word_list import WordList
from lakevec.pipeline.errors import TeacherError
from lakevec.pipeline.model.table import find_unknown_token_id
from lakevec.pipeline.model.word_tokenizer import UNKNOWN, make_word_tokenizer

# Maximum number of texts to try until the tokenizer returns a token.
_MOST_PROBES = 1000
# Large enough for a word to outscore its pieces, too small to outscore other words.
_MARGIN = 0.01


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a table.

    Parameters
    ----------
    tokens : list of str
        Token i is row i of the table.
    pieces : list of list of int
        The teacher's token ids for each token; empty for an unknown token that the teacher lacks.
    before, after : list of int
        Ids of the teacher's special tokens before and after a text.
    pad_token_id : int
        The teacher's padding token.
    tokenizer_json : str
        Tokenizer of the table, without post-processor, truncation and padding.
    unknown_token_id : int or None
    teacher_tokenizer : tokenizers.Tokenizer
        The teacher's tokenizer without post-processor, for a prompt.
    model : transformers.PreTrainedModel
        The teacher's model; its input embeddings are renumbered if tokens were removed.
    report : dict of str to int
        Number of words that were given, added, and rejected for each reason.
    """

    tokens: list[str]
    pieces: list[list[int]]
    before: list[int]
    after: list[int]
    pad_token_id: int
    tokenizer_json: str
    unknown_token_id: int | None
    teacher_tokenizer: Any
    model: Any
    report: dict[str, int]


def build_vocabulary(tokenizer: Any, model: Any, options: DistillOptions) -> Vocabulary:
    """Take the teacher's tokens, the words of the options, or both.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        The teacher's fast tokenizer.
    model : transformers.PreTrainedModel

    Raises
    ------
    TeacherError
        If the vocabulary is empty, or the tokenizer has ids without an embedding.
    """
    _check_embeddings(tokenizer, model)
    teacher = TokenizerModel.from_transformers_tokenizer(tokenizer)
    if not options.keep_special_tokens:
        # skeletoken refuses if the template needs others than CLS and SEP, such as a language token.
        with suppress(ValueError):
            teacher = teacher.prune_added_tokens()
    inputs = _TeacherInputs(teacher)
    if options.mode == "word":
        table_tokenizer, report = _make_word_tokenizer(inputs, options.words or WordList(()))
    else:
        table_tokenizer, report = _edit_tokenizer(inputs, options)
    ids = table_tokenizer.get_vocab()
    tokens = sorted(ids, key=ids.__getitem__)
    before, after = _find_template(teacher)
    if options.special_tokens == "reversed":
        before, after = after, before
    return Vocabulary(
        tokens=tokens,
        pieces=[inputs.pieces(token) for token in tokens],
        before=before,
        after=after,
        pad_token_id=teacher.pad_token_id or 0,
        tokenizer_json=table_tokenizer.to_str(),
        unknown_token_id=find_unknown_token_id(table_tokenizer),
        teacher_tokenizer=inputs.tokenizer,
        model=reshape_embeddings(model, teacher),
        report=report,
    )


def _check_embeddings(tokenizer: Any, model: Any) -> None:
    last, rows = max(tokenizer.get_vocab().values()), model.get_input_embeddings().num_embeddings
    if last >= rows:
        raise TeacherError(
            "the teacher's tokenizer and its embeddings don't match",
            got=f"token ids up to {last} and {rows} embeddings",
            expected="an embedding for each token",
        )


def _find_template(teacher: TokenizerModel) -> tuple[list[int], list[int]]:
    """Return the ids of the special tokens before and after a text."""
    tokenizer = _without_limits(teacher)
    for probe in ("a", "1", "the", *list(teacher.vocabulary)[:_MOST_PROBES]):
        encoding = tokenizer.encode(probe)
        inner = [position for position, special in enumerate(encoding.special_tokens_mask) if not special]
        if inner:
            return encoding.ids[: inner[0]], encoding.ids[inner[-1] + 1 :]
    return list(teacher.bos_ids or []), list(teacher.eos_ids or [])


class _TeacherInputs:
    """The teacher's token ids for tokens of the table, including new tokens."""

    def __init__(self, teacher: TokenizerModel) -> None:
        self.reader = teacher.deep_copy()
        self.reader.post_processor = None
        if self.reader.adds_prefix_space is not None:
            self.reader.adds_prefix_space = True  # so that a token is read like a word inside a text
        self.tokenizer = _without_limits(self.reader)
        self.spellings: dict[str, str] = {}
        self._ids: dict[str, int] = dict(self.reader.vocabulary)

    def knows(self, text: str) -> bool:
        """Return whether the teacher's tokenizer returns more than unknown tokens."""
        return any(piece != self.reader.unk_token_id for piece in _encode(self.tokenizer, text))

    def pieces(self, token: str) -> list[int]:
        if token in self.spellings:
            return _encode(self.tokenizer, self.spellings[token])
        if token in self._ids:
            return [self._ids[token]]
        # An intermediate merge of a new word is a token, too.
        return _encode(self.tokenizer, self.reader.preprocessor.decode(token).decoded)


def _edit_tokenizer(inputs: _TeacherInputs, options: DistillOptions) -> tuple[Any, dict[str, int]]:
    """Remove tokens from the teacher's tokenizer and add words to it."""
    edited, pattern = inputs.reader.deep_copy(), options.token_remove_pattern
    if pattern is not None:
        expression = re.compile(pattern)
        removed = [token for token in edited.sorted_vocabulary if expression.match(token)]
        if len(removed) == len(edited.sorted_vocabulary):
            raise TeacherError(
                "the vocabulary is empty",
                got=f"token_remove_pattern {pattern!r}",
                expected="a pattern that leaves some tokens",
            )
        edited = edited.remove_tokens_from_vocabulary(removed)
    single, multiple, report = _sort_words(edited, inputs, options)
    if not options.keep_special_tokens:
        edited = edited.prune_added_tokens()
    if single:
        edited = edited.add_tokens_to_vocabulary(single, preprocess_tokens=False)
    if isinstance(edited.model, Unigram):
        _outweigh_pieces(edited, inputs, single)
    if multiple:
        edited = edited.add_addedtokens(multiple, is_special=False, single_word=True, normalized=True)
    tokenizer = _without_limits(edited)
    if single or multiple:
        whole = (len(_encode(tokenizer, inputs.spellings[token])) == 1 for token in single)
        report["not found whole"] = len(single) - sum(whole)
    return tokenizer, report


def _outweigh_pieces(edited: TokenizerModel, inputs: _TeacherInputs, words: list[str]) -> None:
    """Score new words of a Unigram tokenizer above the sum of their pieces' scores."""
    vocab, known = edited.model.vocab, inputs.reader.model.vocab.root
    ids = vocab.vocabulary
    for word in words:
        score = float(sum(known[piece][1] for piece in inputs.pieces(word)))
        vocab.root[ids[word]] = (word, score + _MARGIN)


def _sort_words(
    edited: TokenizerModel, inputs: _TeacherInputs, options: DistillOptions
) -> tuple[list[str], list[str], dict[str, int]]:
    """Return words that the pre-tokenizer keeps whole, words that it splits, and a report of the others."""
    if options.words is None:
        return [], [], {}
    reasons = ("changed by the normalizer", "known already", "removed by the pattern")
    report = {**options.words.report, **dict.fromkeys((*reasons, "not known to the teacher"), 0)}
    preprocessor, pattern = edited.preprocessor, options.token_remove_pattern
    taken = set(edited.sorted_vocabulary)
    is_single: dict[str, bool] = {}
    for word in options.words.words:
        text = preprocessor.normalizer.normalize_str(word) if preprocessor.normalizer else word
        text = text.replace("▁", " ").strip()  # some normalizers write a space as ▁
        parts = preprocessor.preprocess(word, had_initial_subword_prefix=True)
        token = parts[0] if len(parts) == 1 else text
        report["changed by the normalizer"] += text != word
        if not parts or not text:
            report["empty"] += 1
        elif token in taken:
            report["known already"] += 1
        elif token in is_single:
            report["given before"] += 1
        elif len(parts) == 1 and pattern is not None and re.match(pattern, token):
            report["removed by the pattern"] += 1
        elif not inputs.knows(word):
            report["not known to the teacher"] += 1
        else:
            is_single[token] = len(parts) == 1
            inputs.spellings[token] = word
    single = [token for token, is_one in is_single.items() if is_one]
    multiple = [token for token, is_one in is_single.items() if not is_one]
    report |= {"added": len(single), "added, of several words": len(multiple)}
    return single, multiple, report


def _make_word_tokenizer(inputs: _TeacherInputs, words: WordList) -> tuple[Any, dict[str, int]]:
    """Make a tokenizer with only the given words."""
    report = {**words.report, "changed by the normalizer": 0, "not known to the teacher": 0}
    normalizer = inputs.reader.preprocessor.normalizer
    lowercase = normalizer is not None and normalizer.normalize_str("A").endswith("a")
    kept: dict[str, None] = {}
    for word in words.words:
        token = word.lower() if lowercase else word
        report["changed by the normalizer"] += token != word
        if token in kept or token == UNKNOWN:
            report["given before"] += 1
        elif not inputs.knows(word):
            report["not known to the teacher"] += 1
        else:
            kept[token] = None
            inputs.spellings[token] = word
    if not kept:
        raise TeacherError("the vocabulary is empty", expected="at least one word that the teacher knows")
    report["added"] = len(kept)
    inputs.spellings[UNKNOWN] = ""
    return make_word_tokenizer(list(kept), lowercase=lowercase), report


def _encode(tokenizer: Any, text: str) -> list[int]:
    """Return the token ids of a text without special tokens."""
    return list(tokenizer.encode(text, add_special_tokens=False).ids)


def _without_limits(model: TokenizerModel) -> Any:
    tokenizer = model.to_tokenizer()
    # Not earlier: pruning keeps the padding token only while padding is enabled.
    tokenizer.no_padding()
    tokenizer.no_truncation()
    return tokenizer
