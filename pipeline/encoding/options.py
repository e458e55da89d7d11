"""How an encoder embeds a text, and how a text is split into chunks."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from lakevec.pipeline.errors import SettingsError

# Names of the columns beside an embedding column: scales of int8 vectors, and what sums are divided by.
SCALE_SUFFIX = "_scale"
TOKENS_SUFFIX = "_tokens"
WEIGHTS_SUFFIX = "_weights"
SUFFIXES = (SCALE_SUFFIX, TOKENS_SUFFIX, WEIGHTS_SUFFIX)


@dataclass(frozen=True)
class EncodeOptions:
    """How an encoder embeds a text.

    Parameters
    ----------
    max_tokens : int, optional
        Embed only the first `max_tokens` known tokens of a text. Default: all.
    store : {"mean", "sum"}, default="mean"
        Return the mean of the tokens' rows, or their sum.
    dimensions : int, optional
        Use only the first `dimensions` columns of the table, as `StaticTable.cut` does. Default: all.

    Raises
    ------
    SettingsError
        If `max_tokens` or `dimensions` is below 1.

    Examples
    --------
    >>> EncodeOptions(max_tokens=512)
    EncodeOptions(max_tokens=512, store='mean', dimensions=None)
    """

    max_tokens: int | None = None
    store: Literal["mean", "sum"] = "mean"
    dimensions: int | None = None

    def __post_init__(self) -> None:
        for name in ("max_tokens", "dimensions"):
            value = getattr(self, name)
            if value is not None and value < 1:
                raise SettingsError(name, got=str(value), expected="1 or more")


@dataclass(frozen=True)
class ChunkOptions:
    """How long the chunks of a text are.

    Parameters
    ----------
    tokens : int
        Most known tokens of a chunk.
    overlap : int, default=0
        Most tokens at the end of a chunk that the next one repeats: at most half of `tokens`.

    Raises
    ------
    SettingsError
        If `tokens` is below 1, or `overlap` is out of range.

    Examples
    --------
    >>> ChunkOptions(256, overlap=32)
    ChunkOptions(tokens=256, overlap=32)
    """

    tokens: int
    overlap: int = 0

    def __post_init__(self) -> None:
        if self.tokens < 1:
            raise SettingsError("chunk tokens", got=str(self.tokens), expected="1 or more")
        if not 0 <= self.overlap <= self.tokens // 2:
            raise SettingsError(
                "chunk overlap",
                got=str(self.overlap),
                expected=f"0 to {self.tokens // 2}, half of the {self.tokens} tokens of a chunk",
            )
