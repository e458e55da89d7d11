"""Arrow strings in, float32 (N, D) out: the one place where a text becomes a vector."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict, dataclass
from typing import Literal

import numpy as np
import pyarrow as pa
import pyarrow.compute as pc

from lakevec.pipeline.encoding.kernels.pooling import pool_mean, pool_sum
from lakevec.pipeline.encoding.tokenization import make_tokenizer, slice_texts
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.model.table import StaticTable

# Texts go through in slices, so that what is between tokens and vectors stays in the processor's cache.
_SLICE_ROWS = 4096
_SLICE_BYTES = 1 << 20
_CACHE_LINE = 64

# What is kept of a text: the mean of its tokens' rows, or their sum and how many they are.
Store = Literal["mean", "sum"]
_WARM_UP_SEGMENTS = 20_000


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
    tokens : int32 ndarray of shape (N,), optional
        Where vectors are sums, how many tokens were summed.
    """

    vectors: np.ndarray
    is_null: np.ndarray
    counts: EncodingCounts
    tokens: np.ndarray | None = None

    def to_arrow(self) -> pa.ListArray:
        """Return the vectors as Arrow ``list<float>`` of length N, null where the text was null."""
        return list_array(self.vectors, self.is_null)


class Encoder:
    """Embed texts with one table.

    Parameters
    ----------
    embeddings : float32 or float16 ndarray of shape (V, D)
        The table; kept as it is where it is float32, C-contiguous and aligned, so a mapped file stays mapped.
    tokenizer_json : str
        The table's tokenizer.
    normalize : bool
        Whether vectors are scaled to length 1.
    unknown_token_id : int or None
        Token that is left out of the mean.
    max_tokens : int, optional
        Embed only the first `max_tokens` known tokens; None embeds all.
    store : {"mean", "sum"}, default="mean"
        Whether a text becomes the mean of its tokens' rows, normalised or not, or their plain sum.

    Notes
    -----
    The same text gives the same bits whatever else is in the batch. The only state of an encoder is its token
    cache, which changes how fast a vector comes, never the vector. Don't share an encoder between threads.
    """

    def __init__(
        self,
        embeddings: np.ndarray,
        tokenizer_json: str,
        *,
        normalize: bool,
        unknown_token_id: int | None,
        max_tokens: int | None = None,
        store: Store = "mean",
    ) -> None:
        self._table = _aligned(np.ascontiguousarray(embeddings, dtype=np.float32)).view()
        # As a mapped file is: one type of table means one compilation.
        self._table.flags.writeable = False
        self._tokenizer = make_tokenizer(tokenizer_json, unknown_token_id, max_tokens=max_tokens)
        self._normalize = normalize
        self._store = store

    @classmethod
    def from_table(
        cls, table: StaticTable, *, max_tokens: int | None = None, store: Store = "mean"
    ) -> Encoder:
        """Make the encoder of a table at hand.

        Parameters
        ----------
        table : StaticTable
        max_tokens : int, optional
        store : {"mean", "sum"}, default="mean"

        Returns
        -------
        Encoder
        """
        return cls(
            table.dense_rows(),
            table.tokenizer_json,
            normalize=table.normalize,
            unknown_token_id=table.unknown_token_id,
            max_tokens=max_tokens,
            store=store,
        )

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
        is_null = np.zeros(len(texts), dtype=bool)
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        tokens = np.empty(len(texts), dtype=np.int32) if self._store == "sum" else None
        counts = EncodingCounts()
        for start, part in slices(texts):
            stop = start + len(part)
            is_null[start:stop] = part.is_null().to_numpy(zero_copy_only=False)
            some = None if tokens is None else tokens[start:stop]
            counts += self._encode_slice(part, vectors[start:stop], some)
        return Encoded(vectors, is_null, counts, tokens)

    def _encode_slice(
        self, texts: pa.LargeStringArray, vectors: np.ndarray, summed: np.ndarray | None
    ) -> EncodingCounts:
        tokens = self._tokenizer.tokenize(texts)
        rows = self._table, tokens.ids, tokens.offsets, vectors
        if summed is None:
            zeros = pool_mean(*rows, normalize=self._normalize)
        else:
            zeros = pool_sum(*rows)
            summed[:] = np.diff(tokens.offsets)
        return EncodingCounts(
            rows=len(texts),
            nulls=texts.null_count,
            empties=int(pc.sum(pc.equal(pc.binary_length(texts), 0)).as_py() or 0),
            zero_vectors=zeros - texts.null_count,
            tokens=len(tokens.ids),
            unknown_tokens=tokens.unknown,
            truncated=tokens.truncated,
        )


def warm_up(table: StaticTable) -> None:
    """Compile all that texts of a table may need, or load it from where it was kept.

    Parameters
    ----------
    table : StaticTable
    """
    encoder = Encoder(
        np.zeros((table.rows, 1), np.float32),  # what is compiled depends on the tokenizer alone
        table.tokenizer_json,
        normalize=table.normalize,
        unknown_token_id=table.unknown_token_id,
    )
    numbers = " ".join(map(str, range(_WARM_UP_SEGMENTS)))  # more segments than a cache has room for at first
    encoder.encode(pa.array(["é [UNK]", numbers]))


def _aligned(table: np.ndarray) -> np.ndarray:
    """Return the table at a multiple of 64 bytes, as mapped files are: no vector load meets two cache lines.

    Unaligned rows are pooled a quarter slower, so a table that lies elsewhere is copied once.
    """
    if table.ctypes.data % _CACHE_LINE == 0:
        return table
    room = np.empty(table.nbytes + _CACHE_LINE, dtype=np.uint8)
    start = -room.ctypes.data % _CACHE_LINE
    copy = room[start : start + table.nbytes].view(np.float32).reshape(table.shape)
    copy[:] = table
    return copy


def list_array(vectors: np.ndarray, is_null: np.ndarray) -> pa.ListArray:
    """Lay an Arrow list array over vectors, without a copy.

    Parameters
    ----------
    vectors : ndarray of shape (N, D)
        C-contiguous.
    is_null : bool ndarray of shape (N,)
        Which vectors are null.

    Returns
    -------
    pyarrow.ListArray of length N

    Raises
    ------
    DataError
        If there are more elements than its offsets can count, 2**31.
    """
    rows, width = vectors.shape
    if rows * width > np.iinfo(np.int32).max:
        raise DataError(
            "too many vectors for one Arrow list array",
            got=f"{rows} of width {width}",
            expected=f"at most {np.iinfo(np.int32).max // width}",
            remedy="embed in smaller batches",
        )
    values = pa.array(vectors.reshape(-1))
    # The element is named as Spark names it, so that the types are equal and nothing is cast.
    kind = pa.list_(pa.field("element", values.type, nullable=False))
    offsets = pa.array(np.arange(rows + 1, dtype=np.int32) * np.int32(width))
    mask = pa.array(is_null) if is_null.any() else None
    return pa.ListArray.from_arrays(offsets, values, type=kind, mask=mask)


def slices(texts: pa.Array | pa.ChunkedArray) -> Iterator[tuple[int, pa.LargeStringArray]]:
    """Cut an array into pieces of bounded rows and bytes; a long text is a piece by itself.

    Parameters
    ----------
    texts : pyarrow string, large_string or string_view array

    Yields
    ------
    int
        Position of the piece's first text.
    pyarrow.LargeStringArray
        The piece.

    Raises
    ------
    DataError
        If the array holds no strings.
    """
    start = 0
    segments = texts.chunks if isinstance(texts, pa.ChunkedArray) else [texts]
    for segment in segments:
        if not _holds_strings(segment.type):
            raise DataError("can't embed this column", got=str(segment.type), expected="strings")
        # One type from here on; not every Arrow function takes string_view.
        segment = segment.cast(pa.large_string())
        yield from ((start + first, part) for first, part in slice_texts(segment, _SLICE_ROWS, _SLICE_BYTES))
        start += len(segment)


def _holds_strings(kind: pa.DataType) -> bool:
    return bool(pa.types.is_string(kind) or pa.types.is_large_string(kind) or pa.types.is_string_view(kind))
