"""The vocabulary of a table: the teacher's tokens less what is left out, and what the teacher sees of each.

Editing a ``tokenizer.json`` (removing tokens, renumbering, merges) is done by `skeletoken`, which model2vec
uses too, so that both make the same tokenizer.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

from skeletoken import TokenizerModel
from skeletoken.external.transformers import reshape_embeddings

from pipeline.errors import TeacherError


@dataclass(frozen=True, eq=False)
class Vocabulary:
    """The tokens of a table.

    Parameters
    ----------
    tokens : list of str
        Token i is row i of the table.
    sequences : list of list of int
        What the teacher sees for each token: its special tokens around the token's id.
    pad_token_id : int
        The teacher's padding token.
    tokenizer : tokenizers.Tokenizer
        Tokenizer of the table, without post-processor, truncation and padding.
    model : transformers.PreTrainedModel
        The teacher's model, its input embeddings renumbered where tokens were dropped.
    """

    tokens: list[str]
    sequences: list[list[int]]
    pad_token_id: int
    tokenizer: Any
    model: Any


def build_vocabulary(tokenizer: Any, model: Any, *, token_remove_pattern: str | None) -> Vocabulary:
    """Take every token of the teacher, except those that match a pattern.

    Parameters
    ----------
    tokenizer : transformers.PreTrainedTokenizerBase
        The teacher's fast tokenizer.
    model : transformers.PreTrainedModel
        The teacher's model.
    token_remove_pattern : str or None
        Tokens that begin with a match of this regular expression are left out.

    Returns
    -------
    Vocabulary

    Raises
    ------
    TeacherError
        If no token is left.
    """
    seen_by_teacher = TokenizerModel.from_transformers_tokenizer(tokenizer).prune_added_tokens()
    own = seen_by_teacher.deep_copy()
    if own.adds_prefix_space is not None:
        own.adds_prefix_space = True
    own.post_processor = None
    if token_remove_pattern is not None:
        pattern = re.compile(token_remove_pattern)
        removed = [token for token in own.sorted_vocabulary if pattern.match(token)]
        if len(removed) == len(own.sorted_vocabulary):
            raise TeacherError(
                "the vocabulary is empty",
                got=f"token_remove_pattern {token_remove_pattern!r}",
                expected="a pattern that leaves some tokens",
            )
        own = own.remove_tokens_from_vocabulary(removed)
    own = own.prune_added_tokens()
    tokens = list(own.sorted_vocabulary)
    table_tokenizer = own.to_tokenizer()
    # Only now: pruning keeps the padding token only while the tokenizer pads.
    table_tokenizer.no_padding()
    table_tokenizer.no_truncation()
    return Vocabulary(
        tokens=tokens,
        sequences=_teacher_sequences(tokens, seen_by_teacher),
        pad_token_id=seen_by_teacher.pad_token_id or 0,
        tokenizer=table_tokenizer,
        model=reshape_embeddings(model, seen_by_teacher),
    )


def _teacher_sequences(tokens: list[str], teacher: TokenizerModel) -> list[list[int]]:
    """Put the teacher's special tokens around each token."""
    before, after = teacher.bos_ids or [], teacher.eos_ids or []
    ids = teacher.vocabulary
    return [[*before, ids[token], *after] for token in tokens]
