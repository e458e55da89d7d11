"""Embed Arrow strings: one float32 vector of D elements for each of N texts."""

from __future__ import annotations

from dataclasses import dataclass
from functools import lru_cache
from operator import add
from typing import Any

import numpy as np
import pyarrow as pa

from lakevec.pipeline.arrow_arrays import from_numpy, null_mask, validity
from lakevec.pipeline.encoding.bigram_table import BigramTable
from lakevec.pipeline.encoding.kernels.alignment import align
from lakevec.pipeline.encoding.kernels.compilation import widens_halves
from lakevec.pipeline.encoding.kernels.pooling import Terms, pool
from lakevec.pipeline.encoding.kernels.position_weights import weigh_positions
from lakevec.pipeline.encoding.options import EncodeOptions
from lakevec.pipeline.encoding.token_cache import raw_buffers
from lakevec.pipeline.encoding.tokenization import TokenIds, make_tokenizer, slices
from lakevec.pipeline.errors import DataError
from lakevec.pipeline.model.bigrams import Bigrams, quantize_bigrams
from lakevec.pipeline.model.table import StaticTable, check_dimensions

_WARM_UP_SEGMENTS = 20_000


@dataclass(frozen=True)
class EncodingCounts:
    """Counts of a batch; counts of two batches add up.

    Parameters
    ----------
    rows : int
        Number of texts, including nulls.
    nulls : int
        Null texts; their vector is null.
    empties : int
        Texts of zero length.
    zero_vectors : int
        Texts with the zero vector, including empty texts but not nulls.
    tokens : int
        Tokens that were pooled.
    unknown_tokens : int
        Unknown tokens, which are not pooled.
    truncated : int
        Texts truncated at `max_tokens`.
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
        return EncodingCounts(*map(add, vars(self).values(), vars(other).values()))


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
    tokens : int32 ndarray of shape (N,), optional
        If vectors are sums, the number of tokens in each sum.
    weights : float64 ndarray of shape (N,), optional
        In place of `tokens` if the model has position weights: the sum of the tokens' weights.

    Examples
    --------
    >>> rows = np.array([[1, 0], [0, 0]], dtype=np.float32)
    >>> Encoded(rows, np.array([False, True]), EncodingCounts(rows=2, nulls=1)).to_arrow().to_pylist()
    [[1.0, 0.0], None]
    """

    vectors: np.ndarray
    is_null: np.ndarray
    counts: EncodingCounts
    tokens: np.ndarray | None = None
    weights: np.ndarray | None = None

    def to_arrow(self) -> pa.ListArray:
        """Return the vectors as Arrow ``list<float>`` of length N, null where the text was null."""
        return list_array(self.vectors, self.is_null)


@dataclass(frozen=True, eq=False)
class TableRows:
    """Rows of a table that was checked before, such as a mapped file; replaces `StaticTable` in an encoder.

    Parameters
    ----------
    rows : float32 or float16 ndarray of shape (V, D)
    tokenizer_json : str
    normalize : bool
    unknown_token_id : int or None
    position_scale : float, optional
    bigrams : Bigrams, optional
        In any order. Default: there are none.
    """

    rows: np.ndarray
    tokenizer_json: str
    normalize: bool
    unknown_token_id: int | None
    position_scale: float | None = None
    bigrams: Bigrams | None = None

    def token_rows(self) -> np.ndarray:
        """Return the rows."""
        return self.rows


class Encoder:
    """Embed Arrow strings with one table.

    Parameters
    ----------
    table : StaticTable
        Its rows are not copied if they are C-contiguous and aligned, so a mapped file stays mapped. float16
        rows stay float16 in memory, and become float32 only where the processor can't convert them.
    options : EncodeOptions, optional
        With fewer `dimensions` than the table has columns, the encoder copies these columns.

    Raises
    ------
    SettingsError
        If the table has fewer columns than `dimensions`.

    Notes
    -----
    The same text gives the same bits, whatever the other texts are. The only state of an encoder is its token
    cache, which changes the speed, never a vector.

    Threads may share an encoder. They gain no speed, since the kernels hold Python's global lock: use
    processes for more cores.

    A pickled encoder holds the whole table, but no token cache, and gives the same bits. Where many processes
    need the table, let `lakevec.make_embed_udf` or `lakevec.beam.EmbedText` share one copy per machine.

    Examples
    --------
    >>> import numpy as np
    >>> from lakevec.pipeline.model.word_tokenizer import make_word_tokenizer
    >>> words = make_word_tokenizer(["north", "east"], lowercase=True).to_str()
    >>> table = StaticTable(np.eye(3, 2, dtype=np.float32), words, normalize=False)
    >>> Encoder(table).encode(pa.array(["North east", None])).to_arrow().to_pylist()
    [[0.5, 0.5], None]
    """

    def __init__(self, table: StaticTable | TableRows, options: EncodeOptions | None = None) -> None:
        options = options or EncodeOptions()
        rows = table.token_rows()
        width = check_dimensions(options.dimensions, rows.shape[1])
        rows = rows[:, :width]
        kind = np.float16 if rows.dtype == np.float16 and widens_halves() else np.float32
        self._table = align(rows.astype(kind, copy=False)).view()
        # A mapped file is read-only, too, and Numba compiles once for each type.
        self._table.flags.writeable = False
        self.options = options
        self.tokenizer = make_tokenizer(
            table.tokenizer_json, table.unknown_token_id, max_tokens=options.max_tokens
        )
        self._tokenizer_json = table.tokenizer_json
        self._unknown_token_id = table.unknown_token_id
        self._normalize = table.normalize
        self._position_scale = table.position_scale
        self._bigrams = None
        if table.bigrams is not None:
            self._bigrams = BigramTable(table.bigrams.shorten(width), len(rows))

    def __reduce__(self) -> tuple[Any, ...]:
        """Pickle and copy as a new encoder of the same rows."""
        flags = self._normalize, self._unknown_token_id, self._position_scale
        bigrams = None if self._bigrams is None else self._bigrams.bigrams
        rows = TableRows(self._table, self._tokenizer_json, *flags, bigrams)
        return Encoder, (rows, self.options)

    @property
    def dimensions(self) -> int:
        """Output width, D."""
        return int(self._table.shape[1])

    def encode(self, texts: pa.Array | pa.ChunkedArray) -> Encoded:
        """Embed every text of an Arrow array: string, large_string or string_view.

        Raises
        ------
        DataError
            If a text is not valid UTF-8, or the array holds no strings.
        """
        is_null = np.zeros(len(texts), dtype=bool)
        vectors = np.empty((len(texts), self.dimensions), dtype=np.float32)
        divisors = np.empty(len(texts)) if self.options.store == "sum" else None
        counts = EncodingCounts()
        for start, part in slices(texts):
            stop = start + len(part)
            is_null[start:stop] = null_mask(part)
            some = None if divisors is None else divisors[start:stop]
            counts += self._encode_slice(part, is_null[start:stop], vectors[start:stop], some)
        if divisors is None:
            return Encoded(vectors, is_null, counts)
        if self._position_scale is None:
            return Encoded(vectors, is_null, counts, tokens=divisors.astype(np.int32))
        return Encoded(vectors, is_null, counts, weights=divisors)

    def _encode_slice(
        self,
        texts: pa.LargeStringArray,
        is_null: np.ndarray,
        vectors: np.ndarray,
        divisors: np.ndarray | None,
    ) -> EncodingCounts:
        tokens = self.tokenizer.tokenize(texts)
        terms = self._weigh(tokens)
        is_sum = divisors is not None
        normalize = self._normalize and not is_sum
        pairs = None
        if self._bigrams is not None:
            terms, pairs = self._bigrams.split(terms)
        zeros = pool(self._table, terms, vectors, normalize=normalize, is_sum=is_sum, pairs=pairs)
        if divisors is not None:
            divisors[:] = np.diff(tokens.offsets) if terms.divisors is None else terms.divisors
        _, offsets = raw_buffers(texts)
        return EncodingCounts(
            rows=len(texts),
            nulls=texts.null_count,
            empties=int(np.count_nonzero((np.diff(offsets) == 0) & ~is_null)),
            zero_vectors=zeros - texts.null_count,
            tokens=len(tokens.ids),
            unknown_tokens=tokens.unknown,
            truncated=tokens.truncated,
        )

    def _weigh(self, tokens: TokenIds) -> Terms:
        """Return the tokens with their weights."""
        if self._position_scale is None:
            return Terms(tokens.ids, tokens.offsets)
        return Terms(tokens.ids, tokens.offsets, *weigh_positions(tokens.offsets, self._position_scale))


def warm_up(table: StaticTable) -> None:
    """Compile all kernels that a table's texts may need, or load them from disk, once in a process."""
    flags = table.normalize, table.unknown_token_id, table.position_scale, table.bigrams is not None
    _warm_up(table.tokenizer_json, table.row_type, table.rows, flags)


@lru_cache(maxsize=4)
def _warm_up(
    tokenizer_json: str, kind: np.dtype[Any], rows: int, flags: tuple[bool, int | None, float | None, bool]
) -> None:
    # The kernels don't depend on the width, so one column is enough.
    normalize, unknown, scale, has_bigrams = flags
    bigrams = quantize_bigrams(np.zeros((1, 2), np.int32), np.ones((1, 1))) if has_bigrams else None
    narrow = TableRows(np.zeros((rows, 1), kind), tokenizer_json, normalize, unknown, scale, bigrams)
    Encoder(narrow).encode(warm_up_texts())


def warm_up_texts() -> pa.Array:
    """Return texts that need all kernels; they have more segments than the initial capacity of a cache."""
    return pa.array(["é [UNK]", " ".join(map(str, range(_WARM_UP_SEGMENTS)))])


def list_array(vectors: np.ndarray, is_null: np.ndarray) -> pa.ListArray:
    """Wrap C-contiguous vectors of shape (N, D) in an Arrow list array, without a copy.

    Raises
    ------
    DataError
        If there are more than 2**31 - 1 elements, the limit of its offsets.
    """
    rows, width = vectors.shape
    if rows * width > np.iinfo(np.int32).max:
        raise DataError(
            "too many vectors for one Arrow list array",
            got=f"{rows} of width {width}",
            expected=f"at most {np.iinfo(np.int32).max // width}",
            remedy="embed in smaller batches",
        )
    values = from_numpy(vectors.reshape(-1))
    # Name the element as Spark does, so that Spark need not cast.
    kind = pa.list_(pa.field("element", values.type, nullable=False))
    offsets = pa.py_buffer(np.arange(rows + 1, dtype=np.int32) * np.int32(width))
    return pa.Array.from_buffers(kind, rows, [validity(is_null), offsets], children=[values])
