"""A tokenizer of whole words, for tables whose rows are words and not subwords."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

UNKNOWN = "[UNK]"

# The Penn Treebank's English words: "isn't" is "is" and "n't", "it's" is "it" and "'s". Of punctuation, only
# "...", "--", "''" and "``" stay together. No match holds white space.
WORD_PATTERN = r"\w+(?=n't\b)|n't\b|'(?:s|m|d|re|ve|ll)\b|\w+|\.{3}|-{2}|'{2}|`{2}|[^\w\s]"


def make_word_tokenizer(words: Sequence[str], *, lowercase: bool) -> Tokenizer:
    """Make a tokenizer that finds exactly these words.

    Parameters
    ----------
    words : sequence of str of length V
        Distinct, and none is `UNKNOWN`. Word i gets the id i, and `UNKNOWN` the id V.
    lowercase : bool
        Lower texts first; the words should be lower case then.

    Notes
    -----
    Words that `WORD_PATTERN` would split ("c++", "u.s.", "new york") are matched first, and only if no letter
    or digit touches them.

    Examples
    --------
    >>> tokenizer = make_word_tokenizer(["is", "n't", "new york"], lowercase=True)
    >>> tokenizer.encode("Isn't New York?").tokens
    ['is', "n't", 'new york', '[UNK]']
    """
    vocabulary = {word: number for number, word in enumerate(words)}
    vocabulary[UNKNOWN] = len(words)
    tokenizer = Tokenizer(models.WordLevel(vocabulary, unk_token=UNKNOWN))
    if lowercase:
        tokenizer.normalizer = normalizers.Lowercase()
    splitter = pre_tokenizers.Split(Regex(WORD_PATTERN), "removed", invert=True)
    tokenizer.pre_tokenizer = splitter
    split = [word for word in words if [part for part, _ in splitter.pre_tokenize_str(word)] != [word]]
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=lowercase) for word in split])
    return tokenizer
