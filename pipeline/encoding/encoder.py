"""Arrow strings in, float32 (N, D) out: the one place where a text becomes a vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from pipeline.encoding.pooling import pool_mean
from pipeline.encoding.tokenization import TextTokenizer
from pipeline.errors import DataError

# The tokenizer's own output takes some hundred bytes per token, so texts go through in slices.
_SLICE_ROWS = 1024
_SLICE_BYTES = 1 << 20


@dataclass(frozen=True)
class EncodingCounts:
    """What was seen while encoding; counts of two batches add up.

    Parameters
    ----------
    rows : int
        Texts, nulls included.
    nulls : int
        Null texts; their vector is null.
    empties : int
        Texts of zero length.
    zero_vectors : int
        Texts that are not null and got the zero vector, the empty ones among them.
    tokens : int
        Known tokens that were pooled.
    unknown_tokens : int
        Tokens that the tokenizer does not know; left out of the mean.
    truncated : int
        Texts cut at `max_tokens`.
    """

    rows: int = 0
    nulls: int = 0
    empties: int = 0
    zero_vectors: int = 0
    tokens: int = 0
    unknown_tokens: int = 0
    truncated: int = 0

    def __add__(self, other: EncodingCounts) -> EncodingCounts:
        """Return the counts of both."""
        mine, theirs = asdict(self), asdict(other)
        return EncodingCounts(**{name: mine[name] + theirs[name] for name in mine})


@dataclass(frozen=True, eq=False)
class Encoded:
    """The vectors of one batch.

    Parameters
    ----------
    vectors : float32 ndarray of shape (N, D)
        Zeros for texts without a known token and for nulls.
    is_null : bool ndarray of shape (N,)
        Which texts were null.
    counts : EncodingCounts
        What was seen.
    """

    vectors: np.ndarray
    is_null: np.ndarray
    counts: EncodingCounts

    def to_arrow(self) -> pa.ListArray:
        """Return the vectors as Arrow ``list<float>`` of length N, null where the text was null."""
        rows, width = self.vectors.shape
        values = pa.array(self.vectors.reshape(-1))
        # The element is named as Spark names it, so that the types are equal and nothing is cast.
        kind = pa.list_(pa.field("element", pa.float32(), nullable=False))
        offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width))
        mask = pa.array(self.is_null) if self.is_null.any() else None
        return pa.ListArray.from_arrays(offsets, values, type=kind, mask=mask)


class Encoder:
    """Embed texts with one table.

    Parameters
    ----------
    embeddings : float32 or float16 ndarray of shape (V, D)
        The table; kept as it is where it is float32 and C-contiguous, so a mapped file stays mapped.
    tokenizer_json : str
        The table's tokenizer.
    normalize : bool
        Whether vectors are scaled to length 1.
    unknown_token_id : int or None
        Token that is left out of the mean.
    max_tokens : int, optional
        Embed only the first `max_tokens` known tokens; None embeds all.

    Notes
    -----
    The same text gives the same bits whatever else is in the batch. An encoder holds no state that changes.
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        tokenizer_json: str,
        *,
        normalize: bool,
        unknown_token_id: int | None,
        max_tokens: int | None = None,
    ) -> None:
        self._table = np.ascontiguousarray(embeddings, dtype=np.float32)
        self._tokenizer = TextTokenizer(tokenizer_json, unknown_token_id, max_tokens)
        self._normalize = normalize

    @property
    def dimensions(self) -> int:
        """Output width, D."""
        return int(self._table.shape[1])

    def encode(self, texts: pa.Array | pa.ChunkedArray) -> Encoded:
        """Embed every text of an Arrow array.

        Parameters
        ----------
        texts : pyarrow string, large_string or string_view array of length N

        Returns
        -------
        Encoded

        Raises
        ------
        DataError
            If a text is not valid UTF-8, or the array holds no strings.
        """
        is_null = np.asarray(pc.is_null(texts).to_numpy(zero_copy_only=False), dtype=bool)
        vectors = np.zeros((len(texts), self.dimensions), dtype=np.float32)
        counts = EncodingCounts(rows=len(texts), nulls=int(is_null.sum()))
        for start, part in _slices(texts):
            present = ~is_null[start : start + len(part)]
            part_vectors, part_counts = self._encode_strings(_to_strings(part))
            vectors[start : start + len(part)][present] = part_vectors
            counts += part_counts
        return Encoded(vectors, is_null, counts)

    def _encode_strings(self, texts: list[str]) -> tuple[np.ndarray, EncodingCounts]:
        """Embed texts that are all there."""
        tokens = self._tokenizer.tokenize(texts)
        vectors = pool_mean(self._table, tokens.ids, tokens.offsets, normalize=self._normalize)
        return vectors, EncodingCounts(
            empties=sum(not text for text in texts),
            zero_vectors=int(np.count_nonzero(~vectors.any(axis=1))),
            tokens=len(tokens.ids),
            unknown_tokens=tokens.unknown,
            truncated=tokens.truncated,
        )


def _slices(texts: pa.Array | pa.ChunkedArray) -> Iterator[tuple[int, pa.Array]]:
    """Cut an array into pieces of bounded rows and bytes; a long text is a piece by itself."""
    start = 0
    chunks = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    for chunk in chunks:
        if not _holds_strings(chunk.type):
            raise DataError("can't embed this column", got=str(chunk.type), expected="strings")
        # One type from here on; not every Arrow function takes string_view.
        chunk = chunk.cast(pa.large_string())
        lengths = pc.fill_null(pc.binary_length(chunk), 0).to_numpy(zero_copy_only=False)
        ends = np.cumsum(lengths)
        first = 0
        while first < len(chunk):
            used = ends[first - 1] if first else 0
            last = int(np.searchsorted(ends, used + _SLICE_BYTES, side="right"))
            last = min(max(last, first + 1), first + _SLICE_ROWS, len(chunk))
            yield start + first, chunk.slice(first, last - first)
            first = last
        start += len(chunk)


def _holds_strings(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))


def _to_strings(texts: pa.Array) -> list[str]:
    """Return the texts that are not null."""
    try:
        strings: list[str] = texts.drop_null().to_pylist()
    except UnicodeDecodeError:
        # The original error quotes the text's bytes, so it is not chained.
        raise DataError(
            "a text is not valid UTF-8",
            expected="valid UTF-8 in every row",
            remedy="clean the column first, for example with Spark's make_valid_utf8(column)",
        ) from None
    return strings
