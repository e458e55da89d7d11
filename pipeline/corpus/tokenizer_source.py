"""The tokenizer for counting: that of a model or a teacher."""

from __future__ import annotations

import hashlib
from dataclasses import dataclass

from pyarrow import ArrowException
from pyarrow import fs as pafs
from tokenizers import Tokenizer

from lakevec.pipeline.errors import LakevecError, ModelError, describe_failure
from lakevec.pipeline.model import hub
from lakevec.pipeline.model.artifact import MANIFEST_NAME, load
from lakevec.pipeline.model.table import parsing_tokenizer
from lakevec.pipeline.redaction import redact


@dataclass(frozen=True)
class CountedTokenizer:
    """A tokenizer and its source.

    Parameters
    ----------
    json : str
        The `tokenizers` serialisation.
    uri : str
        Source of the tokenizer, without credentials.
    tokens : tuple of str
        Tokens by id; an id without a token has an empty string.
    fingerprint : str
        ``sha256:`` and 64 hexadecimal digits over `json`.
    """

    json: str
    uri: str
    tokens: tuple[str, ...]
    fingerprint: str


def find_tokenizer(uri: str) -> CountedTokenizer:
    """Read the tokenizer of a model or a teacher.

    Parameters
    ----------
    uri : str
        A model as for `lakevec.pipeline.model.artifact.load`, or the folder, URI or hub id of a Sentence
        Transformer with a ``tokenizer.json``.

    Raises
    ------
    ModelError
        If `uri` has neither a model nor a tokenizer.
    """
    shown = redact(uri)
    try:
        place = hub.find("model", uri, error=ModelError).place
        file = place / "tokenizer.json"
        is_published = (place / MANIFEST_NAME).exists()
        teacher_json = file.read_bytes().decode() if not is_published and file.exists() else None
    except (OSError, UnicodeDecodeError, ArrowException) as error:
        raise ModelError(f"model {shown!r} can't be read", got=describe_failure(error)) from None
    try:
        content = load(uri).table.tokenizer_json if teacher_json is None else teacher_json
    except LakevecError as error:
        if is_published or (place / "modules.json").type() == pafs.FileType.NotFound:
            raise
        raise ModelError(
            f"model {shown!r} has no tokenizer.json to count by",
            got=str(error),
            remedy="save it with its fast tokenizer, or distil it first",
        ) from None
    return _make(content, shown)


def _make(content: str, shown: str) -> CountedTokenizer:
    with parsing_tokenizer(f"the tokenizer of {shown!r}"):
        tokenizer = Tokenizer.from_str(content)
    last = max(tokenizer.get_vocab(with_added_tokens=True).values(), default=-1)
    tokens = tuple(tokenizer.id_to_token(number) or "" for number in range(last + 1))
    digest = hashlib.sha256(content.encode()).hexdigest()
    return CountedTokenizer(content, shown, tokens, f"sha256:{digest}")
