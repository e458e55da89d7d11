"""How an encoder embeds a text."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

# Names of the columns beside an embedding column: scales of int8 vectors, and token counts of sums.
SCALE_SUFFIX = "_scale"
TOKENS_SUFFIX = "_tokens"


@dataclass(frozen=True)
class EncodeOptions:
    """How an encoder embeds a text.

    Parameters
    ----------
    max_tokens : int, optional
        Embed only the first `max_tokens` known tokens of a text. Default: all.
    store : {"mean", "sum"}, default="mean"
        Return the mean of the tokens' rows, or their sum.

    Examples
    --------
    >>> EncodeOptions(max_tokens=512)
    EncodeOptions(max_tokens=512, store='mean')
    """

    max_tokens: int | None = None
    store: Literal["mean", "sum"] = "mean"
