"""A tokenizer of whole words, for tables whose rows are words and not subwords."""

from __future__ import annotations

from collections.abc import Sequence

from tokenizers import AddedToken, Regex, Tokenizer, models, normalizers, pre_tokenizers

UNKNOWN = "[UNK]"

# As the Penn Treebank cuts English: "isn't" is "is" and "n't", "it's" is "it" and "'s", and of punctuation
# only "...", "--", "''" and "``" stay together. No match holds white space.
WORD_PATTERN = r"\w+(?=n't\b)|n't\b|'(?:s|m|d|re|ve|ll)\b|\w+|\.{3}|-{2}|'{2}|`{2}|[^\w\s]"


def make_word_tokenizer(words: Sequence[str], *, lowercase: bool) -> Tokenizer:
    """Make a tokenizer that finds exactly these words.

    Parameters
    ----------
    words : sequence of str of length V
        Without duplicates; none is `UNKNOWN`. Word i gets the id i.
    lowercase : bool
        Whether texts are lowered first; the words should be lower case then.

    Returns
    -------
    tokenizers.Tokenizer
        Of V + 1 tokens; the last is `UNKNOWN`.

    Notes
    -----
    Words that `WORD_PATTERN` would cut ("c++", "u.s.", "new york") are looked for before that, and found only
    where no letter or digit touches them.

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
    cutter = pre_tokenizers.Split(Regex(WORD_PATTERN), "removed", invert=True)
    tokenizer.pre_tokenizer = cutter
    cut = [word for word in words if [piece for piece, _ in cutter.pre_tokenize_str(word)] != [word]]
    tokenizer.add_tokens([AddedToken(word, single_word=True, normalized=lowercase) for word in cut])
    return tokenizer
