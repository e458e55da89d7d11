"""The tokenizers of the evaluation data."""

from __future__ import annotations

from functools import cache

import pytest

from lakevec.pipeline.errors import ModelError
from lakevec.pipeline.model.formats.bpemb import read_sentencepiece
from lakevec.pipeline.model.formats.foreign_model import read_tokenizer, without_limits
from lakevec.pipeline.storage import locate
from tests.support.paths import SHARED_DATA


@cache
def read_shared(name: str) -> str:
    """Return the tokenizer.json of a tokenizer or a SentencePiece model; skip the test if it isn't there."""
    if not SHARED_DATA.is_dir():
        pytest.skip("the evaluation data folder ../shared/data is not there")
    file = SHARED_DATA / "tokenizers" / name
    if name.endswith(".model"):
        pytest.importorskip("sentencepiece", reason="sentencepiece is not installed")
        return without_limits(lambda: read_sentencepiece(file.read_bytes()), name)
    return read_tokenizer(locate(str(file / "tokenizer.json"), error=ModelError))
